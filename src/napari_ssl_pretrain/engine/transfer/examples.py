"""Labelled images in memory, and batches of patches drawn from them.

What is drawn is a function of (seed, step, index) alone, so that every arm sees the same data in
the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ssl_pretrain.data.intensity import finite, measure
from napari_ssl_pretrain.data.labels import read_pair
from napari_ssl_pretrain.data.padding import pad_to
from napari_ssl_pretrain.engine.augment import flip_and_turn
from napari_ssl_pretrain.engine.random import TorchRandom, fold
from napari_ssl_pretrain.engine.transfer.vary import vary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ssl_pretrain.data.intensity import Normalization, Statistics
    from napari_ssl_pretrain.data.labels import LabelledImage, LabelScheme

FOREGROUND_SHARE = 3
"""Of so many patches one holds foreground for sure, as in nnU-Net (arXiv:1904.08128)."""

_PURPOSE = 101
"""Keeps the random numbers of fine-tuning apart from those of pretraining."""


@dataclass(frozen=True)
class Example:
    """A labelled frame.

    Attributes
    ----------
    name
        Name of its image.
    image
        Normalised, float32 ``C *spatial``.
    classes
        Class of each pixel, uint8 ``*spatial``.
    """

    name: str
    image: np.ndarray
    classes: np.ndarray

    def part(self, box: tuple[slice, ...]) -> Example:
        """Return a box of it; nothing is copied."""
        return Example(self.name, self.image[(slice(None), *box)], self.classes[box])


def load_examples(
    pair: LabelledImage,
    scheme: LabelScheme,
    normalization: Normalization,
    custom: Statistics | None,
) -> list[Example]:
    """Read the frames of a labelled image, normalised as in the pretraining.

    Raises
    ------
    DataError
        A file cannot be decoded.
    """
    known = measure(pair.image, normalization, custom)
    shape = (-1,) + (1,) * pair.image.ndim
    offset, scale = (np.asarray(v, np.float32).reshape(shape) for v in (known.offset, known.scale))
    return [
        Example(pair.name, (finite(array, known.mean) - offset) / scale, classes)
        for array, classes in read_pair(pair, scheme)
    ]


def split_validation(
    examples: Sequence[Example], fraction: float
) -> tuple[list[Example], list[Example]]:
    """Cut the far end of each frame's longest axis off for validation."""
    learn, check = [], []
    for one in examples:
        axis = int(np.argmax(one.classes.shape))
        size = one.classes.shape[axis]
        kept = size - max(1, round(size * fraction)) if size > 1 else size
        before = (slice(None),) * axis
        learn.append(one.part((*before, slice(0, kept))))
        if kept < size:
            check.append(one.part((*before, slice(kept, size))))
    return learn, check


class PatchDrawer:
    """Draws batches of patches with their classes.

    Parameters
    ----------
    examples
        Labelled frames.
    patch_size
        Pixels of a patch; smaller frames are mirrored beyond their borders.
    batch_size
        Patches of a batch.
    seed
        Seed of the repetition.
    device
        Where batches go.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        patch_size: tuple[int, ...],
        batch_size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self._patch, self._batch, self._seed, self._device = patch_size, batch_size, seed, device
        self._frames = [
            (pad_to(e.image, patch_size)[0], pad_to(e.classes, patch_size)[0]) for e in examples
        ]
        self._foreground = [np.flatnonzero(classes) for _, classes in self._frames]
        # large frames are drawn more often, but a small one is never drowned
        sizes = np.sqrt([classes.size for _, classes in self._frames])
        self._chance = sizes / sizes.sum()

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images ``B C *patch`` and classes ``B *patch`` of a step, turned at random."""
        keys = [(self._seed, _PURPOSE, step, index) for index in range(self._batch)]
        drawn = [self._draw(np.random.default_rng(key), key[-1]) for key in keys]
        images = torch.from_numpy(np.stack([d[0] for d in drawn])).to(self._device)
        classes = torch.from_numpy(np.stack([d[1] for d in drawn])).to(self._device)
        random = TorchRandom(keys, self._device)
        both = flip_and_turn(torch.cat([images, classes[:, None].float()], dim=1), random)
        return vary(both[:, :-1], both[:, -1], random)

    def _draw(self, random: np.random.Generator, index: int) -> tuple[np.ndarray, np.ndarray]:
        number = int(random.choice(len(self._frames), p=self._chance))
        image, classes = self._frames[number]
        room = [n - p for n, p in zip(classes.shape, self._patch, strict=True)]
        start = [int(random.integers(0, r + 1)) for r in room]
        foreground = self._foreground[number]
        if index % FOREGROUND_SHARE == 0 and foreground.size:
            place = np.unravel_index(foreground[random.integers(foreground.size)], classes.shape)
            shift = [int(random.integers(0, p)) for p in self._patch]
            start = [
                min(max(0, int(at) - s), r) for at, s, r in zip(place, shift, room, strict=True)
            ]
        box = tuple(slice(s, s + p) for s, p in zip(start, self._patch, strict=True))
        return image[(slice(None), *box)], classes[box]


def fold_seed(*key: int) -> int:
    """Return one seed from several numbers."""
    return fold((_PURPOSE, *key))
