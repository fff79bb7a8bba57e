"""Images smaller than a patch: mirrored beyond their borders, on both sides alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def pad_to(array: np.ndarray, size: Sequence[int]) -> tuple[np.ndarray, tuple[slice, ...]]:
    """Mirror the last axes of an array about their outermost voxels until they have a size.

    Parameters
    ----------
    array
        Any leading axes, then the spatial ones.
    size
        Smallest length of each spatial axis.

    Returns
    -------
    padded
        The array itself where it is large enough.
    inside
        Slices of the spatial axes that give the original back.
    """
    lead = array.ndim - len(size)
    widths, inside = [(0, 0)] * lead, []
    for length, wanted in zip(array.shape[lead:], size, strict=True):
        missing = max(0, wanted - length)
        before = missing // 2
        widths.append((before, missing - before))
        inside.append(slice(before, before + length))
    if not any(map(any, widths)):
        return array, tuple(inside)
    return np.pad(array, widths, mode="reflect"), tuple(inside)
