"""*masking*: random parts are hidden, the network restores them.

He et al., "Masked autoencoders are scalable vision learners" (2022), arXiv:2111.06377.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal

import numpy as np
from array_api_compat import array_namespace
from pydantic import Field

from napari_ssl_pretrain.pretext.base import (
    Array,
    Frozen,
    Intensity,
    PretextBatch,
    RandomSource,
    add_masked,
    as_like,
)
from napari_ssl_pretrain.pretext.smooth import enlarge, interpolate

MaskType = Literal["random", "grid", "block"]

BLOCK_TOKENS = 4
"""Side of a block in tokens for ``mask_type: block``."""


class Masking(Frozen):
    """Hide tokens; the network restores them from the visible ones.

    Attributes
    ----------
    mask_ratio
        Fraction of the tokens that is hidden, exactly (rounded up to whole tokens).
    mask_type
        ``random`` tokens, a regular ``grid`` at a random place, or random blocks.
    token_size
        Pixels of a token on each spatial axis.
    normalize_target
        Ask for the target with each token at zero mean and unit variance (He et al., 3.1).
    """

    task: Literal["masking"] = "masking"
    mask_ratio: float = Field(0.75, gt=0, lt=1)
    mask_type: MaskType = "random"
    token_size: tuple[int, ...]
    normalize_target: bool = False

    def token_grid(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """Return the number of tokens on each axis of a patch, which they divide."""
        return tuple(n // t for n, t in zip(spatial, self.token_size, strict=True))

    def hidden_count(self, grid: tuple[int, ...]) -> int:
        """Return how many tokens of a grid are hidden; at least one and never all."""
        total = math.prod(grid)
        visible = min(max(1, int(total * (1 - self.mask_ratio))), max(1, total - 1))
        return total - visible

    def draw_hidden(self, batch: int, grid: tuple[int, ...], random: RandomSource) -> Array:
        """Draw which tokens are hidden: ``B *grid``, boolean, the same number in each sample."""
        score = getattr(self, f"_{self.mask_type}_score")(batch, grid, random)
        xp = array_namespace(score)
        rank = xp.argsort(xp.argsort(score, axis=-1), axis=-1)
        hidden = rank >= math.prod(grid) - self.hidden_count(grid)
        return xp.reshape(hidden, (batch, *grid))

    def _random_score(self, batch: int, grid: tuple[int, ...], random: RandomSource) -> Array:
        return random.uniform((batch, math.prod(grid)))

    def _grid_score(self, batch: int, grid: tuple[int, ...], random: RandomSource) -> Array:
        share = Fraction(1 - self.mask_ratio).limit_denominator(8)
        period = max(2, share.denominator)
        steps = [1 if period == 2 else 1 + k for k in range(len(grid))]  # noqa: PLR2004
        draws = random.uniform((batch, 1 + math.prod(grid)))
        xp = array_namespace(draws)
        place = sum(
            step * axis
            for step, axis in zip(steps, np.indices(grid).astype(np.float32), strict=True)
        )
        phase = xp.floor(draws[:, :1] * period)
        lattice = (as_like(np.asarray(place).reshape(1, -1), draws) + phase) % period
        visible = lattice < max(1, share.numerator)
        # the draws only break ties, so that the number of hidden tokens is exact
        return xp.where(visible, draws[:, 1:] * 0.5, 0.5 + draws[:, 1:] * 0.5)

    def _block_score(self, batch: int, grid: tuple[int, ...], random: RandomSource) -> Array:
        coarse = tuple(n // BLOCK_TOKENS + 2 for n in grid)
        draws = random.uniform((batch, len(grid) + math.prod(coarse) + math.prod(grid)))
        xp = array_namespace(draws)
        block = draws[:, :1] * 0
        for k, (axis, length) in enumerate(zip(np.indices(grid), coarse, strict=True)):
            shift = xp.floor(draws[:, k : k + 1] * BLOCK_TOKENS)
            place = as_like(axis.reshape(1, -1).astype(np.float32), draws)
            block = block * length + xp.floor((place + shift) / BLOCK_TOKENS)
        blocks = draws[:, len(grid) : len(grid) + math.prod(coarse)]
        score = xp.take_along_axis(blocks, xp.astype(block, xp.int64), axis=1)
        return score + 1e-4 * draws[:, len(grid) + math.prod(coarse) :]

    def to_pixels(self, hidden: Array) -> Array:
        """Enlarge a token grid ``B *grid`` to pixels ``B 1 *spatial``, boolean."""
        return enlarge(hidden[:, None], self.token_size)

    def make_batch(self, images: Array, intensity: Intensity, random: RandomSource) -> PretextBatch:
        """Hide parts of clean images ``B C *spatial`` whose sides the tokens divide."""
        grid = self.token_grid(tuple(images.shape[2:]))
        hidden = self.draw_hidden(images.shape[0], grid, random)
        return self.hide(images, intensity, hidden)

    def hide(self, images: Array, intensity: Intensity, hidden: Array) -> PretextBatch:
        """Hide the given tokens ``B *grid`` of clean images ``B C *spatial``."""
        target = intensity.normalize(images)
        xp = array_namespace(target)
        tokens = xp.astype(hidden[:, None], target.dtype)
        scored = enlarge(tokens, self.token_size)
        known = add_masked(target, target, scored, -1)
        seen = add_masked(known, interpolate(target, 1 - tokens, self.token_size), scored)
        if self.normalize_target:
            return PretextBatch(seen, self.standardize_tokens(target), seen * 0, scored, hidden)
        centre, spread = visible_moments(known, tokens)
        return PretextBatch(seen, target, seen, scored, hidden, centre, spread)

    def standardize_tokens(self, images: Array) -> Array:
        """Bring each token of ``B C *spatial`` to zero mean and unit variance."""
        xp = array_namespace(images)
        shape = list(images.shape[:2])
        for size, token in zip(images.shape[2:], self.token_size, strict=True):
            shape += [size // token, token]
        tokens = xp.reshape(images, tuple(shape))
        axes = tuple(range(3, len(shape), 2))
        mean = xp.mean(tokens, axis=axes, keepdims=True)
        spread = xp.sqrt(xp.mean((tokens - mean) ** 2, axis=axes, keepdims=True) + 1e-6)
        return xp.reshape((tokens - mean) / spread, images.shape)


LEAST_SPREAD = 0.1
"""Least deviation that a patch is divided by, over that of its image: noise stays small."""


def visible_moments(known: Array, hidden: Array) -> tuple[Array, Array]:
    """Return mean and deviation of the visible pixels of each sample and channel, ``B C 1 …``.

    A network that is shown patches divided by their own deviation knows a dim one and a bright
    one alike.

    Parameters
    ----------
    known
        ``B C *spatial``, 0 where hidden.
    hidden
        1.0 where hidden, of pixels (``B 1 *spatial``) or of the tokens that divide them.
    """
    xp = array_namespace(known)
    lead, axes = tuple(known.shape[:2]), tuple(range(2, known.ndim))
    units, one = math.prod(hidden.shape[2:]), (1,) * len(axes)
    pixels = known.reshape(*lead, -1)
    count = (units - xp.sum(hidden, axis=axes, keepdims=True)) * (pixels.shape[2] // units)
    count = xp.where(count > 0, count, xp.ones_like(count))
    mean = xp.sum(known, axis=axes, keepdims=True) / count
    length = xp.linalg.vector_norm(pixels, axis=-1).reshape(*lead, *one)
    variance = length * length / count - mean * mean
    return mean, xp.sqrt(xp.where(variance > 0, variance, variance * 0) + LEAST_SPREAD**2)
