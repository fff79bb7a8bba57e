"""Similarity to one point, fast enough to follow the mouse: what is shown now, on the grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ssl_pretrain.data.feature_map import units

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ssl_pretrain.data.feature_map import FeatureMap

MOST_CELLS = 1 << 19
"""Cells that are compared at once; of larger planes every second, third … cell is taken."""

PLANES = 2
"""Planes of the grid on each side of the one shown that are compared as well."""


@dataclass(frozen=True)
class Likeness:
    """Cosine similarity on a part of the grid.

    Attributes
    ----------
    values
        One number a cell, float32.
    start
        Pixel of the centre of its first cell, on each axis of the image.
    step
        Pixels from one cell to the next.
    """

    values: np.ndarray
    start: tuple[float, ...]
    step: tuple[float, ...]


class Similarity:
    """Compares what is shown with a point; keeps the last part of the grid that was compared.

    Parameters
    ----------
    found
        The features of the image.
    """

    def __init__(self, found: FeatureMap) -> None:
        self.map = found
        self._key: tuple[slice, ...] = ()
        self._window = np.zeros((0, 0), np.float32)

    def vector(self, point: Sequence[float]) -> np.ndarray:
        """Return the features of the cell that holds a point in pixels, at length one."""
        features: Any = self.map.features
        return units(features[:, *self.map.cell(point)])

    def __call__(self, vector: np.ndarray, shown: Sequence[float]) -> Likeness:
        """Compare the planes around the one that is shown.

        Parameters
        ----------
        vector
            What to compare with, of :meth:`vector`.
        shown
            A point in pixels; its axes but the last two tell the plane.
        """
        key = self._slices(shown)
        if key != self._key:
            block = np.moveaxis(np.asarray(self.map.features[(slice(None), *key)]), 0, -1)
            self._window, self._key = np.ascontiguousarray(units(block)), key
        strides = [k.step or 1 for k in key]
        start = [k.start * s + (s - 1) / 2 for k, s in zip(key, self.map.step, strict=True)]
        step = [float(s * by) for s, by in zip(self.map.step, strides, strict=True)]
        return Likeness(self._window @ vector, tuple(start), tuple(step))

    def _slices(self, shown: Sequence[float]) -> tuple[slice, ...]:
        """Return the part of the grid to compare: whole planes, all frames but one left out."""
        cell, grid, axes = self.map.cell(shown), self.map.grid, self.map.axes
        lead = []
        for axis, (here, cells) in enumerate(zip(cell[:-2], grid[:-2], strict=True)):
            depth = axes[axis] == "Z" and axis == len(axes) - 3
            around = PLANES if depth else 0
            lead.append(slice(max(0, here - around), min(cells, here + around + 1), 1))
        count = grid[-1] * grid[-2]
        for part in lead:
            count *= part.stop - part.start
        by = max(1, int(np.ceil(np.sqrt(count / MOST_CELLS))))
        return (*lead, slice(0, grid[-2], by), slice(0, grid[-1], by))
