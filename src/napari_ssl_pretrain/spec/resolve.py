"""From what was asked and what the images and the machine are to every number of a run.

One pure function; the result is a second frozen configuration, written beside the first.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, cast

from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.pretext import Crappify, Masking
from napari_ssl_pretrain.spec import backbones, geometry
from napari_ssl_pretrain.spec.config import (
    BackboneConfig,
    ComputeConfig,
    DataConfig,
    LossName,
    Precision,
    PretextConfig,
    PretrainConfig,
    TrainingConfig,
)

if TYPE_CHECKING:
    from napari_ssl_pretrain.spec.summary import DataSummary, Hardware

TOTAL_STEPS = {"cpu": 2000, "accelerator": 20_000}
"""Steps of a training whose length was left to us."""

MOST_EPOCHS = 100_000

MAX_PATCH_PIXELS = 2**27


class ResolvedData(DataConfig):
    """Data settings without ``auto``; ``axes`` stay as asked, each file has its own."""

    ndim: Literal[2, 3]
    patch_size: tuple[int, ...]


class ResolvedPretext(PretextConfig):
    """Pretext settings without ``auto``."""

    token_size: tuple[int, ...]


class ResolvedBackbone(BackboneConfig):
    """Backbone settings without ``auto``; those of other families keep it."""


class ResolvedTraining(TrainingConfig):
    """Training settings without ``auto``."""

    epochs: int
    steps_per_epoch: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    loss: LossName


class ResolvedCompute(ComputeConfig):
    """Compute settings without ``auto``."""

    precision: Precision
    workers: int
    memory_gb: float


class ResolvedConfig(PretrainConfig):
    """Every value that a run uses; valid as a configuration itself."""

    data: ResolvedData
    pretext: ResolvedPretext
    backbone: ResolvedBackbone
    training: ResolvedTraining
    compute: ResolvedCompute


def resolve(config: PretrainConfig, summary: DataSummary, hardware: Hardware) -> ResolvedConfig:
    """Replace every ``auto``.

    Parameters
    ----------
    config
        What was asked.
    summary
        The training images in numbers.
    hardware
        What the machine offers.

    Raises
    ------
    ConfigError
        A value does not fit the images, the task or the network.
    """
    row = backbones.check_backbone(config.backbone.name, config.pretext.task)
    spacing = geometry.relative_spacing(summary.voxel_size, summary.ndim)
    token = _token_size(config, spacing)
    patch = _patch_size(config, summary, spacing, token)
    if row.family == "unet":
        _check_halves(patch, spacing, token if config.pretext.task == "masking" else None)
    fields = config.model_dump()
    fields["data"] |= {"ndim": summary.ndim, "patch_size": patch}
    fields["pretext"] |= {"token_size": token}
    fields["backbone"] |= _backbone(config.backbone, row, summary.ndim)
    fields["training"] |= _training(config, summary, patch, row, hardware)
    fields["compute"] |= _compute(config, hardware)
    return ResolvedConfig(**fields)


def _rank(path: str, value: tuple[int, ...], ndim: int) -> None:
    if len(value) != ndim:
        order = "[y, x]" if ndim == 2 else "[z, y, x]"  # noqa: PLR2004
        raise ConfigError(
            path,
            f"needs {ndim} numbers for {ndim}D images",
            value=list(value),
            remedy=f"Give {order}.",
        )


def _token_size(config: PretrainConfig, spacing: tuple[float, ...]) -> tuple[int, ...]:
    asked = config.pretext.token_size
    if asked == "auto":
        return geometry.token_size(spacing)
    if isinstance(asked, int):
        return (asked,) * len(spacing)
    if config.pretext.task == "masking":
        _rank("pretext.token_size", asked, len(spacing))
    return asked


def _patch_size(
    config: PretrainConfig, summary: DataSummary, spacing: tuple[float, ...], token: tuple[int, ...]
) -> tuple[int, ...]:
    masking = config.pretext.task == "masking"
    asked = config.data.patch_size
    if asked == "auto":
        small = tuple(4 if k >= geometry.FLAT else 16 for k in spacing)
        # even in the plane, so that a U-Net can halve patches of odd tokens
        even = (*token[:-2], *(math.lcm(2, t) for t in token[-2:]))
        if not masking:
            return geometry.patch_size(summary.shapes, spacing, small)
        # two tokens at least, however small the images, so that one of them can be hidden
        plane = (
            math.ceil(max(8, 2 * t) / m) * m for t, m in zip(token[-2:], even[-2:], strict=True)
        )
        return geometry.patch_size(summary.shapes, spacing, even, (*even[:-2], *plane))
    _rank("data.patch_size", asked, summary.ndim)
    _check_patch(asked, token if masking else None)
    return asked


def _check_patch(patch: tuple[int, ...], token: tuple[int, ...] | None) -> None:
    if math.prod(patch) > MAX_PATCH_PIXELS:
        raise ConfigError(
            "data.patch_size",
            f"holds more than {MAX_PATCH_PIXELS} pixels",
            value=list(patch),
            remedy="Use a smaller patch, such as 128 a side in 2D or 64 in 3D.",
        )
    if token is None:
        return
    if any(n % t for n, t in zip(patch, token, strict=True)):
        near = [max(t, round(n / t) * t) for n, t in zip(patch, token, strict=True)]
        raise ConfigError(
            "data.patch_size",
            f"must be a multiple of the token {list(token)} on each axis",
            value=list(patch),
            remedy=f"Use {near}, or change pretext.token_size.",
        )
    if math.prod(n // t for n, t in zip(patch, token, strict=True)) < 2:  # noqa: PLR2004
        raise ConfigError(
            "pretext.token_size",
            "leaves a patch of one token, of which none can be hidden",
            value=list(token),
            remedy="Use a smaller token or a larger data.patch_size.",
        )


def _check_halves(
    patch: tuple[int, ...], spacing: tuple[float, ...], token: tuple[int, ...] | None
) -> None:
    """Refuse a patch that leaves a U-Net with one resolution only.

    Raises
    ------
    ConfigError
        No axis can be halved.
    """
    if len(geometry.unet_strides(patch, spacing, 2)) > 1:
        return
    even = [math.lcm(2, t) for t in token or (1,) * len(patch)]
    near = [math.ceil(max(8, n) / m) * m for n, m in zip(patch, even, strict=True)]
    raise ConfigError(
        "data.patch_size",
        "needs an axis with an even number of pixels, 8 at least, for a U-Net",
        value=list(patch),
        remedy=f"Use {near}, or another backbone.name.",
    )


def _backbone(asked: BackboneConfig, row: backbones.BackboneRow, ndim: int) -> dict[str, object]:
    found: dict[str, object] = {"name": row.name}
    if row.family == "unet":
        chosen: dict[str, object] = {
            "features_per_stage": backbones.UNET_FEATURES[ndim][asked.size],
            "blocks_per_stage": backbones.UNET_BLOCKS[asked.size],
            "norm": "none",
        }
    elif row.family == "mae":
        chosen = dict(zip(backbones.MAE_NUMBERS, backbones.MAE_SIZES[asked.size], strict=True))
    else:
        chosen = {}
    found |= {name: v for name, v in chosen.items() if getattr(asked, name) == "auto"}
    _check_heads({**asked.model_dump(), **found}, row)
    return found


def _check_heads(fields: dict[str, object], row: backbones.BackboneRow) -> None:
    if row.family != "mae":
        return
    for width, heads in (("embed_dim", "num_heads"), ("decoder_embed_dim", "decoder_num_heads")):
        w, h = cast("int", fields[width]), cast("int", fields[heads])
        if w % h or w % 2:
            raise ConfigError(
                f"backbone.{width}",
                f"must be even and divisible by backbone.{heads} ({h})",
                value=w,
                remedy=f"Use {max(1, round(w / (2 * h))) * 2 * h}.",
            )


def _training(
    config: PretrainConfig,
    summary: DataSummary,
    patch: tuple[int, ...],
    row: backbones.BackboneRow,
    hardware: Hardware,
) -> dict[str, object]:
    asked = config.training
    batch = _batch_size(patch, row, hardware) if asked.batch_size == "auto" else asked.batch_size
    if batch < hardware.processes:
        raise ConfigError(
            "training.batch_size",
            f"must hold a patch for each of the {hardware.processes} processes",
            value=batch,
            remedy=f"Use {hardware.processes} or more, or fewer processes.",
        )
    _check_memory(batch, summary.in_channels * math.prod(patch), hardware)
    total = TOTAL_STEPS["cpu" if hardware.device == "cpu" else "accelerator"]
    steps = asked.steps_per_epoch
    if steps == "auto":
        once = sum(math.prod(shape) for shape in summary.shapes) / (math.prod(patch) * batch)
        steps = int(min(max(once, 50), 500))
    # with a wish in minutes the time alone decides
    planned = MOST_EPOCHS if asked.max_minutes else max(1, round(total / steps))
    epochs = planned if asked.epochs == "auto" else asked.epochs
    mae = row.family == "mae"
    defaults: dict[str, object] = {
        "learning_rate": 1e-3 if mae else 3e-3 if config.pretext.task == "crappify" else 2e-3,
        "weight_decay": 0.05 if mae else 0.01,
        "warmup_steps": min(50, max(1, steps * epochs // 10)),
        "loss": "mse",
    }
    chosen = {name: value for name, value in defaults.items() if getattr(asked, name) == "auto"}
    return chosen | {"batch_size": batch, "steps_per_epoch": steps, "epochs": epochs}


def _check_memory(batch: int, numbers: int, hardware: Hardware) -> None:
    """Refuse a batch of which the images alone do not fit.

    Raises
    ------
    ConfigError
        They do not.
    """
    there = hardware.device_memory_gb or hardware.memory_gb
    # as read, as shown, as wanted and as made: four arrays of float32 at least
    most = int(there * 2**30 / (16 * numbers))
    if batch / hardware.processes > max(2, most):
        raise ConfigError(
            "training.batch_size",
            f"needs {16 * numbers * batch / 2**30:.0f} GB for the patches alone, "
            f"of {there:.0f} GB that are free",
            value=batch,
            remedy=f"Use {max(2, most // 8) * hardware.processes} or less, or a smaller patch.",
        )


def _batch_size(patch: tuple[int, ...], row: backbones.BackboneRow, hardware: Hardware) -> int:
    """Return a batch of about 32 patches of 128² for the MAE and 8 for others, as memory allows."""
    pixels = (32 if row.family == "mae" else 8) * 128**2
    if hardware.device_memory_gb:
        pixels *= min(4, max(1, int(hardware.device_memory_gb // 12)))
    batch = min(64, max(2, round(pixels / math.prod(patch))))
    return max(batch, hardware.processes)


def _compute(config: PretrainConfig, hardware: Hardware) -> dict[str, object]:
    asked = config.compute
    chosen: dict[str, object] = {"device": hardware.device}
    if asked.precision == "auto":
        chosen["precision"] = (
            "bf16" if hardware.bf16 else "fp16" if hardware.device.startswith("cuda") else "fp32"
        )
    if asked.workers == "auto":
        chosen["workers"] = max(1, min(8, hardware.cores // (2 * hardware.neighbours)))
    if asked.memory_gb == "auto":
        chosen["memory_gb"] = round(max(0.5, hardware.memory_gb * 0.5), 2)
    return chosen


def make_task(config: ResolvedConfig, voxel_size: tuple[float, ...] | None) -> Crappify | Masking:
    """Return the pretext task as the policy that the engine and the preview use."""
    asked = config.pretext
    if asked.task == "crappify":
        spacing = geometry.relative_spacing(voxel_size, config.data.ndim)
        return Crappify(
            noise=asked.noise,
            axis_factors=geometry.crappify_factors(asked.resizing_factor, spacing),
        )
    return Masking(
        mask_ratio=asked.mask_ratio,
        mask_type=asked.mask_type,
        token_size=asked.token_size,
        normalize_target=asked.normalize_target,
    )


def unused_keys(config: PretrainConfig) -> list[str]:
    """Return one sentence for each key that was set and that this job does not read."""
    family = backbones.check_backbone(config.backbone.name, config.pretext.task).family
    other = {
        "crappify": ("mask_ratio", "mask_type", "token_size", "normalize_target"),
        "masking": ("noise", "resizing_factor", "fresh", "ssl_source_dir"),
    }[config.pretext.task]
    unet, mae = backbones.UNET_OPTIONS, backbones.MAE_OPTIONS
    foreign = {"unet": mae, "mae": unet, "monai": mae + unet}[family]
    said = [
        (f"pretext.{key}", f"task {config.pretext.task}")
        for key in other
        if getattr(config.pretext, key) != PretextConfig.model_fields[key].default
    ]
    said += [
        (f"backbone.{key}", f"network {config.backbone.name}")
        for key in foreign
        if getattr(config.backbone, key) != BackboneConfig.model_fields[key].default
    ]
    return [f"{key} has no effect with {why}." for key, why in said]
