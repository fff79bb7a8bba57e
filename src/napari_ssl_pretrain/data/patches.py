"""Patches, each a function of its key alone: the same on every thread, rank and resume."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from napari_ssl_pretrain.data.padding import pad_to

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ssl_pretrain.data.images import Image
    from napari_ssl_pretrain.data.regions import Region

LARGEST_FRAME = {"mapped": 1 << 26, "parts": 1 << 30, "whole": 1 << 40}
"""Bytes of the largest frame that is kept decoded, by how it is read otherwise."""

LARGEST_SHARE = 20
"""No image is drawn more often than this many times the median one."""


@dataclass(frozen=True)
class Patch:
    """A crop of one frame.

    Attributes
    ----------
    array
        ``C *patch`` in the file's dtype, mirrored beyond the region on both sides where that
        is smaller; NaN and infinities are left as they are.
    image, frame
        Where it is from.
    start
        First voxel on each spatial axis; where it was padded, the first one of the region.
    """

    array: np.ndarray
    image: int
    frame: int
    start: tuple[int, ...]


class PatchSource:
    """Draw patches from regions; decode each frame once while memory lasts.

    Frames that no longer fit are read box by box from their files.

    Parameters
    ----------
    images
        The images that the regions are of.
    regions
        Where patches may come from; at least one.
    patch_size
        Voxels of a patch on each spatial axis.
    memory_gb
        Memory for decoded frames.
    """

    def __init__(
        self,
        images: Sequence[Image],
        regions: Sequence[Region],
        patch_size: tuple[int, ...],
        memory_gb: float,
    ) -> None:
        self.images = tuple(images)
        self.regions = tuple(regions)
        self.patch_size = tuple(patch_size)
        weights = region_weights(self.regions, self.patch_size)
        self._cumulative = np.cumsum(weights / weights.sum())
        self._held: dict[tuple[int, int], np.ndarray] = {}
        self._kept = self._choose_frames(memory_gb * 1e9)
        self._locks = {key: Lock() for key in self._kept}

    def draw(self, seed: int, step: int, index: int) -> Patch:
        """Draw patch ``index`` of step ``step``.

        Raises
        ------
        DataError
            The pixels cannot be decoded.
        """
        random = np.random.default_rng((seed, step, index))
        return self._draw(random.random(1 + len(self.patch_size)))

    def fixed(self, count: int, seed: int) -> list[Patch]:
        """Return patches spread over the regions by weight, the same at every call.

        Frames that were decoded for them are not kept.

        Raises
        ------
        DataError
            The pixels cannot be decoded.
        """
        places = np.random.default_rng((seed, count)).random((count, 1 + len(self.patch_size)))
        places[:, 0] = (np.arange(count) + places[:, 0]) / max(1, count)
        found = [self._draw(place) for place in places]
        self._held.clear()
        return found

    def _draw(self, place: np.ndarray) -> Patch:
        """Cut the patch at a place given by numbers in [0, 1): the region, then each axis."""
        number = int(np.searchsorted(self._cumulative, place[0], side="right"))
        region = self.regions[min(number, len(self.regions) - 1)]
        start = patch_start(region, self.patch_size, place[1:])
        boxes = tuple(
            slice(a, min(a + p, b))
            for a, p, b in zip(start, self.patch_size, region.stop, strict=True)
        )
        array = self._read(region, boxes)
        if array.shape[1:] != self.patch_size:
            array, _ = pad_to(array, self.patch_size)
        return Patch(array, region.image, region.frame, start)

    def _read(self, region: Region, boxes: tuple[slice, ...]) -> np.ndarray:
        key = (region.image, region.frame)
        if key not in self._kept:
            return self.images[region.image].read(region.frame, boxes)
        frame = self._held.get(key)
        if frame is None:
            with self._locks[key]:
                frame = self._held.get(key)
                if frame is None:
                    frame = self._held[key] = self.images[region.image].read(region.frame)
        box: np.ndarray = frame[(slice(None), *boxes)]
        return box.copy()

    def _choose_frames(self, limit: float) -> set[tuple[int, int]]:
        """Return the frames to keep in memory: as many as fit, the first ones first."""
        kept: set[tuple[int, int]] = set()
        for region in self.regions:
            key = (region.image, region.frame)
            image = self.images[region.image]
            size = image.frame_bytes
            if key not in kept and size <= min(limit, LARGEST_FRAME[image.access]):
                kept.add(key)
                limit -= size
        return kept


def region_weights(regions: Sequence[Region], patch_size: tuple[int, ...]) -> np.ndarray:
    """Return how often each region is drawn from: by its patches, at least one.

    No image gets more than ``LARGEST_SHARE`` times the median image's share.
    """
    sides = np.array([r.shape for r in regions], np.float64)
    patches = np.maximum(sides / np.array(patch_size), 1.0).prod(axis=1)
    numbers = np.array([r.image for r in regions])
    totals = np.bincount(numbers, patches)
    median = np.median(totals[totals > 0])
    share = np.minimum(1.0, LARGEST_SHARE * median / np.maximum(totals, 1e-12))
    return np.asarray(patches * share[numbers])


def patch_start(region: Region, patch_size: tuple[int, ...], place: np.ndarray) -> tuple[int, ...]:
    """Return the first voxel of a patch placed in a region by numbers in [0, 1)."""
    return tuple(
        a + int(u * (max(0, b - a - p) + 1))
        for a, b, p, u in zip(region.start, region.stop, patch_size, place.tolist(), strict=True)
    )
