"""Images that no memory holds: cut into boxes, or looked at in boxes spread over them."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_ssl_pretrain.data.images import Image

Box = tuple[slice, ...]

LARGE_BYTES = 1 << 28
"""Images of more bytes, all their frames together, are written by tile, as OME-Zarr."""

EXACT_BYTES = 1 << 30
"""Images of more bytes are measured on boxes spread over them."""

SAMPLE_BOXES = 256
SAMPLE_VOXELS = 1 << 18
"""How many boxes, and how many values of each at most, are looked at in such an image."""

_DEPTH = 8
_ROOT = 1.1673039782614187
"""Its powers spread points evenly over four axes; the root of ``x^5 = x + 1``."""


def is_large(image: Image) -> bool:
    """Return whether what is made of an image is written by tile, as OME-Zarr."""
    return image.frames * image.frame_bytes > LARGE_BYTES


def is_sampled(image: Image) -> bool:
    """Return whether an image is so large that only boxes of it are measured."""
    return image.frames * image.frame_bytes > EXACT_BYTES


def cut(spatial: Sequence[int], voxels: int, step: Sequence[int] | None = None) -> Iterator[Box]:
    """Cut a frame into boxes that cover it, whole on its last axes as far as they may be.

    Parameters
    ----------
    spatial
        Voxels of the frame on each axis.
    voxels
        Most voxels of a box, unless one step on each axis is more.
    step
        Boxes are multiples of this long, but for the last.
    """
    if not all(spatial):
        return
    steps = tuple(step or (1,) * len(spatial))
    size = list(steps)
    for axis in reversed(range(len(spatial))):
        others = math.prod(min(s, n) for k, (s, n) in enumerate(zip(size, spatial, strict=True))
                           if k != axis)  # fmt: skip
        fits = voxels // max(1, others) // steps[axis]
        size[axis] = min(-(-spatial[axis] // steps[axis]), max(1, fits)) * steps[axis]
    axes = [
        [slice(first, min(first + s, n)) for first in range(0, n, s)]
        for n, s in zip(spatial, size, strict=True)
    ]
    yield from itertools.product(*axes)


def spread(
    image: Image, count: int = SAMPLE_BOXES, voxels: int = SAMPLE_VOXELS, depth: int = _DEPTH
) -> list[tuple[int, Box]]:
    """Return frames and boxes spread evenly over an image, the same at every call.

    Parameters
    ----------
    image
        The image.
    count
        How many.
    voxels
        Most values of a box, all channels together.
    depth
        Most planes of a box in volumes: thin boxes are read sooner from files of planes.
    """
    size = _box_size(image.spatial, voxels // max(1, image.in_channels), depth)
    found = []
    for number in range(count):
        place = [(number + 1) * _ROOT**-power % 1 for power in range(1, image.ndim + 1)]
        frame = min(image.frames - 1, int((number + 0.5) / count * image.frames))
        starts = [int(u * (n - s + 1)) for u, n, s in zip(place, image.spatial, size, strict=True)]
        found.append((frame, tuple(slice(a, a + s) for a, s in zip(starts, size, strict=True))))
    return found


def _box_size(spatial: Sequence[int], voxels: int, depth: int) -> tuple[int, ...]:
    """Return the sides of a box: as thick as asked for, else as square as the frame allows."""
    head = [min(n, depth) for n in spatial[:-2]]
    plane = max(1, voxels // math.prod(head))
    short, long = sorted(spatial[-2:])
    side = max(1, min(short, math.isqrt(plane)))
    other = max(1, min(long, plane // side))
    ends = (side, other) if spatial[-2] <= spatial[-1] else (other, side)
    return (*head, *ends)
