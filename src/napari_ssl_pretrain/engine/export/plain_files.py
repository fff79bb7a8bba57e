"""Exports as torch and safetensors files: the weights, and the card in the file as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import safetensors.torch

from napari_ssl_pretrain.engine.export.base import Format, Made, alone, torch_bytes

if TYPE_CHECKING:
    from napari_ssl_pretrain.engine.export.base import Job


def _torch(job: Job) -> Made:
    content = {"state_dict": job.tensors, "card": job.card.model_dump(mode="json")}
    return Made(torch_bytes(content), job.card)


def _safetensors(job: Job) -> Made:
    # a name each, although some share a tensor: so the file loads with strict=True everywhere
    about = {"format": "pt", "card": job.card.to_json()}
    return Made(safetensors.torch.save(alone(job.tensors), about), job.card)


TORCH = Format(
    (".pt", ".pth"),
    'network.load_state_dict(torch.load("{file}", weights_only=True)["state_dict"])',
    _torch,
)
SAFETENSORS = Format(
    (".safetensors",),
    'network.load_state_dict(safetensors.torch.load_file("{file}"))',
    _safetensors,
)
