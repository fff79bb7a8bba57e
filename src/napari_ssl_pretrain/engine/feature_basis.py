"""Few numbers a pixel from the many of a network's layers: standardised, then principal axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ssl_pretrain.data.feature_map import principal_axes, rgb_limits
from napari_ssl_pretrain.engine.taps import to_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

DIMENSIONS = 32
"""Numbers kept of each cell."""

SAMPLE = 16384
"""Cells from which standardisation and axes are computed."""

WAVES = 5
"""Cosines on each axis that describe what the place in a tile adds."""

_SMALLEST = 1e-6


@dataclass(frozen=True)
class Basis:
    """A linear map from the layers of a network to few dimensions.

    Each channel is brought to zero mean and unit variance, and each layer to a total variance of
    one, however many channels it has, so that none dominates.

    Attributes
    ----------
    weights
        One matrix ``K D`` a layer.
    bias
        ``K``.
    limits
        Range of colours of the first three dimensions, ``3 2``.
    places
        What the place in a tile adds to each layer, ``1 D *coarser``; empty where nothing.
    """

    weights: tuple[torch.Tensor, ...]
    bias: torch.Tensor
    limits: np.ndarray
    places: tuple[torch.Tensor, ...] = ()

    def project(self, layers: Sequence[torch.Tensor], grid: Sequence[int]) -> torch.Tensor:
        """Map layers ``B D *coarser`` to ``B K *grid``."""
        total: torch.Tensor | None = None
        for layer, weight in zip(without(layers, self.places), self.weights, strict=True):
            pooled = [min(g, n) for g, n in zip(grid, layer.shape[2:], strict=True)]
            narrow = torch.einsum("kd,bd...->bk...", weight, to_grid(layer, pooled))
            here = to_grid(narrow, grid)
            total = here if total is None else total + here
        assert total is not None  # noqa: S101 - every network has layers
        return total + self.bias.reshape(1, -1, *(1,) * len(grid))


def without(
    layers: Sequence[torch.Tensor], places: Sequence[torch.Tensor]
) -> Sequence[torch.Tensor]:
    """Return layers without what the place in a tile adds to them."""
    return [x - p for x, p in zip(layers, places, strict=True)] if places else layers


def place_parts(tiles: Sequence[Sequence[torch.Tensor]]) -> tuple[torch.Tensor, ...]:
    """Return what the place in a tile adds to each layer: the smooth part of its mean over tiles.

    A vision transformer is told the place of each token, and it shows in all that it computes;
    the images do not, where the tiles lie anywhere in them.

    Parameters
    ----------
    tiles
        For each tile its layers ``1 D *coarser``.
    """
    parts = []
    for layers in zip(*tiles, strict=True):
        mean = torch.cat(list(layers)).mean(dim=0, keepdim=True)
        smooth = mean - mean.mean(dim=tuple(range(2, mean.ndim)), keepdim=True)
        for axis in range(2, mean.ndim):
            waves = _waves(mean.shape[axis]).to(mean.device)
            smooth = torch.tensordot(smooth, waves, dims=([axis], [0])).movedim(-1, axis)
        parts.append(smooth)
    return tuple(parts)


def _waves(length: int) -> torch.Tensor:
    """Return the projection, ``length length``, onto a few slow cosines."""
    phase = (torch.arange(length, dtype=torch.float32) + 0.5) * torch.pi / length
    waves = torch.cos(torch.arange(min(WAVES, length))[:, None] * phase)
    basis, _ = torch.linalg.qr(waves.T)
    projection: torch.Tensor = basis @ basis.T
    return projection


def fit_basis(
    samples: Sequence[Sequence[np.ndarray]], places: tuple[torch.Tensor, ...], device: torch.device
) -> Basis:
    """Fit the basis.

    Parameters
    ----------
    samples
        For each layer its values ``N D`` at sampled cells, in pieces; the same cells in all.
    places
        What was taken off the layers before, see :func:`place_parts`.
    device
        Where to project.
    """
    standard, scales, means = [], [], []
    for pieces in samples:
        values = np.concatenate(pieces)
        mean, spread = values.mean(axis=0), values.std(axis=0)
        alive = spread > _SMALLEST * max(1.0, float(spread.max(initial=0.0)))
        scale = np.where(alive, 1 / np.where(alive, spread, 1.0), 0.0)
        scale /= np.sqrt(max(1, int(alive.sum())))
        standard.append((values - mean) * scale)
        scales.append(scale)
        means.append(mean)
    joined = np.concatenate(standard, axis=1)
    axes = principal_axes(joined, DIMENSIONS)
    limits = rgb_limits((joined @ axes[:3].T).T)
    if len(limits) < 3:  # noqa: PLR2004 - a network of one or two channels
        limits = np.pad(limits, [(0, 3 - len(limits)), (0, 0)])
    weights, bias, first = [], np.zeros(len(axes)), 0
    for scale, mean in zip(scales, means, strict=True):
        part = axes[:, first : first + len(scale)] * scale
        first += len(scale)
        weights.append(torch.from_numpy(part.astype(np.float32)).to(device))
        bias -= part @ mean
    return Basis(
        tuple(weights), torch.from_numpy(bias.astype(np.float32)).to(device), limits, places
    )
