"""Flips and right-angle turns of a whole batch on its device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
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
