"""Network, optimiser and precision on the device, through accelerate."""

from __future__ import annotations

import ctypes
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psutil
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from napari_ssl_pretrain.engine import checkpoint
from napari_ssl_pretrain.engine.backbones import Backbone, BackboneSpec, build_backbone
from napari_ssl_pretrain.engine.feed import Purpose
from napari_ssl_pretrain.engine.load import load_weights
from napari_ssl_pretrain.engine.optim import make_optimizer
from napari_ssl_pretrain.engine.random import fold
from napari_ssl_pretrain.spec.backbones import BACKBONES

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ssl_pretrain.engine.backbones.base import LoadReport
    from napari_ssl_pretrain.spec.resolve import ResolvedConfig


MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""What ``mallopt`` of the GNU C library calls its two limits."""

LARGEST_KEPT = 32 * 2**20
MOST_KEPT = 512 * 2**20
"""Bytes of a block that is kept for the next step when it is freed, and of all of these."""


class Machine:
    """The network and what trains it, ready on its device.

    Parameters
    ----------
    config
        Resolved configuration.
    spec
        The network.
    resumed
        A ``last`` checkpoint to go on from, or None.
    start
        A checkpoint whose weights to start from, or None.
    """

    def __init__(
        self,
        config: ResolvedConfig,
        spec: BackboneSpec,
        resumed: dict[str, Any] | None,
        start: dict[str, Any] | None,
    ) -> None:
        self.config, self.spec = config, spec
        self.accelerator = make_accelerator(config)
        self.device = self.accelerator.device
        if self.device.type == "cpu":
            keep_freed_memory()
        self.model = fresh_network(spec, config.training.seed)
        self.load_report: LoadReport | None = None
        if start is not None:
            self.load_report = load_weights(
                self.model, start["model"], str(config.training.load_checkpoint)
            )
        if resumed is not None:
            self.model.load_state_dict(resumed["model"])
        if BACKBONES[spec.name].family != "mae":
            layout = torch.channels_last if spec.ndim == 2 else torch.channels_last_3d  # noqa: PLR2004
            self.model.to(memory_format=layout)  # type: ignore[call-overload]
        masked = BACKBONES[spec.name].family == "mae"
        self.model.to(self.device)
        optimizer = make_optimizer(
            self.model,
            config.training.learning_rate,
            config.training.weight_decay,
            betas=(0.9, 0.95) if masked else (0.9, 0.99),
        )
        if resumed is not None:
            optimizer.load_state_dict(resumed["optimizer"])
        self.wrapped, self.optimizer = self.accelerator.prepare(self.model, optimizer)
        if resumed is not None and self.accelerator.scaler is not None and resumed.get("scaler"):
            self.accelerator.scaler.load_state_dict(resumed["scaler"])

    @property
    def parameters(self) -> int:
        """Number of trainable numbers."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def load_best(self, path: Path) -> None:
        """Put the best weights into the network."""
        self.model.load_state_dict(checkpoint.load(path, device=self.device)["model"])


def make_accelerator(config: ResolvedConfig) -> Accelerator:
    """Return accelerate's view of the device, for one process or many."""
    # accelerate keeps one global state; a second run in one process may differ in precision
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())  # noqa: SLF001
    device = config.compute.device
    if device.startswith("cuda:") and not torch.distributed.is_initialized():
        torch.cuda.set_device(device)
    precision = {"fp32": "no"}.get(config.compute.precision, config.compute.precision)
    return Accelerator(mixed_precision=precision, cpu=device == "cpu")


def keep_freed_memory() -> None:
    """Let the allocator of Linux keep what a step frees for the next one.

    By default it returns large blocks at once, so that every step waits for the system to clear
    their pages anew: a tenth of the time of a step on the CPU.
    """
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):  # not every C library has this
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_THRESHOLD, LARGEST_KEPT)
        libc.mallopt(TRIM_THRESHOLD, MOST_KEPT)


def fresh_network(spec: BackboneSpec, seed: int) -> Backbone:
    """Build a network whose weights are a function of the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(fold((seed, int(Purpose.WEIGHTS))))  # noqa: TID251 - layers draw from the global generator
        return build_backbone(spec)


def peak_memory() -> int:
    """Return the most memory that this process held, in bytes."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return int(getattr(psutil.Process().memory_info(), "peak_wset", 0))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def process_start() -> float:
    """Return when this process began, in seconds since 1970."""
    try:
        return float(psutil.Process().create_time())
    except psutil.Error:
        return time.time()
