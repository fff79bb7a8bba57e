"""Tiles that cover an image, and the weights that blend them without a seam."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def tile_starts(size: int, tile: int, overlap: int, multiple: int = 1) -> list[int]:
    """Return where tiles begin along one axis: as few as may be, the last one ends with the image.

    Steps are even, but for one ``multiple``.

    Parameters
    ----------
    size
        Voxels of the image.
    tile
        Voxels of a tile; where it is larger than the image, the caller pads.
    overlap
        Voxels that neighbours share at least.
    multiple
        Starts but the last are multiples of this (tokens); the last one is too where it
        divides ``size`` and ``tile``. Ignored where it leaves no room beside the overlap.

    Raises
    ------
    ValueError
        The overlap is not smaller than the tile.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap {overlap} must be at least 0 and less than the tile's {tile}")
    last = max(0, size - tile)
    room = tile - overlap
    multiple = multiple if multiple <= room else 1
    steps = -(-last // multiple)
    count = -(-steps // (room // multiple))
    starts = [steps * k // max(1, count) * multiple for k in range(count)]
    return [*starts, last]


def tiles(
    spatial: Sequence[int],
    tile: Sequence[int],
    overlap: Sequence[int],
    multiple: Sequence[int] | int = 1,
) -> list[tuple[slice, ...]]:
    """Return boxes that cover an image, each of the tile's size (or the image's, if smaller).

    Parameters
    ----------
    spatial
        Voxels of the image on each axis.
    tile
        Voxels of a tile on each axis.
    overlap
        Voxels that neighbours share at least, on each axis.
    multiple
        See :func:`tile_starts`; one number, or one an axis.

    Raises
    ------
    ValueError
        An overlap is not smaller than the tile.
    """
    steps = [multiple] * len(spatial) if isinstance(multiple, int) else multiple
    axes = [
        [
            slice(start, min(start + length, size))
            for start in tile_starts(size, length, shared, step)
        ]
        for size, length, shared, step in zip(spatial, tile, overlap, steps, strict=True)
    ]
    return list(itertools.product(*axes))


def blend_weight(tile: Sequence[int]) -> np.ndarray:
    """Return the weight of each voxel of a tile: 1 in the middle, falling smoothly, above 0.

    A product of squared sines, so that the weights of two tiles that overlap by half sum to 1
    (but for the small floor that keeps the image's own border).
    """
    weight = np.ones((), np.float64)
    for length in tile:
        side = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2
        weight = weight[..., None] * np.maximum(side, 1e-3)
    return np.asarray(weight, np.float32)
