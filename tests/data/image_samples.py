"""Images made by formula: every test writes what it reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_ssl_pretrain.data.images import Image, ImageInfo

LENGTHS = {"T": 3, "Z": 6, "C": 2, "Y": 33, "X": 47, "S": 3}


def pixels(shape, dtype="uint8", seed=0):
    """Return numbers that fill about half of the range of small types, no two rows alike."""
    values = np.random.default_rng(seed).random(shape) * 120
    return (values > 60) if np.dtype(dtype) == bool else values.astype(dtype)


def sample(axes, dtype="uint8", seed=0, **lengths):
    """Return an array with these axes."""
    return pixels([(LENGTHS | lengths)[a] for a in axes], dtype, seed)


def as_frames(array, axes, ndim):
    """Return the frames of an array by the plainest means: one C(Z)YX array a T (and Z)."""
    for letter in "TZCS":
        if letter not in axes:
            array, axes = array[None], letter + axes
    array = array.transpose([axes.index(a) for a in "TZCSYX"])
    t, z, c, s, y, x = array.shape
    array = array.reshape(t, z, c * s, y, x)
    if ndim == 2:
        return list(array.reshape(t * z, c * s, y, x))
    return list(array.transpose(0, 2, 1, 3, 4))


class ArrayPixels:
    """An array in memory in the place of a file; counts how often it is read."""

    access = "whole"

    def __init__(self, array):
        self.array = array
        self.reads = 0

    def read(self, index):
        self.reads += 1
        return self.array[index]


def memory_image(array, axes, ndim=2, name="image", channels=None, pixel_size=None):
    """Return an image of an array in memory."""
    info = ImageInfo(
        Path(f"{name}.tif"), name, axes, array.shape, array.dtype, pixel_size or {}, None
    )
    return Image(info, ArrayPixels(array), ndim, channels)


def random_boxes(spatial, count, seed=0):
    """Return boxes inside a frame."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        start = [int(rng.integers(0, n)) for n in spatial]
        yield tuple(
            slice(a, int(rng.integers(a + 1, n + 1))) for a, n in zip(start, spatial, strict=True)
        )
