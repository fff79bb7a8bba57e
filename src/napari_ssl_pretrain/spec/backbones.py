"""The networks that can be pretrained, as a table without torch; tests keep it honest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from napari_ssl_pretrain.errors import ConfigError

Family = Literal["unet", "mae", "monai"]
Task = Literal["crappify", "masking"]


@dataclass(frozen=True)
class BackboneRow:
    """One network of the table.

    Attributes
    ----------
    name
        Value of ``backbone.name``.
    family
        ``unet``: nnU-Net's networks, sized by features and blocks a stage; ``mae``: the
        masked autoencoder; ``monai``: networks of MONAI with sizes of their own.
    tasks
        Pretext tasks it can learn.
    about
        One line for the form and the documentation.
    """

    name: str
    family: Family
    tasks: tuple[Task, ...]
    about: str


BACKBONES: dict[str, BackboneRow] = {
    row.name: row
    for row in (
        BackboneRow(
            "residual_unet", "unet", ("crappify", "masking"), "nnU-Net's residual-encoder U-Net"
        ),
        BackboneRow("unet", "unet", ("crappify", "masking"), "nnU-Net's plain U-Net"),
        BackboneRow("mae_vit", "mae", ("masking",), "masked autoencoder with a vision transformer"),
        BackboneRow("segresnet", "monai", ("crappify", "masking"), "MONAI's SegResNet"),
        BackboneRow("attention_unet", "monai", ("crappify", "masking"), "MONAI's attention U-Net"),
    )
}

AUTO_BACKBONE: dict[Task, str] = {"crappify": "residual_unet", "masking": "residual_unet"}

UNET_FEATURES: dict[int, dict[str, tuple[int, ...]]] = {
    2: {
        "tiny": (16, 32, 64, 128),
        "small": (16, 32, 64, 160, 320),
        "base": (32, 64, 128, 256, 320),
        "large": (64, 128, 256, 512, 512, 512),
    },
    3: {
        "tiny": (8, 16, 32, 64),
        "small": (16, 32, 64, 128, 160),
        "base": (32, 64, 128, 256, 320),
        "large": (32, 64, 128, 256, 320, 320),
    },
}
"""Channels of each resolution by ``ndim`` and size; few at full resolution, where time goes."""

UNET_BLOCKS: dict[str, int] = {"tiny": 1, "small": 1, "base": 2, "large": 3}

UNET_OPTIONS = ("features_per_stage", "blocks_per_stage", "norm")
MAE_NUMBERS = (
    "embed_dim",
    "depth",
    "num_heads",
    "decoder_embed_dim",
    "decoder_depth",
    "decoder_num_heads",
)
MAE_OPTIONS = (*MAE_NUMBERS, "mlp_ratio")
"""Keys of ``backbone`` that the networks of a family read; :data:`MAE_SIZES` has their order."""

MAE_SIZES: dict[str, tuple[int, int, int, int, int, int]] = {
    "tiny": (96, 4, 3, 96, 1, 3),
    "small": (192, 6, 3, 128, 2, 4),
    "base": (384, 12, 6, 192, 4, 6),
    "large": (768, 12, 12, 256, 4, 8),
}

MONAI_WIDTH: dict[str, int] = {"tiny": 8, "small": 16, "base": 32, "large": 64}


def check_backbone(name: str, task: Task) -> BackboneRow:
    """Return the row of a backbone that can learn this task.

    Raises
    ------
    ConfigError
        The name is unknown, or the network cannot learn the task.
    """
    if name == "auto":
        return BACKBONES[AUTO_BACKBONE[task]]
    row = BACKBONES.get(name)
    able = ", ".join(r.name for r in BACKBONES.values() if task in r.tasks)
    if row is None:
        raise ConfigError(
            "backbone.name", "is no known network", value=name, remedy=f"For {task}: {able}."
        )
    if task not in row.tasks:
        raise ConfigError(
            "backbone.name", f"cannot learn {task}", value=name, remedy=f"For {task}: {able}."
        )
    return row
