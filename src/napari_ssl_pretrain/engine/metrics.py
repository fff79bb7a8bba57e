"""Scores of test images, in the images' own units and as they are written (after rounding).

An image is an array ``C *spatial``, or a sequence of such frames of one shape, which are scored
together. Pixels that are NaN or infinite in the original do not count. Every score is finite.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_ssl_pretrain.engine.inpaint import smooth_inpaint

Frames = np.ndarray | Sequence[np.ndarray]

PSNR_CAP = 100.0
"""Peak signal-to-noise ratio of equal images in dB, which would be infinite otherwise."""

SSIM_WINDOW = 7
"""Side of the window in pixels; smaller, but odd, in images with a shorter side."""

SLAB_PIXELS = 2**22
"""Pixels that are compared at once."""

CRAPPIFY_COLUMNS = ("psnr", "ssim", "mae", "mse", "psnr_input", "ssim_input")
MASKING_COLUMNS = ("hidden_mse", "hidden_mse_mean", "hidden_mse_inpaint")


def crappify_scores(original: Frames, restored: Frames, worsened: Frames) -> dict[str, float]:
    """Score a restored image, and the worsened one that it came from.

    Parameters
    ----------
    original, restored, worsened
        Frames ``C *spatial`` in the image's own units.

    Returns
    -------
    ``psnr``, ``ssim``, ``mae``, ``mse`` of the restored, ``psnr_input`` and ``ssim_input`` of the
    worsened image. The range of all is :func:`data_range`.
    """
    truth = _frames(original)
    extent = data_range(truth)
    after = _compare(truth, _frames(restored), extent)
    before = _compare(truth, _frames(worsened), extent)
    return {
        "psnr": after.psnr,
        "ssim": after.ssim,
        "mae": after.mae,
        "mse": after.mse,
        "psnr_input": before.psnr,
        "ssim_input": before.ssim,
    }


def masking_scores(
    original: Frames,
    reconstruction: Frames,
    hidden: Frames,
    inpainted: Frames | None = None,
) -> dict[str, float]:
    """Score what was reconstructed at hidden pixels, beside two baselines that learn nothing.

    Each channel is scaled to zero mean and unit variance over the whole image; a constant one is
    only shifted.

    Parameters
    ----------
    original, reconstruction
        Frames ``C *spatial`` in the image's own units.
    hidden
        Frames ``*spatial``, boolean.
    inpainted
        The original with its hidden pixels filled by :func:`smooth_inpaint`; None to do it here.

    Returns
    -------
    Mean squared error over the hidden pixels of all channels: ``hidden_mse`` of the
    reconstruction, ``hidden_mse_mean`` of the mean of the channel's visible pixels, and
    ``hidden_mse_inpaint``. All are 0 where nothing is hidden.
    """
    truth, output = _frames(original), _frames(reconstruction)
    covers = [np.asarray(h, bool) for h in _frames(hidden)]
    smooth = None if inpainted is None else _frames(inpainted)
    whole, seen = _moments(truth, None), _moments(truth, covers)
    level = whole.scale(np.where(seen.count > 0, seen.mean, whole.mean))
    sums, count = np.zeros(3), 0
    for k, (frame, cover) in enumerate(zip(truth, covers, strict=True)):
        unit = whole.scale(frame).astype(np.float32)
        scored = cover & np.isfinite(unit)
        fill = smooth_inpaint(unit, cover) if smooth is None else whole.scale(smooth[k])
        guesses = (whole.scale(output[k]), _upright(level, unit), fill)
        sums += [float(np.sum((_finite(g) - unit)[scored] ** 2)) for g in guesses]
        count += int(scored.sum())
    return dict(zip(MASKING_COLUMNS, (sums / max(count, 1)).tolist(), strict=True))


def mean_scores(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each column over the test images; empty where there are none."""
    return {name: float(np.mean([row[name] for row in rows])) for name in (rows[0] if rows else ())}


def data_range(original: Frames) -> float:
    """Return ``max - min(0, min)`` over the finite pixels; 1 where that is 0 or does not exist."""
    low, high = 0.0, -math.inf
    for frame in _frames(original):
        pixels = frame[np.isfinite(frame)] if frame.dtype.kind == "f" else frame
        if pixels.size:
            low, high = min(low, float(pixels.min())), max(high, float(pixels.max()))
    extent = high - low
    return extent if 0 < extent < math.inf else 1.0


def psnr(mse: float, extent: float) -> float:
    """Return the peak signal-to-noise ratio in dB, at most :data:`PSNR_CAP`."""
    if mse <= 0:
        return PSNR_CAP
    return min(PSNR_CAP, 20 * math.log10(extent) - 10 * math.log10(mse))


def ssim(original: np.ndarray, other: np.ndarray, extent: float) -> float:
    """Return the structural similarity of two finite images ``C *spatial``, mean over channels.

    scikit-image's, with the uniform window of Wang et al. (2004), doi:10.1109/TIP.2003.819861.
    The window reaches along all spatial axes of three pixels or more. Planes along a shorter axis
    are compared one by one, and an image without a longer axis as one window.
    """
    spatial = original.shape[1:]
    short = [k for k, size in enumerate(spatial, start=1) if size < 3]  # noqa: PLR2004
    if len(short) == len(spatial):
        return _ssim_of_one_window(original, other, extent)
    a, b = (_to_channels(image, short) for image in (original, other))
    side = min(SSIM_WINDOW, *a.shape[1:])
    return _mean_ssim(a, b, extent, side - (side % 2 == 0))


def _mean_ssim(a: np.ndarray, b: np.ndarray, extent: float, side: int) -> float:
    """Average over the places of the window, slab by slab for the sake of memory."""
    from skimage import metrics  # noqa: PLC0415 - slow, not needed before

    similarity: Any = metrics.structural_similarity
    total, ends = 0.0, side // 2
    places = a.shape[1] - 2 * ends
    for first, last in _slabs(places, a[0, 0].size):
        for x, y in zip(a[:, first : last + 2 * ends], b[:, first : last + 2 * ends], strict=True):
            pair = (x.astype(np.float64), y.astype(np.float64))
            total += (last - first) * similarity(*pair, data_range=extent, win_size=side)
    return float(total / (places * len(a)))


def _slabs(length: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut an axis, of ``length`` slices of ``size`` pixels, into slabs that fit in memory."""
    thick = max(1, SLAB_PIXELS // max(1, size))
    for first in range(0, length, thick):
        yield first, min(first + thick, length)


def _to_channels(image: np.ndarray, axes: list[int]) -> np.ndarray:
    """Move axes to the front and merge them with the channels."""
    moved = np.moveaxis(image, axes, range(1, len(axes) + 1))
    return moved.reshape(-1, *moved.shape[len(axes) + 1 :])


def _ssim_of_one_window(original: np.ndarray, other: np.ndarray, extent: float) -> float:
    a, b = (x.astype(np.float64).reshape(len(x), -1) for x in (original, other))
    flat, contrast = (0.01 * extent) ** 2, (0.03 * extent) ** 2
    mean_a, mean_b = a.mean(axis=1), b.mean(axis=1)
    covariance = (a * b).mean(axis=1) - mean_a * mean_b
    top = (2 * mean_a * mean_b + flat) * (2 * covariance + contrast)
    bottom = (mean_a**2 + mean_b**2 + flat) * (a.var(axis=1) + b.var(axis=1) + contrast)
    return float(np.mean(top / bottom))


@dataclass(frozen=True)
class _Comparison:
    psnr: float
    ssim: float
    mae: float
    mse: float


def _compare(
    truth: Sequence[np.ndarray], others: Sequence[np.ndarray], extent: float
) -> _Comparison:
    absolute = square = 0.0
    count, similar = 0, []
    for frame, other in zip(truth, others, strict=True):
        valid, result = np.isfinite(frame), _finite(other)
        for first, last in _slabs(frame.shape[1], frame[:, 0].size):
            part = np.s_[:, first:last]
            error = (result[part].astype(np.float64) - frame[part])[valid[part]]
            absolute += float(np.sum(np.abs(error)))
            square += float(np.sum(error**2))
            count += error.size
        # equal where the original is not finite, so that these pixels cost nothing
        clean = frame if valid.all() else np.where(valid, frame, result)
        similar.append(ssim(clean, result, extent))
    mse = square / max(count, 1)
    return _Comparison(psnr(mse, extent), float(np.mean(similar)), absolute / max(count, 1), mse)


@dataclass(frozen=True)
class _Moments:
    """Mean and deviation of each channel, and over how many pixels."""

    mean: np.ndarray
    deviation: np.ndarray
    count: np.ndarray

    def scale(self, values: np.ndarray) -> np.ndarray:
        """Bring ``C *spatial``, or ``C``, to zero mean and unit variance."""
        spread = np.where(self.deviation > 0, self.deviation, 1)
        unit: np.ndarray = (values - _upright(self.mean, values)) / _upright(spread, values)
        return unit


def _upright(channels: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Append axes of length one until there are as many as in ``like``."""
    return channels.reshape((-1,) + (1,) * (like.ndim - 1))


def _moments(frames: Sequence[np.ndarray], hidden: Sequence[np.ndarray] | None) -> _Moments:
    """Measure the finite pixels that are not hidden, in two passes for the sake of precision."""
    usable = [
        np.isfinite(f) & (True if hidden is None else ~hidden[k]) for k, f in enumerate(frames)
    ]
    count = np.sum([_channel_sums(use) for use in usable], axis=0)
    sums = [_channel_sums(f, use) for f, use in zip(frames, usable, strict=True)]
    mean = np.sum(sums, axis=0) / np.maximum(count, 1)
    squares = [
        _channel_sums((f - _upright(mean, f)) ** 2, use)
        for f, use in zip(frames, usable, strict=True)
    ]
    return _Moments(mean, np.sqrt(np.sum(squares, axis=0) / np.maximum(count, 1)), count)


def _channel_sums(values: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    axes = tuple(range(1, values.ndim))
    used: Any = True if where is None else where
    return np.asarray(np.sum(values, axis=axes, dtype=np.float64, where=used))


def _frames(image: Frames) -> Sequence[np.ndarray]:
    """Take one array for one frame."""
    return [image] if isinstance(image, np.ndarray) else image


def _finite(values: np.ndarray) -> np.ndarray:
    """Take 0 for what is no number, so that it spoils one pixel and not the whole score."""
    return (
        np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        if values.dtype.kind == "f"
        else values
    )
