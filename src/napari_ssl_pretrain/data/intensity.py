"""Normalisation as ``(x - offset) / scale``, measured over whole images block by block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_ssl_pretrain.data.boxes import cut, is_sampled, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from napari_ssl_pretrain.data.images import Image

Normalization = Literal["zscore", "percentile", "minmax", "divide", "custom"]
Statistics = tuple[np.ndarray, np.ndarray]

PERCENTILES = (1.0, 99.8)
"""Brightness that ``percentile`` maps to 0 and to 1."""

_SAMPLE = 1 << 24
_BLOCK_BYTES = 1 << 26
_PART = 1 << 18
_SMALLEST = 1e-12


@dataclass(frozen=True)
class ImageIntensity:
    """The brightness of an image; every number is finite, also for constant images.

    Attributes
    ----------
    offset, scale
        Normalisation of each channel; ``scale`` is positive.
    low, high
        ``min(0, smallest)`` and the largest value over all channels.
    mean
        Mean of each channel, which stands in for pixels that are not finite.
    nonfinite
        Number of such pixels.
    """

    offset: np.ndarray
    scale: np.ndarray
    low: float
    high: float
    mean: np.ndarray
    nonfinite: int = 0


class _Moments:
    """Count, mean, squared deviations and range of each channel, gathered block by block."""

    def __init__(self, channels: int) -> None:
        self.count = np.zeros(channels, np.int64)
        self.mean = np.zeros(channels)
        self.squares = np.zeros(channels)
        self.low = np.full(channels, np.inf)
        self.high = np.full(channels, -np.inf)
        self.nonfinite = 0

    def add(self, block: np.ndarray) -> None:
        """Take in the pixels of one block, ``C *spatial``."""
        for channel, values in enumerate(block):
            good = _finite_values(values)
            self.nonfinite += values.size - good.size
            if good.size:
                mean = float(good.mean(dtype=np.float64))
                self._merge(channel, good.size, mean, float(_squares(good, mean)))
                self.low[channel] = min(self.low[channel], good.min())
                self.high[channel] = max(self.high[channel], good.max())

    def _merge(self, channel: int, count: int, mean: float, squares: float) -> None:
        """Merge moments as Chan et al. (1983) do, which loses no digits."""
        before = int(self.count[channel])
        delta = mean - self.mean[channel]
        total = before + count
        self.mean[channel] += delta * count / total
        self.squares[channel] += squares + delta * delta * before * count / total
        self.count[channel] = total

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of each channel."""
        return np.sqrt(self.squares / np.maximum(self.count, 1))


def measure(
    image: Image,
    normalization: Normalization,
    custom: Statistics | None = None,
    memory_gb: float = 0.25,
    progress: Callable[[int, int], None] | None = None,
) -> ImageIntensity:
    """Measure an image, all its frames, in blocks; a huge one in boxes spread over it.

    Parameters
    ----------
    image
        The image.
    normalization
        How to normalise it.
    custom
        Mean and standard deviation of each channel of the training set, for ``custom``.
    memory_gb
        Memory for the pixels of floating-point images of which percentiles are wanted; larger
        ones are sampled evenly.
    progress
        Told the number of pixels read, and of all that are to be.

    Raises
    ------
    DataError
        The pixels cannot be decoded.
    ValueError
        ``custom`` is wanted and not given.
    """
    voxels = image.frames * math.prod(image.spatial)
    ranks = _Ranks(image.info.dtype, image.in_channels, voxels, memory_gb)
    parts = blocks(image) if progress is None else _counted(image, progress)
    return _measure(parts, ranks, image.info.dtype, normalization, custom)


def measure_blocks(
    parts: Iterable[np.ndarray],
    image: Image,
    normalization: Normalization,
    custom: Statistics | None = None,
) -> ImageIntensity:
    """Measure what was made of parts of an image, each ``C *spatial`` in the image's dtype.

    Raises
    ------
    ValueError
        ``custom`` is wanted and not given.
    """
    ranks = _Ranks(image.info.dtype, image.in_channels, _SAMPLE * 2, 0.0)
    return _measure(parts, ranks, image.info.dtype, normalization, custom)


def measure_array(
    array: np.ndarray, normalization: Normalization, custom: Statistics | None = None
) -> ImageIntensity:
    """Measure an array ``C *spatial`` as :func:`measure` does an image.

    Raises
    ------
    ValueError
        ``custom`` is wanted and not given.
    """
    ranks = _Ranks(array.dtype, len(array), array[0].size, math.inf)
    return _measure([array], ranks, array.dtype, normalization, custom)


def _measure(
    parts: Iterable[np.ndarray],
    ranks: _Ranks,
    dtype: np.dtype,
    normalization: Normalization,
    custom: Statistics | None,
) -> ImageIntensity:
    moments = _Moments(ranks.channels)
    for block in parts:
        moments.add(block)
        if normalization == "percentile":
            ranks.add(block)
    return _intensity(moments, ranks, dtype, normalization, custom)


def training_set_statistics(images: Sequence[Image]) -> Statistics:
    """Return mean and standard deviation of each channel over the voxels of all images.

    Raises
    ------
    DataError
        The pixels of an image cannot be decoded.
    """
    moments = _Moments(images[0].in_channels)
    for image in images:
        for block in blocks(image):
            moments.add(block)
    return moments.mean, _positive(moments.std)


def finite(array: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """Return ``C *spatial`` as float32 with a value for each channel where it is not finite."""
    with np.errstate(over="ignore"):
        result = np.array(array, np.float32)
    if array.dtype.kind == "f":
        bad = ~np.isfinite(result)
        if bad.any():
            values = np.asarray(fill, np.float32).reshape(-1, *(1,) * (array.ndim - 1))
            np.copyto(result, values, where=bad)
    return result


def blocks(image: Image) -> Iterator[np.ndarray]:
    """Read all frames of an image in boxes of limited memory; of a huge one, boxes spread over it.

    Raises
    ------
    DataError
        The pixels cannot be decoded.
    """
    if is_sampled(image):
        for frame, box in spread(image):
            yield image.read(frame, box)
        return
    voxels = _BLOCK_BYTES // (image.in_channels * image.info.dtype.itemsize)
    for frame in range(image.frames):
        for box in cut(image.spatial, voxels):
            yield image.read(frame, box)


def _counted(image: Image, progress: Callable[[int, int], None]) -> Iterator[np.ndarray]:
    """Read the blocks of an image and tell how many pixels were."""
    done, total = 0, image.frames * image.in_channels * math.prod(image.spatial)
    if is_sampled(image):
        sizes = [math.prod(s.stop - s.start for s in box) for _, box in spread(image)]
        total = image.in_channels * sum(sizes)
    for block in blocks(image):
        yield block
        done += block.size
        progress(done, total)


def _intensity(
    moments: _Moments,
    ranks: _Ranks,
    dtype: np.dtype,
    normalization: Normalization,
    custom: Statistics | None,
) -> ImageIntensity:
    seen = moments.count > 0
    low, high = np.where(seen, moments.low, 0.0), np.where(seen, moments.high, 0.0)
    offset, scale = _normalizer(moments, ranks, dtype, normalization, custom)
    return ImageIntensity(
        np.where(seen, offset, 0.0),
        _positive(np.where(seen, scale, 1.0)),
        float(min(0.0, low.min())),
        float(high.max()),
        moments.mean.copy(),
        moments.nonfinite,
    )


def _normalizer(
    moments: _Moments,
    ranks: _Ranks,
    dtype: np.dtype,
    normalization: Normalization,
    custom: Statistics | None,
) -> Statistics:
    if normalization == "zscore":
        return moments.mean, moments.std
    if normalization == "minmax":
        return moments.low, moments.high - moments.low
    if normalization == "percentile":
        low, high = ranks.percentiles(PERCENTILES)
        return low, high - low
    if normalization == "divide":
        return np.zeros_like(moments.mean), _full_range(moments, dtype)
    if custom is None:
        raise ValueError("custom normalisation needs the statistics of the training set")
    return np.asarray(custom[0], np.float64), np.asarray(custom[1], np.float64)


def _full_range(moments: _Moments, dtype: np.dtype) -> np.ndarray:
    """Return what ``divide`` divides by.

    The largest number of 8- and 16-bit integers. Wider types have no range that images fill:
    1 where no value is beyond it, else the largest magnitude in the image.
    """
    if dtype.kind in "ui" and dtype.itemsize <= 2:  # noqa: PLR2004
        return np.full_like(moments.mean, float(np.iinfo(dtype).max))
    largest = float(np.maximum(np.abs(moments.low), np.abs(moments.high)).max())
    return np.full_like(moments.mean, largest if 1 < largest < math.inf else 1.0)


def _positive(scale: np.ndarray) -> np.ndarray:
    """Replace what cannot be divided by (constant images) by 1."""
    return np.where(np.isfinite(scale) & (scale > _SMALLEST), scale, 1.0)


def _finite_values(values: np.ndarray) -> np.ndarray:
    """Return the finite values, flat; the array itself where it is of integers."""
    if values.dtype.kind != "f":
        return values.ravel()
    # networks compute in single precision, in which larger numbers are infinite
    largest = min(np.finfo(values.dtype).max, np.float64(np.finfo(np.float32).max))
    good = np.abs(values) <= largest
    flat = values.ravel() if good.all() else values[good]
    return flat.astype(np.float64) if flat.dtype == np.float16 else flat


def _squares(values: np.ndarray, mean: float) -> float:
    """Return the sum of squared deviations in double precision."""
    centred = (np.subtract(part, mean, dtype=np.float64) for part in _parts(values))
    return sum(float(np.square(part, out=part).sum()) for part in centred)


def _parts(values: np.ndarray) -> Iterator[np.ndarray]:
    """Cut flat values into parts whose copies in double precision stay in the cache."""
    return (values[start : start + _PART] for start in range(0, values.size, _PART))


class _Ranks:
    """Percentiles: exact by counting for 8- and 16-bit integers, else from the pixels kept."""

    def __init__(self, dtype: np.dtype, channels: int, voxels: int, memory_gb: float) -> None:
        self.channels = channels
        self._counted = dtype.kind in "ui" and dtype.itemsize <= 2  # noqa: PLR2004
        self._lowest = int(np.iinfo(dtype).min) if self._counted else 0
        self._bins = 1 << (8 * dtype.itemsize) if self._counted else 0
        self._counts = np.zeros((channels, self._bins), np.int64)
        self._kept: list[list[np.ndarray]] = [[] for _ in range(channels)]
        fits = voxels * channels * dtype.itemsize * 2 <= memory_gb * 1e9
        self._step = 1 if fits else max(1, -(-voxels // _SAMPLE))

    def add(self, block: np.ndarray) -> None:
        """Take in the pixels of one block, ``C *spatial``."""
        for channel, values in enumerate(block):
            if self._counted:
                for part in _parts(values.ravel()):
                    shifted = part.astype(np.int64) - self._lowest
                    self._counts[channel] += np.bincount(shifted, minlength=self._bins)
            else:
                self._kept[channel].append(_finite_values(values.ravel()[:: self._step]))

    def percentiles(self, percents: Sequence[float]) -> np.ndarray:
        """Return percentiles (percentile by channel), interpolated linearly as numpy does."""
        return np.array([self._of_channel(c, percents) for c in range(self.channels)]).T

    def _of_channel(self, channel: int, percents: Sequence[float]) -> list[float]:
        if not self._counted:
            values = np.concatenate([np.zeros(0), *self._kept[channel]])
            return (
                [float(p) for p in np.percentile(values, percents)] if values.size else [0.0, 1.0]
            )
        cumulative = np.cumsum(self._counts[channel])
        found = []
        for percent in percents:
            place = percent / 100 * (int(cumulative[-1]) - 1)
            below, above = math.floor(place), math.ceil(place)
            low, high = np.searchsorted(cumulative, [below, above], side="right") + self._lowest
            found.append(float(low + (high - low) * (place - below)))
        return found
