"""What labelled patches are varied by, on their device: place, scale, and brightness.

The kinds and ranges are nnU-Net's (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z), each
applied to a part of the samples.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_ssl_pretrain.pretext.base import apply_along
from napari_ssl_pretrain.pretext.smooth import gaussian_matrix

if TYPE_CHECKING:
    import numpy as np

    from napari_ssl_pretrain.engine.random import TorchRandom

SHARE = 0.4
"""Part of the samples that each kind of variation is applied to."""

ZOOM = (0.7, 1.4)
CONTRAST = (0.65, 1.5)
GAMMA = (0.7, 1.5)
SHIFT = 0.3
NOISE = 0.3
BLUR = 1.0
"""Deviation of the blur in pixels, of which a random part is mixed in."""


def vary(
    images: torch.Tensor, classes: torch.Tensor, random: TorchRandom
) -> tuple[torch.Tensor, torch.Tensor]:
    """Vary normalised images ``B C *spatial`` and their classes ``B *spatial`` alike."""
    images, classes = turn_and_zoom(images, classes, random)
    return vary_brightness(images, random), classes


def turn_and_zoom(
    images: torch.Tensor, classes: torch.Tensor, random: TorchRandom
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn each sample in its plane and zoom it there, mirrored beyond its borders.

    The planes of a volume are turned together; along z nothing changes.
    """
    draws = random.uniform((images.shape[0], 4))
    turned, zoomed = draws[:, 0] < SHARE, draws[:, 1] < SHARE
    angle = torch.where(turned, (2 * draws[:, 2] - 1) * math.pi, 0.0)
    zoom = torch.where(zoomed, _between(ZOOM, draws[:, 3]), 1.0)
    # the coordinates of affine_grid count from -1 to 1 on each axis, x first
    height, width = images.shape[-2:]
    cos, sin, none = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
    rows = [cos, -sin * (height / width), none], [sin * (width / height), cos, none]
    theta = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1) / zoom.view(-1, 1, 1)
    grid = nn.functional.affine_grid(theta, [len(images), 1, height, width], align_corners=False)
    same = (~turned & ~zoomed).view(-1, *(1,) * (images.ndim - 1))
    labels = classes[:, None].to(images.dtype)
    moved, chosen = (
        nn.functional.grid_sample(
            x.reshape(len(x), -1, height, width), grid, mode, "reflection", align_corners=False
        ).reshape(x.shape)
        for x, mode in ((images, "bilinear"), (labels, "nearest"))
    )
    return torch.where(same, images, moved), torch.where(same, labels, chosen)[:, 0].long()


def vary_brightness(images: torch.Tensor, random: TorchRandom) -> torch.Tensor:
    """Vary contrast, gamma, sharpness, brightness and noise of each sample."""
    draws = random.uniform((images.shape[0], 10)).view(-1, 10, *(1,) * (images.ndim - 1))
    on, much = draws[:, 0::2] < SHARE, draws[:, 1::2]
    axes = tuple(range(1, images.ndim))
    mean = images.mean(axes, keepdim=True)
    images = mean + (images - mean) * torch.where(on[:, 0], _between(CONTRAST, much[:, 0]), 1.0)
    images = torch.where(on[:, 1], _gamma(images, _between(GAMMA, much[:, 1])), images)
    blurred = images
    for axis in (-1, -2):
        blurred = apply_along(_blur(images.shape[axis]), blurred, axis)
    images = torch.where(on[:, 2], torch.lerp(images, blurred, much[:, 2]), images)
    images = images + torch.where(on[:, 3], SHIFT * (2 * much[:, 3] - 1), 0.0)
    return images + torch.where(on[:, 4], NOISE * much[:, 4], 0.0) * random.normal(images.shape)


def _between(limits: tuple[float, float], share: torch.Tensor) -> torch.Tensor:
    """Return numbers between the limits, evenly on a logarithmic scale."""
    low, high = (math.log(v) for v in limits)
    return torch.exp(low + (high - low) * share)


def _gamma(images: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """Bend the brightness of each sample between its darkest and brightest pixel."""
    axes = tuple(range(1, images.ndim))
    low, high = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    span = (high - low).clamp(min=1e-6)
    return ((images - low) / span).clamp(0, 1) ** exponent * span + low


def _blur(size: int) -> np.ndarray:
    matrix = gaussian_matrix(size, BLUR)
    normalised: np.ndarray = matrix / matrix.sum(axis=1, keepdims=True)
    return normalised
