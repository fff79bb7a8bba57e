"""Networks that can be pretrained, built from one spec of plain numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ssl_pretrain.engine.backbones.base import Backbone, BackboneSpec
from napari_ssl_pretrain.spec import geometry
from napari_ssl_pretrain.spec.backbones import (
    BACKBONES,
    MAE_OPTIONS,
    MONAI_WIDTH,
    UNET_OPTIONS,
)

if TYPE_CHECKING:
    from napari_ssl_pretrain.spec.resolve import ResolvedConfig

__all__ = ["Backbone", "BackboneSpec", "backbone_spec", "build_backbone"]


def backbone_spec(
    config: ResolvedConfig, in_channels: int, voxel_size: tuple[float, ...] | None
) -> BackboneSpec:
    """Return what rebuilds the network of a resolved configuration."""
    row = BACKBONES[config.backbone.name]
    b, patch = config.backbone, config.data.patch_size
    spacing = geometry.relative_spacing(voxel_size, config.data.ndim)
    masking = config.pretext.task == "masking"
    if row.family == "mae":
        options = {name: getattr(b, name) for name in MAE_OPTIONS}
        options["token_size"] = config.pretext.token_size
    elif row.family == "unet":
        strides = geometry.unet_strides(patch, spacing, len(b.features_per_stage))
        options = {
            **{name: getattr(b, name) for name in UNET_OPTIONS},
            "strides": strides,
            "kernel_sizes": geometry.kernel_sizes(strides, spacing),
        }
    else:
        options = {"width": MONAI_WIDTH[b.size]}
    sees_hidden = masking and row.family != "mae"
    return BackboneSpec(row.name, config.data.ndim, in_channels, in_channels, sees_hidden, options)


def build_backbone(spec: BackboneSpec) -> Backbone:
    """Build the network of a spec, with fresh weights."""
    family = BACKBONES[spec.name].family
    if family == "mae":
        from napari_ssl_pretrain.engine.backbones.mae_vit import MaskedAutoencoder  # noqa: PLC0415

        return MaskedAutoencoder(spec)
    if family == "unet":
        from napari_ssl_pretrain.engine.backbones.unet import UNet  # noqa: PLC0415

        return UNet(spec)
    from napari_ssl_pretrain.engine.backbones.monai_nets import MonaiNet  # noqa: PLC0415

    return MonaiNet(spec)
