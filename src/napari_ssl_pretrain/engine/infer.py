"""Whole frames through a network: tiles with blended overlap."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from napari_ssl_pretrain.data.tiling import blend_weight, tiles
from napari_ssl_pretrain.pretext import Crappify, Intensity, Masking, PretextBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_ssl_pretrain.data.intensity import ImageIntensity
    from napari_ssl_pretrain.engine.backbones import Backbone

OVERLAP = 0.25
"""Share of a tile that neighbours overlap."""


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
        spatial = frame.shape[1:]
        padded, hidden = self._padded(frame, hidden)
        size = padded.shape[1:]
        total = np.zeros(padded.shape, np.float32)
        weights = np.zeros(size, np.float32)
        weight = blend_weight(self._tile)
        units = self._multiple()
        # neighbours are a whole token apart at least, also where a tile holds only one
        overlap = [
            max(0, min(int(t * OVERLAP), t - u)) for t, u in zip(self._tile, units, strict=True)
        ]
        places = tiles(size, self._tile, overlap, units)
        for first in range(0, len(places), self._batch_size):
            some = places[first : first + self._batch_size]
            for place, image in zip(
                some, self._predict(padded, intensity, hidden, some), strict=True
            ):
                total[(slice(None), *place)] += image * weight
                weights[place] += weight
            if progress:
                progress(min(first + len(some), len(places)), len(places))
        total /= weights
        return total[(slice(None), *(slice(0, n) for n in spatial))]

    def _multiple(self) -> tuple[int, ...]:
        """Return the steps that tiles start at: whole tokens, or whole worsened pixels."""
        if isinstance(self._task, Masking):
            return self._task.token_size
        return tuple(round(f) if abs(f - round(f)) < 1e-6 else 1 for f in self._task.axis_factors)  # noqa: PLR2004

    def _padded(
        self, frame: np.ndarray, hidden: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Fill up the frame's far ends to whole tokens and to a tile at least.

        They are mirrored, but for masking the last pixels are repeated: a mirror would put
        pixels of a hidden token into a visible one that is cut by the border.
        """
        unit = self._task.token_size if isinstance(self._task, Masking) else (1,) * len(self._tile)
        size = [
            max(t, math.ceil(n / u) * u)
            for n, t, u in zip(frame.shape[1:], self._tile, unit, strict=True)
        ]
        mode: Literal["edge", "symmetric"] = (
            "edge" if isinstance(self._task, Masking) else "symmetric"
        )
        ends = [(0, s - n) for s, n in zip(size, frame.shape[1:], strict=True)]
        padded = np.pad(frame.astype(np.float32), [(0, 0), *ends], mode=mode)
        if hidden is not None:
            grid = [s // u for s, u in zip(size, unit, strict=True)]
            hidden = np.pad(
                hidden,
                [(0, g - n) for g, n in zip(grid, hidden.shape, strict=True)],
                constant_values=True,
            )
        return padded, hidden

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
