"""Sizes that follow from the images: strides of a U-Net, patches, tokens, crappify factors."""

from __future__ import annotations

import math

FLAT = 2.0
"""A spacing this many times the finest counts as anisotropic."""


def relative_spacing(voxel_size: tuple[float, ...] | None, ndim: int) -> tuple[float, ...]:
    """Return the spacing of each axis over the finest one; all ones where it is unknown."""
    if voxel_size is None:
        return (1.0,) * ndim
    finest = min(voxel_size)
    return tuple(v / finest for v in voxel_size)


def unet_strides(
    patch_size: tuple[int, ...], spacing: tuple[float, ...], stages: int
) -> tuple[tuple[int, ...], ...]:
    """Return the stride of each stage and axis, the first all ones.

    As in nnU-Net an axis is halved only while its spacing is within a factor of two of the
    finest, and while at least four pixels remain; an odd size is never halved.
    """
    size, here = list(patch_size), list(spacing)
    strides = [(1,) * len(size)]
    for _ in range(stages - 1):
        finest = min(h for h, n in zip(here, size, strict=True) if n > 1) if max(size) > 1 else 1.0
        stride = tuple(
            2 if n % 2 == 0 and n >= 8 and h < FLAT * finest else 1  # noqa: PLR2004
            for n, h in zip(size, here, strict=True)
        )
        if max(stride) == 1:
            stride = tuple(2 if n % 2 == 0 and n >= 8 else 1 for n in size)  # noqa: PLR2004
        if max(stride) == 1:
            break
        size = [n // s for n, s in zip(size, stride, strict=True)]
        here = [h * s for h, s in zip(here, stride, strict=True)]
        strides.append(stride)
    return tuple(strides)


def kernel_sizes(
    strides: tuple[tuple[int, ...], ...], spacing: tuple[float, ...]
) -> tuple[tuple[int, ...], ...]:
    """Return the kernel of each stage: one pixel along an axis while that axis is much coarser."""
    here, kernels = list(spacing), []
    for stride in strides:
        here = [h * s for h, s in zip(here, stride, strict=True)]
        kernels.append(tuple(1 if h >= FLAT * min(here) else 3 for h in here))
    return tuple(kernels)


def crappify_factors(resizing_factor: float, spacing: tuple[float, ...]) -> tuple[float, ...]:
    """Return the down-sampling factor of each axis: the square root, less along coarse axes.

    An axis sampled ``k`` times as coarsely as the finest is worsened by ``sqrt(f) / k``, and
    not at all where that is below one, so that the worsened voxels are no flatter than before.
    """
    side = math.sqrt(resizing_factor)
    return tuple(max(1.0, side / k) for k in spacing)


def token_size(spacing: tuple[float, ...], side: int = 8) -> tuple[int, ...]:
    """Return tokens of about equal physical sides; a power of two along coarse axes."""
    return tuple(max(1, side >> round(math.log2(k))) if k > 1 else side for k in spacing)


def patch_size(
    shapes: tuple[tuple[int, ...], ...],
    spacing: tuple[float, ...],
    multiple: tuple[int, ...],
    least: tuple[int, ...] | None = None,
) -> tuple[int, ...]:
    """Return a patch that most images hold, a multiple of ``multiple`` on each axis.

    No axis is shorter than ``least``, itself such a multiple; without it, than ``multiple``.
    About 128² pixels in 2D and 64³ voxels of equal physical sides in 3D.
    """
    ndim = len(spacing)
    side = 128.0 if ndim == 2 else 64.0 * math.prod(spacing) ** (1 / ndim)  # noqa: PLR2004
    wanted = [side / k for k in spacing]
    typical = [sorted(s[axis] for s in shapes)[len(shapes) // 4] for axis in range(ndim)]
    return tuple(
        max(floor, min(round(w / m), n // m) * m)
        for w, n, m, floor in zip(wanted, typical, multiple, least or multiple, strict=True)
    )
