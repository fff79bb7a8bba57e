"""nnU-Net's plain and residual-encoder U-Nets, 2D and 3D.

Isensee et al., "nnU-Net Revisited" (2024), arXiv:2404.09556. The network itself comes from
dynamic-network-architectures, so that weights pretrained here load in nnU-Net. For masking one
more input channel says which pixels are hidden (SimMIM style, Xie et al. 2022,
arXiv:2111.09886).
"""

from __future__ import annotations

import math

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from dynamic_network_architectures.building_blocks.residual import BasicBlockD
from dynamic_network_architectures.initialization.weight_init import (
    InitWeights_He,
    init_last_bn_before_add_to_0,
)
from torch import nn

from napari_ssl_pretrain.engine.backbones.base import (
    CONV,
    INSTANCE_NORM,
    Architecture,
    Backbone,
    BackboneSpec,
    with_hidden_channel,
    zero_,
)


class UNet(Backbone):
    """A U-Net of dynamic-network-architectures, its last layer zero at the start.

    Parameters
    ----------
    spec
        Options: ``features_per_stage``, ``blocks_per_stage``, ``strides``, ``kernel_sizes``
        (one tuple a stage) and ``norm`` (``instance`` or ``none``).
    """

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__()
        options = spec.options
        self.sees_hidden = spec.sees_hidden
        stages = len(options["strides"])
        common = {
            "input_channels": spec.in_channels + int(spec.sees_hidden),
            "n_stages": stages,
            "features_per_stage": list(options["features_per_stage"][:stages]),
            "conv_op": CONV[spec.ndim],
            "kernel_sizes": [list(k) for k in options["kernel_sizes"]],
            "strides": [list(s) for s in options["strides"]],
            "num_classes": spec.out_channels,
            "n_conv_per_stage_decoder": [1] * (stages - 1),
            "conv_bias": True,
            "norm_op": INSTANCE_NORM[spec.ndim] if options["norm"] == "instance" else None,
            "norm_op_kwargs": {"eps": 1e-5, "affine": True}
            if options["norm"] == "instance"
            else {},
            "nonlin": nn.LeakyReLU,
            "nonlin_kwargs": {"inplace": True},
        }
        blocks = [options["blocks_per_stage"]] * stages
        if spec.name == "residual_unet":
            kind, arguments = ResidualEncoderUNet, {"n_blocks_per_stage": blocks, **common}
        else:
            convs = [max(2, b) for b in blocks]
            kind, arguments = PlainConvUNet, {"n_conv_per_stage": convs, **common}
        self.architecture = Architecture(kind, arguments, "net.")
        self.multiple = tuple(math.prod(axis) for axis in zip(*options["strides"], strict=True))
        self.net = self.architecture.build()
        self.net.apply(InitWeights_He(1e-2))
        if spec.name == "residual_unet":
            self.net.apply(init_last_bn_before_add_to_0 if options["norm"] == "instance" else _calm)
        zero_(self.net.decoder.seg_layers[-1])
        # those of deep supervision are there for nnU-Net alone: no gradient reaches them, and
        # training on several devices would wait for one
        self.net.decoder.seg_layers[:-1].requires_grad_(requires_grad=False)

    def forward(self, images: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
        """Return the residual ``B C *spatial``."""
        out: torch.Tensor = self.net(
            with_hidden_channel(images, hidden) if self.sees_hidden else images
        )
        return out

    def encoder_prefixes(self) -> tuple[str, ...]:
        """Return the beginnings of the parameter names that make the encoder."""
        return ("net.encoder.",)

    def head_prefixes(self) -> tuple[str, ...]:
        """Return the beginnings of the parameter names of the last layer."""
        return ("net.decoder.seg_layers.",)

    def replace_head(self, out_channels: int) -> None:
        """Put a fresh last layer with this many output channels in place."""
        old = self.net.decoder.seg_layers[-1]
        self.net.decoder.seg_layers[-1] = type(old)(old.in_channels, out_channels, old.kernel_size)


def _calm(module: nn.Module) -> None:
    """Scale down the last convolution of a residual block that no norm follows.

    Zhang et al., "Fixup initialization" (2019), arXiv:1901.09321, in its simplest form.
    """
    if isinstance(module, BasicBlockD):
        with torch.no_grad():
            module.conv2.conv.weight.mul_(0.25)
