"""What the machine offers to a run, asked of torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil
import torch

from napari_ssl_pretrain.engine import world
from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.spec.summary import Hardware

if TYPE_CHECKING:
    from napari_ssl_pretrain.spec.config import ComputeConfig

GIB = 2**30


def available_devices() -> list[str]:
    """Return the devices that can be named in ``compute.device``, the best first."""
    found = (
        [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def find_device(asked: str, field: str = "compute.device") -> str:
    """Return the device to use.

    Parameters
    ----------
    asked
        Its name, or ``auto``.
    field
        What the user calls the setting, for errors.

    Raises
    ------
    ConfigError
        The device that was asked for is not there.
    """
    devices = available_devices()
    if asked == "auto":
        return devices[0]
    wanted = "cuda:0" if asked == "cuda" else asked
    if wanted not in devices:
        raise ConfigError(
            field,
            "is not on this machine",
            value=asked,
            remedy=f"Available: {', '.join(devices)}; auto takes the best.",
        )
    return wanted


def find_hardware(compute: ComputeConfig) -> Hardware:
    """Describe the machine for :func:`napari_ssl_pretrain.spec.resolve.resolve`.

    Raises
    ------
    ConfigError
        The device or the precision that was asked for is not there.
    """
    device = find_device(compute.device)
    bf16 = has_fast_bf16(device)
    if compute.precision == "fp16" and device == "cpu":
        raise ConfigError(
            "compute.precision",
            "needs a GPU",
            value="fp16",
            remedy="Use auto, fp32 or bf16 on the CPU.",
        )
    return Hardware(
        device=device,
        cores=usable_cores(),
        memory_gb=psutil.virtual_memory().available / GIB / world.neighbours(),
        device_memory_gb=_device_memory_gb(device),
        bf16=bf16,
        processes=world.size(),
        neighbours=world.neighbours(),
    )


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_fast_bf16(device: str) -> bool:
    """Whether bfloat16 is faster than float32 there: CUDA from Ampere on, CPUs with bf16 units."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device == "cpu":
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(
            capabilities.get("avx512_bf16")
            or capabilities.get("amx_bf16")
            or capabilities.get("bf16")
        )
    return False


def _device_memory_gb(device: str) -> float | None:
    if not device.startswith("cuda"):
        return None
    return float(torch.cuda.get_device_properties(device).total_memory / GIB)
