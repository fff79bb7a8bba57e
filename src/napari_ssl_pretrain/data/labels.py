"""Labelled images: what is learnt from and scored on, and what must not be."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_ssl_pretrain.data.label_scheme import LabelScheme, find_scheme, read_label
from napari_ssl_pretrain.data.labelled import LabelledImage, LabelledSet, listed, open_labelled
from napari_ssl_pretrain.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ssl_pretrain.data.images import Image

__all__ = [
    "LabelScheme",
    "LabelledImage",
    "LabelledSet",
    "find_scheme",
    "hold_out",
    "open_labelled",
    "read_label",
    "read_pair",
    "refuse_shared",
    "usable_counts",
]

HELD_OUT = 1 / 3
MOST_HELD_OUT = 30


def read_pair(pair: LabelledImage, scheme: LabelScheme) -> list[tuple[np.ndarray, np.ndarray]]:
    """Read an image and its classes: one ``C *spatial`` and one uint8 ``*spatial`` a frame.

    Parameters
    ----------
    pair
        What to read.
    scheme
        What the numbers of the label image mean.

    Raises
    ------
    DataError
        One of them cannot be decoded, or the label image holds no labels.
    """
    return [
        (pair.image.read(frame), scheme.classes(read_label(pair.label, frame)))
        for frame in range(pair.image.frames)
    ]


def usable_counts(n_labels: Sequence[int], available: int) -> tuple[tuple[int, ...], str]:
    """Lower the numbers of labelled images to what there is; say so.

    Parameters
    ----------
    n_labels
        The numbers asked for.
    available
        Images that can be learnt from.

    Returns
    -------
    tuple
        The numbers to use, rising, each once; and a sentence, empty where nothing changed.
    """
    counts = tuple(sorted({min(n, available) for n in n_labels}))
    if max(n_labels) <= available:
        return counts, ""
    have = "one labelled image" if available == 1 else f"{available} labelled images"
    verb = "is" if available == 1 else "are"
    asked = ", ".join(str(n) for n in sorted(set(n_labels)) if n > available)
    return counts, f"there {verb} {have} to learn from: {available} instead of {asked} used"


def hold_out(found: LabelledSet, seed: int = 0) -> tuple[LabelledSet, LabelledSet, str]:
    """Hold a third of the labelled images back for scoring, at most 30, always the same ones.

    Parameters
    ----------
    found
        All labelled images.
    seed
        Chooses which.

    Returns
    -------
    tuple
        The images to learn from, those to score on, and a sentence for the user.

    Raises
    ------
    DataError
        There is only one image.
    """
    total = len(found.images)
    if total < 2:  # noqa: PLR2004
        raise DataError(
            found.field[0],
            "one labelled image cannot be learnt from and scored on as well",
            value=found.images[0].image.info.path.name,
            remedy="Give --test_images and --test_labels, or more labelled images.",
        )
    count = min(max(1, round(total * HELD_OUT)), MOST_HELD_OUT)
    order = np.random.default_rng([seed, 5]).permutation(total)
    held = {int(k) for k in order[:count]}
    train = tuple(p for k, p in enumerate(found.images) if k not in held)
    test = tuple(p for k, p in enumerate(found.images) if k in held)
    names = listed([pair.image.info.path.name for pair in test])
    note = (
        f"no test images given: {count} of the {total} labelled images "
        f"{'is' if count == 1 else 'are'} held back for scoring ({names})"
    )
    return replace(found, images=train), replace(found, images=test), note


def refuse_shared(train: LabelledSet, test: LabelledSet) -> None:
    """Refuse a test image that is also learnt from, be it under another name or in another format.

    Raises
    ------
    DataError
        The same file, or the same pixels, are in both sets.
    """
    paths = {pair.image.info.path.resolve(): pair for pair in train.images}
    kinds = {_kind(pair.image) for pair in test.images}
    pixels = {_digest(p.image): p for p in train.images if _kind(p.image) in kinds}
    for pair in test.images:
        path = pair.image.info.path
        same = paths.get(path.resolve()) or pixels.get(_digest(pair.image) if pixels else "")
        if same is not None:
            raise DataError(
                test.field[0],
                f"is also in {train.field[0]}"
                + ("" if same.name == pair.name else f" (as {same.image.info.path.name})")
                + ": a score on images that were learnt from means nothing",
                value=path.name,
                remedy="Take it out of one of them.",
            )


def _kind(image: Image) -> tuple[object, ...]:
    return image.spatial, image.frames, image.in_channels, image.info.dtype.str[1:]


def _digest(image: Image) -> str:
    sha = hashlib.sha256()
    for frame in range(image.frames):
        sha.update(image.read(frame).tobytes())
    return sha.hexdigest()
