"""*crappify*: images are worsened by Gaussian noise and by down- and up-sampling.

Franco-Barranco et al., "Deep learning based domain adaptation for mitochondria segmentation
on EM volumes" (2022), after Fang et al., "Deep learning-based point-scanning super-resolution
imaging", Nature Methods 18:406-416 (2021), doi:10.1038/s41592-021-01080-z. As in the documented
workflow the noise comes *before* the down-sampling. Unlike it, all arithmetic is in float and
the result is rounded once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from array_api_compat import array_namespace, device
from pydantic import Field

from napari_ssl_pretrain.pretext.base import (
    Array,
    Frozen,
    Intensity,
    PretextBatch,
    RandomSource,
    as_like,
    expand,
)


class Crappify(Frozen):
    """Worsen by noise, then by down- and up-sampling; the network restores.

    Attributes
    ----------
    noise
        Standard deviation of the noise as a fraction of the image's maximum (of its range
        from ``min(0, smallest)`` to the maximum where there are negative values).
    axis_factors
        Down-sampling factor of each spatial axis, each at least 1.
    """

    task: Literal["crappify"] = "crappify"
    noise: float = Field(0.2, ge=0, le=1)
    axis_factors: tuple[float, ...]

    def worsen(self, images: Array, intensity: Intensity, random: RandomSource) -> Array:
        """Worsen images ``B C *spatial`` in their own units; nothing is rounded."""
        worse = images
        if self.noise > 0:
            xp = array_namespace(images)
            low, high = expand(intensity.low, images), expand(intensity.high, images)
            worse = images + random.normal(images.shape) * (self.noise * (high - low))
            worse = xp.minimum(xp.maximum(worse, low), high)
        return self.resample(worse)

    def resample(self, images: Array) -> Array:
        """Down- and up-sample ``B C *spatial`` linearly, without smoothing, on every axis."""
        for offset, factor in enumerate(reversed(self.axis_factors), start=1):
            size = images.shape[-offset]
            small = max(1, int(size / factor))
            if small < size:
                images = resize_axis(resize_axis(images, small, -offset), size, -offset)
        return images

    def make_batch(self, images: Array, intensity: Intensity, random: RandomSource) -> PretextBatch:
        """Worsen clean images ``B C *spatial`` and pair them with themselves."""
        return self.pair(self.worsen(images, intensity, random), images, intensity)

    def pair(self, worsened: Array, clean: Array, intensity: Intensity) -> PretextBatch:
        """Pair worsened with clean images, both normalised by the worsened image's statistics."""
        seen = intensity.normalize(worsened)
        return PretextBatch(seen, intensity.normalize(clean), seen, None, None)


def resize_axis(images: Array, size_out: int, axis: int) -> Array:
    """Resize along one axis by linear interpolation with half-pixel centres.

    Equal to ``skimage.transform.resize(order=1, mode="reflect", anti_aliasing=False)`` along
    that axis: beyond the border the image is mirrored about its outermost pixel.
    """
    xp = array_namespace(images)
    before, after, weight = linear_taps(images.shape[axis], size_out)
    share = as_like(weight.reshape(-1, *(1,) * (-axis - 1)), images)
    left, right = (
        xp.take(images, xp.asarray(index, device=device(images)), axis=axis)
        for index in (before, after)
    )
    return left + (right - left) * share


@lru_cache(maxsize=256)
def linear_taps(size_in: int, size_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two source pixels of each output pixel, and the share of the second."""
    centre = (np.arange(size_out) + 0.5) * size_in / size_out - 0.5
    left = np.floor(centre).astype(np.int64)
    weight = (centre - left).astype(np.float32)
    return mirror(left, size_in), mirror(left + 1, size_in), weight


def mirror(index: np.ndarray, size: int) -> np.ndarray:
    """Fold indices beyond ``[0, size)`` back, mirrored about the outermost pixels."""
    if size == 1:
        return np.zeros_like(index)
    folded = np.abs(index) % (2 * size - 2)
    mirrored: np.ndarray = np.minimum(folded, 2 * size - 2 - folded)
    return mirrored
