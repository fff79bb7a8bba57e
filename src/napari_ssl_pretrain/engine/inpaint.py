"""Smooth interpolation of hidden pixels from the visible ones: the baseline of *masking*.

A spline in tension. Of all images that agree with the visible pixels it takes the one of least
``tension * |gradient|^2 + |Laplacian|^2``. Without tension that is biharmonic interpolation, which
overshoots in noisy images; with much tension it is harmonic, which bends sharply at the border of
every hole. The tension between them was better than either on electron microscopy and on nuclei.

Neighbours along a rough axis say less than those along a smooth one (the planes of an anisotropic
volume, say), so each axis is weighted by the inverse of the mean squared difference of visible
neighbours. Solved by conjugate gradients, coarse to fine, on each grid with the help of all
coarser ones (``multilevel.py``); the cost is linear in the size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_ssl_pretrain.engine.multilevel import Preconditioner

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

TENSION = 0.1
"""Weight of the gradient against the Laplacian, in units of the finest grid's pixels."""

HALVED_FROM = 0.4
"""An axis is halved where its weight is at least this part of the largest one."""

LARGE = 2**25
MARGIN = 64
"""Images of more values are filled in parts, with this many pixels of the neighbour's."""

_SMALL = 2000
"""Grids of so many pixels are searched without the help of coarser ones."""

_ITERATIONS = 300
_TOLERANCE = 1e-4
"""The search ends when a step lowers the energy by no more than this part of all steps before."""


class _Energy(NamedTuple):
    """What is minimised: weight of each spatial axis, and the tension."""

    weights: tuple[float, ...]
    tension: float

    def gradient(self, values: np.ndarray) -> np.ndarray:
        """Return half the derivative of the energy at ``C *spatial``."""
        first = self._laplacian(values)
        second = self._laplacian(first)
        first *= self.tension
        second += first
        return second

    def _laplacian(self, values: np.ndarray) -> np.ndarray:
        """Return the negative weighted Laplacian, without flow across the border."""
        result = np.zeros_like(values)
        for axis, weight in enumerate(self.weights, start=1):
            below, above = _halves(axis)
            step = values[above] - values[below]
            step *= np.float32(weight)
            result[below] -= step
            result[above] += step
        return result

    def coarser(self, axes: tuple[int, ...]) -> _Energy:
        """Return the energy on a grid that is halved along some axes (counted from 0)."""
        weights = [w / 4 if k in axes else w for k, w in enumerate(self.weights)]
        largest = max(weights)
        return _Energy(tuple(w / largest for w in weights), self.tension / largest)


def smooth_inpaint(image: ArrayLike, hidden: ArrayLike) -> np.ndarray:
    """Fill hidden pixels by smooth interpolation from the visible ones.

    Pixels that are NaN or infinite are filled as well. Where nothing is visible the image's mean
    is returned, and 0 where that does not exist.

    Parameters
    ----------
    image
        ``C *spatial``; what it holds where ``hidden`` is True is never looked at.
    hidden
        ``*spatial`` boolean.

    Returns
    -------
    ``C *spatial`` in float32 (float64 if the image is), equal to the image where it is visible.
    """
    image, hidden = np.asarray(image), np.asarray(hidden, bool)
    if image.size > LARGE and max(hidden.shape) > 4 * MARGIN:
        return _by_parts(image, hidden)
    known = np.isfinite(image) & ~hidden
    result = image.astype(np.float64 if image.dtype == np.float64 else np.float32)
    everywhere = known.all(axis=0)
    if known.all() or not everywhere.any():
        return _fill_mean(result, known)
    offset, scale = _moments(image, everywhere)
    unit = np.where(everywhere, (image - offset) / scale, 0).astype(np.float32)
    energy = _Energy(_axis_weights(unit, everywhere), TENSION)
    filled = _interpolate(unit, everywhere.astype(np.float32), energy) * scale + offset
    result[~known] = filled[~known]
    return result


def _by_parts(image: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Fill both halves of a large image, each with a margin of the other one, to save memory."""
    axis = int(np.argmax(hidden.shape))
    size = hidden.shape[axis]
    half, before = size // 2, (slice(None),) * axis
    halves = []
    for keep in (slice(0, half), slice(half, size)):
        first, last = max(0, keep.start - MARGIN), min(size, keep.stop + MARGIN)
        wide, cut = (*before, slice(first, last)), slice(keep.start - first, keep.stop - first)
        filled = smooth_inpaint(image[:, *wide], hidden[wide])
        halves.append(filled[:, *before, cut])
    return np.concatenate(halves, axis=axis + 1)


def _fill_mean(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    for channel, seen in zip(values, known, strict=True):
        channel[~seen] = channel[seen].mean() if seen.any() else 0
    return values


def _moments(image: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of the known pixels of each channel, shaped to broadcast."""
    pixels = image[:, known].astype(np.float64)
    shape = (-1,) + (1,) * known.ndim
    spread = pixels.std(axis=1)
    scale: np.ndarray = np.where(spread > 0, spread, 1).reshape(shape)
    return pixels.mean(axis=1).reshape(shape), scale


def _halves(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the indices of all but the last, and all but the first, along one axis."""
    before = (slice(None),) * axis
    return (*before, slice(None, -1)), (*before, slice(1, None))


def _axis_weights(values: np.ndarray, known: np.ndarray) -> tuple[float, ...]:
    """Return how well neighbours along each axis agree, 1 for the best axis."""
    rough = []
    for axis in range(known.ndim):
        below, above = _halves(axis)
        pairs = known[below] & known[above]
        steps = (values[:, *above] - values[:, *below])[:, pairs]
        rough.append(float(np.mean(steps**2)) if steps.size else math.nan)
    smoothest = max(np.nanmin(rough) if not np.isnan(rough).all() else 1.0, 1e-6)
    return tuple(1.0 if math.isnan(r) else smoothest / max(r, smoothest) for r in rough)


@dataclass(frozen=True)
class _Grid:
    """A grid: sums of pixels of the finest one, how many are known, and what is minimised."""

    values: np.ndarray
    count: np.ndarray
    energy: _Energy
    halved: tuple[int, ...]

    @property
    def free(self) -> np.ndarray:
        """The pixels that are sought."""
        unseen: np.ndarray = self.count == 0
        return unseen

    @property
    def mean(self) -> np.ndarray:
        """What is known, 0 elsewhere."""
        known: np.ndarray = self.values / np.maximum(self.count, 1)
        return known


def _interpolate(values: np.ndarray, count: np.ndarray, energy: _Energy) -> np.ndarray:
    """Fill the pixels of ``C *spatial`` whose ``count`` is 0.

    The solution on each grid is where the search on the next finer one begins.
    """
    *finer, coarsest = _grids(values, count, energy)
    filled = coarsest.mean
    for number in reversed(range(len(finer))):
        grid = finer[number]
        below = [*finer[number + 1 :], coarsest]
        halved = [g.halved for g in finer[number:]]
        coarser = [(axes, g.free) for axes, g in zip(halved, below, strict=True)]
        coarser = coarser if grid.count.size > _SMALL else []
        help_ = Preconditioner(grid.free, grid.energy.weights, grid.energy.tension, coarser)
        start = np.where(grid.free, _double(filled, grid.halved, grid.count.shape), grid.mean)
        filled = _minimize(start, grid.free, grid.energy, help_)
    return filled


def _grids(values: np.ndarray, count: np.ndarray, energy: _Energy) -> list[_Grid]:
    """Halve a grid until every pixel holds a known one."""
    grids: list[_Grid] = []
    while True:
        axes = _axes_to_halve(count.shape, energy.weights) if (count == 0).any() else ()
        grids.append(_Grid(values, count, energy, axes))
        if not axes:
            return grids
        values, count = _halve(values, axes, first=1), _halve(count, axes)
        energy = energy.coarser(axes)


def _axes_to_halve(shape: tuple[int, ...], weights: tuple[float, ...]) -> tuple[int, ...]:
    """Choose the axes along which neighbours are strongly bound, so that all become alike."""
    long = [k for k, size in enumerate(shape) if size > 1]
    strongest = max((weights[k] for k in long), default=0)
    return tuple(k for k in long if weights[k] >= HALVED_FROM * strongest)


def _halve(values: np.ndarray, axes: tuple[int, ...], first: int = 0) -> np.ndarray:
    """Add up pairs of pixels along some axes; an odd one at the end stays alone."""
    for axis in axes:
        size = values.shape[axis + first]
        values = np.add.reduceat(values, np.arange(0, size, 2), axis=axis + first)
    return values


def _double(values: np.ndarray, axes: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Enlarge ``C *spatial`` linearly to the finer grid's ``shape``."""
    for axis in axes:
        place = np.clip((np.arange(shape[axis]) - 0.5) / 2, 0, values.shape[axis + 1] - 1)
        left = place.astype(int)
        right = np.minimum(left + 1, values.shape[axis + 1] - 1)
        share = (place - left).astype(np.float32).reshape((-1,) + (1,) * (len(shape) - 1 - axis))
        values = values.take(left, axis + 1) * (1 - share) + values.take(right, axis + 1) * share
    return values


def _minimize(
    values: np.ndarray, free: np.ndarray, energy: _Energy, precondition: Preconditioner
) -> np.ndarray:
    """Minimise the energy over the free pixels of ``C *spatial`` by conjugate gradients."""
    unbound = free.astype(np.float32)
    residual = -energy.gradient(values) * unbound
    step = precondition(residual)
    direction = step.copy()
    left = _inner(residual, step)
    gained = np.zeros_like(left)
    for _ in range(_ITERATIONS):
        change = energy.gradient(direction)
        change *= unbound
        length = left / np.maximum(_inner(direction, change), 1e-30)
        values += length * direction
        gain = length * left
        gained += gain
        if (gain <= _TOLERANCE * gained).all():
            break
        change *= length
        residual -= change
        step = precondition(residual)
        before, left = left, _inner(residual, step)
        direction *= left / np.maximum(before, 1e-30)
        direction += step
    return values


def _inner(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the inner product of each channel, shaped to broadcast."""
    flat: np.ndarray = np.einsum("ci,ci->c", a.reshape(len(a), -1), b.reshape(len(b), -1))
    return flat.reshape((-1,) + (1,) * (a.ndim - 1)).astype(np.float32)
