"""Checkpoints of random weights, for exports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from run_samples import TINY

from napari_ssl_pretrain import load_backbone
from napari_ssl_pretrain.engine import checkpoint
from napari_ssl_pretrain.engine.backbones import backbone_spec, build_backbone
from napari_ssl_pretrain.spec.backbones import BACKBONES
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.resolve import resolve
from napari_ssl_pretrain.spec.summary import DataSummary, Hardware

if TYPE_CHECKING:
    from pathlib import Path

SIDES = {2: (16, 24), 3: (8, 16, 8)}
CASES = [
    (row.name, task, ndim)
    for row in BACKBONES.values()
    for task in row.tasks
    for ndim in (2, 3)
    if task == "masking" or ndim == 2
]


def make(
    path: Path, name: str, task: str, ndim: int, channels: int = 2, **groups: Any
) -> dict[str, Any]:
    """Write a checkpoint of random weights and return its content."""
    asked = PretrainConfig(
        result_dir="/home/somebody/results",
        data={"train": "/home/somebody/images/x", "patch_size": SIDES[ndim]}
        | groups.pop("data", {}),
        pretext={"task": task, "token_size": 4} | groups.pop("pretext", {}),
        backbone={"name": name, **TINY[name]} | groups.pop("network", {}),
    )
    summary = DataSummary(ndim, channels, (SIDES[ndim],), (0.1,) * ndim)
    resolved = resolve(asked, summary, Hardware("cpu", 2, 8.0))
    spec = backbone_spec(resolved, channels, summary.voxel_size)
    model = build_backbone(spec)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    state = {
        "format_version": 1,
        "model": model.state_dict(),
        "backbone": checkpoint.plain(spec._asdict()),
        "task": task,
        "axes": "CYX",
        "ndim": ndim,
        "in_channels": channels,
        "normalization": resolved.data.normalization,
        "patch_size": list(SIDES[ndim]),
        "voxel_size": [0.1] * ndim,
        "config": resolved.to_dict(),
        "epoch": 3,
        "step": 30,
        "metrics": {"validation_loss": 0.5},
        "versions": {"torch": "2"},
        "optimizer": {"large": torch.zeros(9)},
    }
    checkpoint.save(state | groups, path)
    return state


def outputs(path: Path, images: torch.Tensor) -> torch.Tensor:
    """Return what the network of a checkpoint makes of images that it sees whole."""
    with torch.no_grad():
        out: torch.Tensor = load_backbone(path).eval()(images)
    return out
