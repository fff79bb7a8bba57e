"""Networks of MONAI, one ``spatial_dims`` argument for 2D and 3D."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from napari_ssl_pretrain.engine.backbones.base import (
    Architecture,
    Backbone,
    BackboneSpec,
    with_hidden_channel,
    zero_,
)

LEVELS = 4
MULTIPLE = 2 ** (LEVELS - 1)
"""Sides that the networks need; other images are padded inside and cut back."""


class MonaiNet(Backbone):
    """SegResNet (Myronenko 2018, arXiv:1810.11654) or AttentionUnet (Oktay 2018, arXiv:1804.03999).

    Parameters
    ----------
    spec
        Options: ``width``, the channels of the finest level.
    """

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__()
        self.sees_hidden = spec.sees_hidden
        channels = spec.in_channels + int(spec.sees_hidden)
        kind, arguments = _CLASSES[spec.name](spec, channels)
        self.architecture = Architecture(kind, arguments, "net.")
        self.multiple = (MULTIPLE,) * spec.ndim
        self.net = self.architecture.build()
        self._head_name, head = _last_convolution(self.net)
        zero_(head)

    def forward(self, images: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
        """Return the residual ``B C *spatial``."""
        seen = with_hidden_channel(images, hidden) if self.sees_hidden else images
        sides = images.shape[2:]
        lacking = [-side % MULTIPLE for side in sides]
        if any(lacking):  # pad takes the last axis first
            ends = [n for lack in reversed(lacking) for n in (0, lack)]
            seen = nn.functional.pad(seen, ends, mode="replicate")
        out: torch.Tensor = self.net(seen)
        for axis, side in enumerate(sides, start=2):
            out = out.narrow(axis, 0, side)
        return out

    def encoder_prefixes(self) -> tuple[str, ...]:
        """Return the beginnings of the parameter names that transfer: all but the last layer."""
        return ("net.",)

    def head_prefixes(self) -> tuple[str, ...]:
        """Return the beginnings of the parameter names of the last layer."""
        return (f"net.{self._head_name}.",)

    def replace_head(self, out_channels: int) -> None:
        """Put a fresh last layer with this many output channels in place."""
        parent_name, _, leaf = self._head_name.rpartition(".")
        parent = self.net.get_submodule(parent_name)
        old = self.net.get_submodule(self._head_name)
        fresh = type(old)(
            old.in_channels, out_channels, old.kernel_size, stride=old.stride, padding=old.padding
        )
        setattr(parent, leaf, fresh)


Built = tuple[type[nn.Module], dict[str, Any]]


def _segresnet(spec: BackboneSpec, channels: int) -> Built:
    from monai.networks.nets.segresnet import SegResNet  # noqa: PLC0415 - slow import

    return SegResNet, {
        "spatial_dims": spec.ndim,
        "init_filters": spec.options["width"],
        "in_channels": channels,
        "out_channels": spec.out_channels,
        "blocks_down": (1,) * LEVELS,
        "blocks_up": (1,) * (LEVELS - 1),
    }


def _attention_unet(spec: BackboneSpec, channels: int) -> Built:
    from monai.networks.nets.attentionunet import AttentionUnet  # noqa: PLC0415 - slow import

    return AttentionUnet, {
        "spatial_dims": spec.ndim,
        "in_channels": channels,
        "out_channels": spec.out_channels,
        "channels": [spec.options["width"] * 2**k for k in range(LEVELS)],
        "strides": [2] * (LEVELS - 1),
    }


_CLASSES = {"segresnet": _segresnet, "attention_unet": _attention_unet}


def _last_convolution(net: nn.Module) -> tuple[str, nn.Module]:
    """Return name and module of the convolution that makes the output."""
    kinds = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    convolutions = [
        (name, module) for name, module in net.named_modules() if isinstance(module, kinds)
    ]
    return convolutions[-1]
