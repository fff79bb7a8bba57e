"""A multilevel preconditioner for the spline that fills hidden pixels.

Bramble, Pasciak & Xu (1990), doi:10.1090/S0025-5718-1990-1023042-6: a residual is taken to
coarser and coarser grids, divided by the operator's diagonal on each, and all are added up. The
energy has second derivatives, so the functions of a coarse grid are quadratic B-splines, which
have them, and only those are used that end before the next visible pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_LENGTH = 9
"""Pixels of the line on which the functions of a grid are measured; the spline ends within it."""


class Preconditioner:
    """An approximate inverse of the energy's second derivative over the free pixels of a grid.

    Parameters
    ----------
    free
        The grid's pixels that are sought.
    weights, tension
        The energy, in units of the grid.
    coarser
        Of each coarser grid the axes (counted from 0) along which the one before is halved, and
        its own free pixels: those that hold no visible pixel.
    """

    def __init__(
        self,
        free: np.ndarray,
        weights: Sequence[float],
        tension: float,
        coarser: Sequence[tuple[tuple[int, ...], np.ndarray]],
    ) -> None:
        self._free = free.astype(np.float32)
        halvings = [0] * free.ndim
        self._share = np.float32(1 / _diagonal(weights, tension, halvings))
        self._shares: list[np.ndarray] = []
        self._axes: list[tuple[int, ...]] = []
        self._shapes = [free.shape]
        for axes, unseen in coarser:
            inside = _inside(unseen)
            if not inside.any():
                break
            halvings = [h + (axis in axes) for axis, h in enumerate(halvings)]
            share = np.float32(1 / _diagonal(weights, tension, halvings))
            self._shares.append(inside.astype(np.float32) * share)
            self._axes.append(axes)
            self._shapes.append(unseen.shape)

    def __call__(self, residual: np.ndarray) -> np.ndarray:
        """Return about the step that a residual ``C *spatial``, 0 but at free pixels, asks for."""
        parts, coarse = [], residual
        for axes, share in zip(self._axes, self._shares, strict=True):
            coarse = _restrict(coarse, axes)
            parts.append(coarse * share)
        step: np.ndarray | None = None
        finer = zip(self._axes, self._shapes, strict=False)
        for own, (axes, shape) in zip(reversed(parts), reversed(list(finer)), strict=True):
            step = _prolong(own if step is None else own + step, axes, shape)
        if step is None:
            return residual * self._share
        step *= self._free
        step += residual * self._share
        return step


def _inside(free: np.ndarray) -> np.ndarray:
    """Return the free pixels whose neighbours are free as well; beyond the border all are."""
    for axis in range(free.ndim):
        below, above = _ends(axis)
        inside = free.copy()
        inside[below] &= free[above]
        inside[above] &= free[below]
        free = inside
    return free


def _ends(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    before = (slice(None),) * axis
    return (*before, slice(None, -1)), (*before, slice(1, None))


def _prolong(values: np.ndarray, axes: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Refine coefficients ``C *spatial`` of quadratic B-splines to a grid of twice the pixels."""
    for axis in axes:
        place = axis + 1
        near, far = values * np.float32(0.75), values * np.float32(0.25)
        fine = np.empty((*values.shape[:place], 2, *values.shape[place:]), np.float32)
        first, second = np.moveaxis(fine, place, 0)
        np.add(near, far, out=first)
        np.add(near, far, out=second)
        below, above = _ends(place)
        np.add(near[above], far[below], out=first[above])
        np.add(near[below], far[above], out=second[below])
        fine = np.moveaxis(fine, place, place + 1)
        wide = fine.reshape(*values.shape[:place], -1, *values.shape[place + 1 :])
        values = wide[(*(slice(None),) * place, slice(0, shape[axis]))]
    return np.asarray(values)


def _restrict(values: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """Do the transpose of :func:`_prolong`."""
    for axis in axes:
        place = axis + 1
        before = (slice(None),) * place
        first, second = values[(*before, slice(0, None, 2))], values[(*before, slice(1, None, 2))]
        coarse = np.array(first)
        pairs = (*before, slice(0, second.shape[place]))
        coarse[pairs] += second
        coarse *= np.float32(0.75)
        first, second = first * np.float32(0.25), second * np.float32(0.25)
        start, end = (*before, slice(0, 1)), (*before, slice(-1, None))
        coarse[start] += first[start]
        coarse[(*before, slice(None, -1))] += first[(*before, slice(1, None))]
        coarse[(*before, slice(1, None))] += second[(*before, slice(0, coarse.shape[place] - 1))]
        if second.shape[place] == coarse.shape[place]:
            coarse[end] += second[end]
        values = coarse
    return np.asarray(values)


def _diagonal(weights: Sequence[float], tension: float, halvings: Sequence[int]) -> float:
    """Return the energy of one function of a coarse grid, in units of the fine one."""
    lines = [_spline(count) for count in halvings]
    sizes = [float(np.sum(line**2)) for line in lines]
    slopes = [w * float(np.sum(np.diff(b) ** 2)) / n
              for b, w, n in zip(lines, weights, sizes, strict=True)]  # fmt: skip
    bends = [w * w * float(np.sum(np.diff(b, 2) ** 2)) / n
             for b, w, n in zip(lines, weights, sizes, strict=True)]  # fmt: skip
    mixed = sum(slopes) ** 2 - sum(s * s for s in slopes)
    return float(np.prod(sizes) * (tension * sum(slopes) + sum(bends) + mixed))


def _spline(halvings: int) -> np.ndarray:
    """Return one function of a grid that was halved so often, on the pixels of the finest."""
    line = np.zeros((1, _LENGTH), np.float32)
    line[0, _LENGTH // 2] = 1
    for _ in range(halvings):
        line = _prolong(line, (0,), (2 * line.shape[1],))
    return np.asarray(line[0], np.float64)
