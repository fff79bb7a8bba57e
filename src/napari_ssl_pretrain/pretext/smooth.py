"""Smooth interpolation of hidden tokens, cheap enough to be made for every batch."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from array_api_compat import array_namespace

from napari_ssl_pretrain.pretext.base import Array, Constants

SCALES = (4.0, 1.0, 0.5, 0.3, 0.2)
"""Widths of the Gaussians of :func:`fill_smooth`, in tokens, coarse to fine."""

TRUST = 0.02
"""How much visible weight a finer scale needs to overrule the coarser one."""

LEAST_TRUST = 1e-6
"""The same for the coarsest one, which overrules nothing but the mean."""

CELLS = 4
"""Cells of a token on an axis, about: as fine as the image between the pixels has to be known."""


def visible_mean(images: Array, visible: Array) -> Array:
    """Return the mean where ``visible`` (``B 1 *spatial``) is 1 as ``B C 1 …``; else 0."""
    xp = array_namespace(images)
    axes = tuple(range(2, images.ndim))
    count = xp.sum(visible, axis=axes, keepdims=True)
    count = xp.where(count > 0, count, xp.ones_like(count))
    return xp.sum(images * visible, axis=axes, keepdims=True) / count


def fill_mean(images: Array, hidden: Array) -> Array:
    """Put the mean of the visible pixels of each sample and channel where ``hidden`` is 1."""
    visible = 1 - hidden
    return images * visible + visible_mean(images, visible) * hidden


def fill_smooth(known: Array, hidden: Array, token_size: tuple[int, ...]) -> Array:
    """Interpolate smoothly from the visible pixels of each sample and channel.

    Normalised convolution (Knutsson & Westin 1993, doi:10.1109/CVPR.1993.341081) at several
    scales, each a correction of the coarser one. Networks see this image and learn what is to
    be added to it, so that they begin at a smooth interpolation.

    Parameters
    ----------
    known
        ``B C *spatial``, 0 where hidden.
    hidden
        ``B 1 *spatial``, 1.0 where hidden and 0.0 elsewhere; the same all over a token.
    token_size
        Pixels of a token on each axis, which set the scales.
    """
    tokens = 1 - hidden[(..., *(slice(None, None, t) for t in token_size))]
    guess = _cascade(known, tokens, token_size)
    guess *= hidden
    guess += known
    return guess


def _cascade(known: Array, tokens: Array, token_size: tuple[int, ...]) -> Array:
    """Return the interpolation everywhere, made on cells of a few pixels and then enlarged."""
    steps = [cell_size(t) for t in token_size]
    sides = [t // s for t, s in zip(token_size, steps, strict=True)]
    spatial = list(enumerate(zip(known.shape[2:], steps, strict=True), start=2))
    made, cells = Constants(known), known
    for axis, (size, step) in spatial:
        cells = cells if step == 1 else made.along(cells, axis, pool_matrix, size, step)
    guess = _mean(cells, tokens, math.prod(sides))
    for scale in SCALES:
        # a cell is a box already, which widens what it is blurred with
        widths = [
            math.sqrt(max(0.3, scale * t) ** 2 - (s * s - 1) / 12) / s
            for t, s in zip(token_size, steps, strict=True)
        ]
        trust = TRUST if scale < SCALES[0] else LEAST_TRUST
        values, weight = cells, tokens
        for axis, (side, width) in enumerate(zip(sides, widths, strict=True), start=2):
            size = cells.shape[axis]
            values = made.along(values, axis, gaussian_matrix, size, width)
            weight = made.along(weight, axis, token_blur, size, side, width)
        weight += trust
        guess *= trust
        values += guess
        values /= weight
        guess = values
    for axis, (size, step) in spatial:
        guess = guess if step == 1 else made.along(guess, axis, cubic_matrix, size, step)
    return guess


def _mean(cells: Array, tokens: Array, cells_a_token: int) -> Array:
    xp = array_namespace(cells)
    axes = tuple(range(2, cells.ndim))
    count = xp.sum(tokens, axis=axes, keepdims=True) * cells_a_token
    count = xp.where(count > 0, count, xp.ones_like(count))
    return xp.sum(cells, axis=axes, keepdims=True) / count


def cell_size(token: int) -> int:
    """Return the pixels of a cell: the largest part of a token that leaves it enough cells."""
    return max((d for d in range(1, token // CELLS + 1) if token % d == 0), default=1)


def pool_matrix(size: int, step: int) -> np.ndarray:
    """Return the matrix of the means of cells."""
    return np.kron(np.eye(size // step), np.full((1, step), 1 / step)).astype(np.float32)


def cubic_matrix(size: int, step: int) -> np.ndarray:
    """Return the matrix that enlarges cells to pixels by cubic convolution, straight at the ends.

    Keys, "Cubic convolution interpolation for digital image processing" (1981),
    doi:10.1109/TASSP.1981.1163711.
    """
    cells = size // step
    place = (np.arange(size)[:, None] + 0.5) / step + 1.5  # two cells lie before the first
    far = np.abs(place - np.arange(cells + 4))
    near = (1.5 * far - 2.5) * far**2 + 1
    wide = ((2.5 - 0.5 * far) * far - 4) * far + 2
    weights = np.where(far <= 1, near, np.where(far < 2, wide, 0.0))  # noqa: PLR2004
    ends = np.zeros((cells + 4, cells))
    ends[2:-2] = np.eye(cells)
    ends[:2, :2] = (3, -2), (2, -1)
    ends[-2:, -2:] = (-1, 2), (-2, 3)
    return (weights @ ends).astype(np.float32)


@lru_cache(maxsize=256)
def gaussian_matrix(size: int, sigma: float) -> np.ndarray:
    """Return the matrix (size by size) of a Gaussian blur, not normalised at the borders."""
    distance = np.arange(size)[:, None] - np.arange(size)[None]
    weights = np.exp(-0.5 * (distance / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    matrix: np.ndarray = weights.astype(np.float32)
    return matrix


def token_blur(size: int, token: int, sigma: float) -> np.ndarray:
    """Return the matrix that enlarges tokens to pixels and blurs these."""
    blur = gaussian_matrix(size, sigma).astype(np.float64)
    matrix: np.ndarray = blur.reshape(size, -1, token).sum(axis=2).astype(np.float32)
    return matrix
