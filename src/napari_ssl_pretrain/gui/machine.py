"""What the machine offers, asked without torch: near enough to show what would be chosen.

The run itself asks torch; where the two differ, the run is right.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

from napari_ssl_pretrain.spec.summary import Hardware

GIB = 2**30
BF16_FLAGS = ("avx512_bf16", "amx_bf16")
AMPERE = 8.0


def guess_hardware(device: str) -> Hardware:
    """Describe the machine for a device, or for the best one where it is ``auto``."""
    gpus = [] if device in {"cpu", "mps"} else nvidia_gpus()
    memory_gb, capability = (None, 0.0)
    if gpus:
        number = int(device.partition(":")[2] or 0)
        memory_gb, capability = gpus[min(number, len(gpus) - 1)]
        device = f"cuda:{number}"
    elif device == "auto":
        apple = sys.platform == "darwin" and platform.machine() == "arm64"
        device = "mps" if apple else "cpu"
    return Hardware(
        device=device,
        cores=_cores(),
        memory_gb=psutil.virtual_memory().available / GIB,
        device_memory_gb=memory_gb,
        bf16=capability >= AMPERE if gpus else device == "cpu" and _cpu_has_bf16(),
    )


def nvidia_gpus() -> list[tuple[float, float]]:
    """Return memory in GiB and compute capability of each NVIDIA GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603
        rows = [line.split(",") for line in said.stdout.splitlines() if line.strip()]
        return [(float(memory) / 1024, float(capability)) for memory, capability in rows]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_has_bf16() -> bool:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return any(flag in text for flag in BF16_FLAGS)
