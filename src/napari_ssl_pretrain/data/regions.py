"""Where patches may be drawn from, so that training and validation never share a pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ssl_pretrain.data.images import Image

ENOUGH_IMAGES = 5
"""From this number on, whole images are kept for validation."""


@dataclass(frozen=True)
class Region:
    """A box of one frame.

    Attributes
    ----------
    image
        Number of the image in its set.
    frame
        Number of the frame.
    start, stop
        First voxel of the box on each spatial axis, and the one behind its last.
    """

    image: int
    frame: int
    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels on each axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as slices of the spatial axes."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))


def all_regions(images: Sequence[Image]) -> list[Region]:
    """Return the whole of every frame of every image."""
    return [
        Region(number, frame, (0,) * image.ndim, image.spatial)
        for number, image in enumerate(images)
        for frame in range(image.frames)
    ]


def split_regions(
    images: Sequence[Image], fraction: float, patch_size: tuple[int, ...], seed: int
) -> tuple[list[Region], list[Region]]:
    """Return the regions to learn from and those to validate on; they share no voxel.

    Whole images are kept for validation where there are at least ``ENOUGH_IMAGES``. Otherwise
    every frame is cut across the axis that is longest, counted in patches, and its end is kept:
    at least a patch, unless that were more than a quarter of the axis.

    Parameters
    ----------
    images
        The training images.
    fraction
        Part to keep for validation; 0 keeps nothing.
    patch_size
        Voxels of a patch on each spatial axis.
    seed
        Seed of the choice among images.
    """
    regions = all_regions(images)
    if fraction <= 0:
        return regions, []
    if len(images) >= ENOUGH_IMAGES:
        count = min(len(images) - 1, max(1, round(fraction * len(images))))
        kept = set(np.random.default_rng([seed, count]).permutation(len(images))[:count].tolist())
        return (
            [r for r in regions if r.image not in kept],
            [r for r in regions if r.image in kept],
        )
    cut = [_cut(region, fraction, patch_size) for region in regions]
    return [train for train, _ in cut], [kept for _, kept in cut if kept is not None]


def _cut(
    region: Region, fraction: float, patch_size: tuple[int, ...]
) -> tuple[Region, Region | None]:
    shape = region.shape
    axes = [axis for axis, length in enumerate(shape) if length > 1]
    if not axes:
        return region, None
    axis = max(axes, key=lambda a: (shape[a] / patch_size[a], shape[a]))
    length = shape[axis]
    wanted = max(math.ceil(fraction * length), min(patch_size[axis], length // 4))
    border = region.stop[axis] - min(wanted, length - 1)
    stop = (*region.stop[:axis], border, *region.stop[axis + 1 :])
    start = (*region.start[:axis], border, *region.start[axis + 1 :])
    return replace(region, stop=stop), replace(region, start=start)
