"""Smooth interpolation of hidden tokens, cheap enough to be made for every batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import array_namespace

from napari_ssl_pretrain.pretext.base import Array, Constants, add_masked

if TYPE_CHECKING:
    from collections.abc import Sequence

SCALES = (4.0, 1.0, 0.5, 0.3, 0.2)
"""Widths of the Gaussians of :func:`interpolate`, in tokens, coarse to fine."""

TRUST = 0.02
"""How much visible weight a finer scale needs to overrule the coarser one."""

LEAST_TRUST = 1e-6
"""The same for the coarsest one, which overrules nothing but the mean."""

FAR = 2 * math.log(1e10)
"""Squared distance, in widths, from which a Gaussian is 0: processors are slow at tiny numbers."""

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
    """Put a smooth interpolation of the visible pixels where ``hidden`` is 1.

    Parameters
    ----------
    known
        ``B C *spatial``, 0 where hidden.
    hidden
        ``B 1 *spatial``, 1.0 where hidden and 0.0 elsewhere; the same all over a token.
    token_size
        Pixels of a token on each axis, which set the scales.
    """
    visible = 1 - hidden[(..., *(slice(None, None, t) for t in token_size))]
    return add_masked(known, interpolate(known, visible, token_size), hidden)


def interpolate(images: Array, visible: Array, token_size: tuple[int, ...]) -> Array:
    """Interpolate smoothly from the visible tokens of each sample and channel, everywhere.

    Normalised convolution (Knutsson & Westin 1993, doi:10.1109/CVPR.1993.341081) at several
    scales, each a correction of the coarser one, made on cells of a few pixels and then enlarged.
    Networks see this image and learn what is to be added to it, so that they begin at a smooth
    interpolation.

    Parameters
    ----------
    images
        ``B C *spatial``, finite; what is not visible has no influence.
    visible
        Token grid ``B 1 *grid``, 1.0 where visible and 0.0 elsewhere.
    token_size
        Pixels of a token on each axis, which set the scales.
    """
    steps = [cell_size(t) for t in token_size]
    sides = [t // s for t, s in zip(token_size, steps, strict=True)]
    spatial = list(enumerate(zip(images.shape[2:], steps, strict=True), start=2))
    made, cells = Constants(images), images
    for axis, (size, step) in spatial:
        cells = cells if step == 1 else made.along(cells, axis, pool_matrix, size, step)
    cells = cells * enlarge(visible, sides)
    guess = _cascade(cells, visible, sides, _widths(token_size, steps))
    return _to_pixels(guess, steps, tuple(images.shape))


def enlarge(tokens: Array, sides: Sequence[int]) -> Array:
    """Repeat each value of ``B C *grid`` as often as ``sides`` says on each spatial axis."""
    xp = array_namespace(tokens)
    for axis, side in reversed(list(enumerate(sides, start=2))):
        # the last axis first, so that whole rows are copied along the others
        before, after = tuple(tokens.shape[: axis + 1]), tuple(tokens.shape[axis + 1 :])
        if side > 1:
            tokens = xp.broadcast_to(
                xp.expand_dims(tokens, axis=axis + 1), (*before, side, *after)
            ).reshape(*before[:-1], before[-1] * side, *after)
    return tokens


def _widths(token_size: Sequence[int], steps: Sequence[int]) -> list[tuple[float, ...]]:
    """Return the widths of the Gaussians on each axis, in cells.

    A cell is a box already, which widens what it is blurred with.
    """
    return [
        tuple(math.sqrt(max(0.3, scale * t) ** 2 - (s * s - 1) / 12) / s for scale in SCALES)
        for t, s in zip(token_size, steps, strict=True)
    ]


def _cascade(
    cells: Array, visible: Array, sides: Sequence[int], widths: Sequence[tuple[float, ...]]
) -> Array:
    """Interpolate from cells ``B C *cells`` that are 0 where hidden; ``*cells B C``."""
    xp = array_namespace(cells)
    axes = tuple(range(2, cells.ndim))
    count = xp.sum(visible, axis=axes) * math.prod(sides)
    guess = xp.sum(cells, axis=axes) / xp.where(count > 0, count, xp.ones_like(count))
    sizes = list(zip(cells.shape[2:], sides, widths, strict=True))
    values = _blurred(cells, [(gaussian_matrices, n, w) for n, _, w in sizes])
    weights = _blurred(visible, [(token_blurs, n, side, w) for n, side, w in sizes])
    trusts = [LEAST_TRUST, *[TRUST] * (len(SCALES) - 1)]
    for trust, value, weight in zip(trusts, values, weights, strict=True):
        guess = (value + guess * trust) / (weight + trust)
    return guess


def _blurred(images: Array, makers: Sequence[tuple[Any, ...]]) -> Array:
    """Blur ``B C *spatial`` at all scales at once to ``scale *spatial B C``.

    Each product takes the last axis away and puts it before the others, so that nothing is copied.
    """
    made, shape = Constants(images), tuple(images.shape)
    xp, blurred = array_namespace(images), images[None]
    for make, *words in reversed(makers):
        matrices, rows = made.get(make, *words), blurred.reshape(blurred.shape[0], -1, shape[-1])
        blurred = matrices @ xp.matrix_transpose(rows)
        shape = (matrices.shape[1], *shape[:-1])
    return blurred.reshape(-1, *shape)


def _to_pixels(guess: Array, steps: Sequence[int], shape: tuple[int, ...]) -> Array:
    """Enlarge ``*cells B C`` to ``B C *spatial``; each product puts the first axis last."""
    made = Constants(guess)
    for size, step in zip(shape[2:], steps, strict=True):
        rows = guess.reshape(size // step, -1).T
        guess = rows if step == 1 else rows @ made.get(cubic_matrix, size, step).T
    return guess.reshape(*shape)


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


def gaussian_matrix(size: int, sigma: float) -> np.ndarray:
    """Return the matrix (size by size) of a Gaussian blur, not normalised at the borders."""
    distance = np.arange(size)[:, None] - np.arange(size)[None]
    weights = np.exp(-0.5 * (distance / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    matrix: np.ndarray = np.where(distance**2 < FAR * sigma**2, weights, 0).astype(np.float32)
    return matrix


def gaussian_matrices(size: int, widths: tuple[float, ...]) -> np.ndarray:
    """Return the matrix of each width."""
    return np.stack([gaussian_matrix(size, width) for width in widths])


def token_blurs(size: int, token: int, widths: tuple[float, ...]) -> np.ndarray:
    """Return the matrices that enlarge tokens to cells and blur these."""
    blurs = gaussian_matrices(size, widths).astype(np.float64)
    blurs = blurs.reshape(len(widths), size, -1, token).sum(axis=3)
    matrices: np.ndarray = blurs.astype(np.float32)
    return matrices
