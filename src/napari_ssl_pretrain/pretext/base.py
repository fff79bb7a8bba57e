"""What every pretext task shares: the batch it makes, the intensities it knows, its randomness.

Arrays are ``B C *spatial`` float32 of any array library (numpy and torch are tested);
``hidden`` means that the network cannot see a pixel, ``scored`` that it counts in the loss.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np
from array_api_compat import array_namespace, device
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Array = Any  # numpy.ndarray or torch.Tensor: one arithmetic serves both


class Frozen(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, validated again (``model_copy`` would not)."""
        return type(self).model_validate(self.model_dump() | changes)


class PretextBatch(NamedTuple):
    """What the network is shown and asked for, in normalised units.

    Attributes
    ----------
    input
        What the network sees, ``B C *spatial``.
    target
        What it should return, ``B C *spatial``.
    base
        What its output is added to, ``B C *spatial``: the network learns a residual and
        begins at this image.
    scored
        1.0 where the loss counts and 0.0 elsewhere, ``B 1 *spatial``; None means everywhere.
    hidden
        Token grid, ``B *grid`` boolean, True where the network cannot see; None for tasks
        that hide nothing.
    centre, spread
        Brightness of each sample that the network is spared, broadcast over ``B C *spatial``:
        it sees ``(input - centre) / spread``, and its output is multiplied by ``spread``. None
        shows it the input as it is.
    """

    input: Array
    target: Array
    base: Array
    scored: Array | None
    hidden: Array | None
    centre: Array | None = None
    spread: Array | None = None

    def restored(self, network: Callable[[Array, Array | None], Array]) -> Array:
        """Return the image ``B C *spatial`` that a network makes of the input.

        Parameters
        ----------
        network
            ``(images, hidden) -> residual``.
        """
        if self.centre is None or self.spread is None:
            return self.base + network(self.input, self.hidden)
        shown = (self.input - self.centre) / self.spread
        return self.base + network(shown, self.hidden) * self.spread


class Intensity(NamedTuple):
    """Intensities of the whole image that each sample of a batch was cut from.

    Attributes
    ----------
    offset, scale
        Normalisation ``(x - offset) / scale``, each ``B C`` in the image's own units.
    low, high
        ``min(0, smallest)`` and ``largest`` value over all pixels and channels, each ``B``.
    """

    offset: Array
    scale: Array
    low: Array
    high: Array

    def normalize(self, images: Array) -> Array:
        """Map images ``B C *spatial`` from their own to normalised units."""
        found = images - expand(self.offset, images)
        found /= expand(self.scale, images)
        return found

    def denormalize(self, images: Array) -> Array:
        """Map images ``B C *spatial`` from normalised to their own units."""
        return images * expand(self.scale, images) + expand(self.offset, images)


class RandomSource(Protocol):
    """Random numbers of one batch; sample ``i`` depends on its own key alone."""

    def normal(self, shape: Sequence[int]) -> Array:
        """Draw standard normal float32 numbers; the first axis is the sample."""

    def uniform(self, shape: Sequence[int]) -> Array:
        """Draw float32 numbers from [0, 1); the first axis is the sample."""


class NumpyRandom:
    """Random numbers on numpy, one independent stream for each sample of a batch.

    Parameters
    ----------
    keys
        One sequence of non-negative integers a sample, such as (seed, step, index).
    """

    def __init__(self, keys: Sequence[Sequence[int]]) -> None:
        self._generators = [np.random.default_rng(list(key)) for key in keys]

    def normal(self, shape: Sequence[int]) -> np.ndarray:
        """Draw standard normal float32 numbers; the first axis is the sample."""
        return np.stack([g.standard_normal(tuple(shape[1:]), np.float32) for g in self._generators])

    def uniform(self, shape: Sequence[int]) -> np.ndarray:
        """Draw float32 numbers from [0, 1); the first axis is the sample."""
        return np.stack([g.random(tuple(shape[1:]), np.float32) for g in self._generators])


def expand(values: Array, like: Array) -> Array:
    """Append axes of length one to ``values`` until it has as many as ``like``."""
    return values[(...,) + (None,) * (like.ndim - values.ndim)]


def add_masked(images: Array, others: Array, mask: Array, factor: float = 1) -> Array:
    """Return ``images + factor * others * mask``, in one pass where the library can."""
    fused = getattr(array_namespace(images), "addcmul", None)
    if fused is not None:
        return fused(images, others, mask, value=factor)
    return images + factor * others * mask


def as_like(matrix: np.ndarray, like: Array) -> Array:
    """Bring a numpy array to the library, device and dtype of ``like``."""
    xp = array_namespace(like)
    return xp.asarray(matrix, dtype=like.dtype, device=device(like))


def apply_along(matrix: Array, images: Array, axis: int) -> Array:
    """Multiply ``images`` by ``matrix`` (out by in) along one axis, negative from the end.

    ``matrix`` is an array of the same library, or of numpy.
    """
    if type(matrix) is not type(images):
        matrix = as_like(matrix, images)
    if axis == -1:
        return images @ matrix.T
    # what follows the axis stays where it is: nothing is copied but the product
    shape = images.shape
    out = matrix @ images.reshape(-1, shape[axis], math.prod(shape[axis + 1 :]))
    return out.reshape(*shape[:axis], matrix.shape[0], *shape[axis + 1 :])


class Constants:
    """Matrices in the library, device and dtype of some images; each is computed once.

    Parameters
    ----------
    like
        The images.
    """

    def __init__(self, like: Array) -> None:
        self._of = array_namespace(like), device(like), like.dtype

    def get(self, make: Callable[..., np.ndarray], *words: Any) -> Array:
        """Return the matrix ``make(*words)``."""
        xp, where, dtype = self._of
        return xp.asarray(_matrix(make, words), dtype=dtype, device=where)

    def along(
        self, images: Array, axis: int, make: Callable[..., np.ndarray], *words: Any
    ) -> Array:
        """Multiply images by the matrix ``make(*words)`` along an axis counted from the first."""
        return apply_along(self.get(make, *words), images, axis - images.ndim)


@lru_cache(maxsize=512)
def _matrix(make: Callable[..., np.ndarray], words: tuple[Any, ...]) -> np.ndarray:
    return make(*words)
