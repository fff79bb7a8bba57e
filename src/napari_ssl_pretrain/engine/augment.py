"""Flips and right-angle turns: of patches as they are read, or of a whole batch on its device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ssl_pretrain.engine.random import TorchRandom


def flip_and_turn(images: torch.Tensor, random: TorchRandom) -> torch.Tensor:
    """Mirror each sample of ``B C *spatial`` along random axes and swap its y and x at random.

    Together these are the eight orientations of a plane, and the mirrored ones along z. Y and
    X are swapped only where the patch is square.
    """
    coins = random.uniform((images.shape[0], images.ndim - 1)) < 0.5  # noqa: PLR2004
    shape = (-1,) + (1,) * (images.ndim - 1)
    for number, axis in enumerate(range(2, images.ndim)):
        images = torch.where(coins[:, number].view(shape), images.flip(axis), images)
    if images.shape[-1] == images.shape[-2]:
        images = torch.where(coins[:, -1].view(shape), images.transpose(-1, -2), images)
    return images


def turn_coins(key: Sequence[int], indices: Sequence[int], ndim: int) -> np.ndarray:
    """Toss the coins of :func:`turned` for some samples of a step, one row each.

    Parameters
    ----------
    key
        Of the step; each sample's coins depend on it and on the sample's index alone.
    indices
        Index of each sample within its step.
    ndim
        Number of spatial axes.
    """
    random = np.random.default_rng(list(key))
    coins: np.ndarray = random.random((max(indices) + 1, ndim + 1))[list(indices)] < 0.5  # noqa: PLR2004
    return coins


def turned(patch: np.ndarray, coins: np.ndarray) -> np.ndarray:
    """Mirror a patch ``C *spatial`` and swap its y and x as :func:`flip_and_turn` does.

    Nothing is copied: whoever stacks the patches has to copy them anyway.
    """
    flips = tuple(slice(None, None, -1) if coin else slice(None) for coin in coins[:-1])
    patch = patch[(slice(None), *flips)]
    square = patch.shape[-1] == patch.shape[-2]
    return patch.swapaxes(-1, -2) if square and coins[-1] else patch
