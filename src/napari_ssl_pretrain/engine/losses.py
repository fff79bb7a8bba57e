"""Losses on normalised images, counted where ``scored`` is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

EPSILON = 0.1


def pixel_loss(
    name: str, prediction: torch.Tensor, target: torch.Tensor, scored: torch.Tensor | None
) -> torch.Tensor:
    """Return the mean loss over the scored pixels of all channels.

    Parameters
    ----------
    name
        ``l1``, ``mse`` or ``charbonnier`` (the smooth L1 of Charbonnier et al. 1994).
    prediction, target
        ``B C *spatial``, normalised.
    scored
        ``B 1 *spatial``, 1.0 where the loss counts; None counts everywhere.

    Raises
    ------
    ValueError
        The name is unknown.
    """
    difference = prediction - target
    if name == "mse":
        error = difference.square()
    elif name == "l1":
        error = difference.abs()
    elif name == "charbonnier":
        error = (difference.square() + EPSILON**2).sqrt() - EPSILON
    else:
        raise ValueError(f"unknown loss {name!r}")
    if scored is None:
        return error.mean()
    weight = scored.expand_as(error)
    return (error * weight).sum() / weight.sum().clamp(min=1)
