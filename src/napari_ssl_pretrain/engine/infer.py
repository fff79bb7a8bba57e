"""Whole frames through a network: tiles with blended overlap."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch

from napari_ssl_pretrain.engine.slabs import Layout, Sums
from napari_ssl_pretrain.pretext import Crappify, Intensity, Masking, PretextBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_ssl_pretrain.data.boxes import Box
    from napari_ssl_pretrain.data.intensity import ImageIntensity
    from napari_ssl_pretrain.engine.backbones import Backbone

OVERLAP = 0.25
"""Share of a tile that neighbours overlap."""


class Source(NamedTuple):
    """A frame that is read by box.

    Attributes
    ----------
    shape
        ``C *spatial``.
    read
        From a box inside the frame to its pixels ``C *box``, finite; the worsened frame for
        crappify, the clean one for masking.
    """

    shape: tuple[int, ...]
    read: Callable[[Box], np.ndarray]


class Restorer:
    """Restores worsened frames, or reconstructs hidden parts of frames.

    Parameters
    ----------
    model
        The trained network, in evaluation mode.
    task
        The pretext task it learnt.
    tile
        Size of the tiles, as the patches of the training.
    batch_size
        Tiles at once.
    precision
        ``fp32``, ``bf16`` or ``fp16``.
    """

    def __init__(
        self,
        model: Backbone,
        task: Crappify | Masking,
        tile: Sequence[int],
        *,
        batch_size: int,
        precision: str,
    ) -> None:
        self._model = model.eval()
        self._task = task.replace(normalize_target=False) if isinstance(task, Masking) else task
        self._tile = tuple(tile)
        self._batch_size = batch_size
        self._device = next(model.parameters()).device
        self._autocast = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)

    def token_grid(self, spatial: Sequence[int]) -> tuple[int, ...]:
        """Return the token grid that covers a frame, tokens over its ends included."""
        assert isinstance(self._task, Masking)  # noqa: S101 - ours to call rightly
        return tuple(math.ceil(n / t) for n, t in zip(spatial, self._task.token_size, strict=True))

    def __call__(
        self,
        frame: np.ndarray,
        intensity: ImageIntensity,
        hidden: np.ndarray | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Return the network's image of a frame, float32 ``C *spatial`` in the frame's units.

        Parameters
        ----------
        frame
            ``C *spatial``, finite; the worsened frame for crappify, the clean one for masking.
        intensity
            Normalisation of the frame's image.
        hidden
            Token grid of :meth:`token_grid`, True where hidden (masking only).
        progress
            Called with tiles done and in all.
        """
        out = np.empty(frame.shape, np.float32)
        source = Source(frame.shape, lambda box: frame[(slice(None), *box)])
        told = None if hidden is None else lambda box: hidden[box]
        for box, block in self.stream(source, intensity, told, progress):
            out[(slice(None), *box)] = block
        return out

    def stream(
        self,
        source: Source,
        intensity: ImageIntensity,
        hidden: Callable[[Box], np.ndarray] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[tuple[Box, np.ndarray]]:
        """Yield the network's image of a frame in boxes, each ``C *box``, which cover it.

        No more of the frame is in memory than a slab of tiles.

        Parameters
        ----------
        source
            The frame, read by box.
        intensity
            Normalisation of the frame's image.
        hidden
            A box of the token grid, True where hidden (masking only).
        progress
            Called with tiles done and in all.
        """
        channels, *spatial = source.shape
        units = self._multiple()
        # neighbours are a whole token apart at least, also where a tile holds only one
        overlap = [
            max(0, min(int(t * OVERLAP), t - u)) for t, u in zip(self._tile, units, strict=True)
        ]
        layout = Layout(spatial, self._size(spatial), self._tile, overlap, units, channels)
        sums, done, total = Sums(layout, channels), 0, layout.count
        for slab in layout.slabs():
            frame, tokens = self._slab(source, hidden, slab.box)
            sums.open(slab)
            for first in range(0, len(slab.tiles), self._batch_size):
                some = slab.tiles[first : first + self._batch_size]
                places = [_within(tile, slab.box) for tile in some]
                made = self._predict(frame, intensity, tokens, places)
                for tile, image in zip(some, made, strict=True):
                    sums.add(tile, image)
                done += len(some)
                if progress:
                    progress(done, total)
            del frame, tokens  # gone before the next slab, which is as large, is read
            for box in layout.pieces(slab.ready):
                yield box, sums.ready(box)

    def _multiple(self) -> tuple[int, ...]:
        """Return the steps that tiles start at: whole tokens, or whole worsened pixels."""
        if isinstance(self._task, Masking):
            return self._task.token_size
        return tuple(round(f) if abs(f - round(f)) < 1e-6 else 1 for f in self._task.axis_factors)  # noqa: PLR2004

    def _size(self, spatial: Sequence[int]) -> list[int]:
        """Return the size of a frame filled up to whole tokens and to a tile at least."""
        return [
            max(t, math.ceil(n / u) * u)
            for n, t, u in zip(spatial, self._tile, self._units(), strict=True)
        ]

    def _units(self) -> tuple[int, ...]:
        return self._task.token_size if isinstance(self._task, Masking) else (1,) * len(self._tile)

    def _slab(
        self, source: Source, hidden: Callable[[Box], np.ndarray] | None, box: Box
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Read a box of a frame, filled up where it reaches beyond the frame's far ends.

        It is mirrored there, but for masking the last pixels are repeated: a mirror would put
        pixels of a hidden token into a visible one that is cut by the border.
        """
        spatial = source.shape[1:]
        inside = tuple(slice(b.start, min(b.stop, n)) for b, n in zip(box, spatial, strict=True))
        ends = [(0, b.stop - i.stop) for b, i in zip(box, inside, strict=True)]
        mode: Literal["edge", "symmetric"] = (
            "edge" if isinstance(self._task, Masking) else "symmetric"
        )
        frame = np.asarray(source.read(inside), np.float32)
        frame = np.pad(frame, [(0, 0), *ends], mode=mode) if any(map(any, ends)) else frame
        if hidden is None:
            return frame, None
        units = self._units()
        grid = [math.ceil(n / u) for n, u in zip(spatial, units, strict=True)]
        wanted = [slice(b.start // u, b.stop // u) for b, u in zip(box, units, strict=True)]
        kept = tuple(slice(w.start, min(w.stop, g)) for w, g in zip(wanted, grid, strict=True))
        ends = [(0, w.stop - k.stop) for w, k in zip(wanted, kept, strict=True)]
        return frame, np.pad(hidden(kept), ends, constant_values=True)

    @torch.no_grad()
    def _predict(
        self,
        frame: np.ndarray,
        intensity: ImageIntensity,
        hidden: np.ndarray | None,
        places: Sequence[tuple[slice, ...]],
    ) -> np.ndarray:
        images = torch.from_numpy(np.stack([frame[(slice(None), *place)] for place in places])).to(
            self._device
        )
        known = Intensity(
            *(
                torch.from_numpy(
                    np.broadcast_to(np.asarray(v, np.float32), (len(places), *np.shape(v))).copy()
                ).to(self._device)
                for v in (intensity.offset, intensity.scale, intensity.low, intensity.high)
            )
        )
        batch = self._batch(images, known, hidden, places)
        with torch.autocast(
            self._device.type, self._autocast or torch.bfloat16, enabled=self._autocast is not None
        ):
            made = batch.restored(self._model)
        out: np.ndarray = known.denormalize(made.float()).cpu().numpy()
        return out

    def _batch(
        self,
        images: torch.Tensor,
        known: Intensity,
        hidden: np.ndarray | None,
        places: Sequence[tuple[slice, ...]],
    ) -> PretextBatch:
        if isinstance(self._task, Crappify):
            return self._task.pair(images, images, known)
        if hidden is None:
            raise ValueError("masking needs the hidden tokens of the frame")
        units = self._task.token_size
        cuts = [
            hidden[
                tuple(slice(p.start // u, p.stop // u) for p, u in zip(place, units, strict=True))
            ]
            for place in places
        ]
        return self._task.hide(images, known, torch.from_numpy(np.stack(cuts)).to(self._device))


def _within(tile: Box, box: Box) -> Box:
    """Return where a tile lies in a box that holds it."""
    return tuple(slice(t.start - b.start, t.stop - b.start) for t, b in zip(tile, box, strict=True))
