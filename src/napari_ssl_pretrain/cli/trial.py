"""A few steps on random numbers: how long a step takes and how much memory it needs, measured."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_ssl_pretrain.engine.backbones import backbone_spec
from napari_ssl_pretrain.engine.losses import pixel_loss
from napari_ssl_pretrain.engine.machine import Machine, peak_memory
from napari_ssl_pretrain.engine.random import TorchRandom
from napari_ssl_pretrain.pretext import Intensity
from napari_ssl_pretrain.spec.resolve import make_task

if TYPE_CHECKING:
    from napari_ssl_pretrain.data.survey import Survey
    from napari_ssl_pretrain.pretext import PretextBatch
    from napari_ssl_pretrain.spec.resolve import ResolvedConfig

MOST_STEPS, MOST_SECONDS = 5, 3.0
GIB = 2**30


@dataclass(frozen=True)
class Trial:
    """What a few steps showed.

    Attributes
    ----------
    parameters
        Trainable numbers of the network.
    seconds_a_step
        Time of a training step; infinite where it does not fit into memory.
    memory_gb
        Memory of the host, what is kept of the images included.
    device_memory_gb
        Memory of the accelerator, or None on the CPU.
    """

    parameters: int
    seconds_a_step: float
    memory_gb: float
    device_memory_gb: float | None


def try_steps(config: ResolvedConfig, found: Survey) -> Trial:
    """Train a fresh network of this configuration on random numbers for a moment.

    Raises
    ------
    RuntimeError
        The network fails for another reason than memory.
    """
    spec = backbone_spec(config, found.in_channels, found.voxel_size)
    machine = Machine(config, spec, None, None)
    try:
        seconds = _seconds_a_step(config, machine, found)
    except MemoryError:
        seconds = math.inf
    except RuntimeError as error:
        if "memory" not in str(error).lower():
            raise
        seconds = math.inf
    cuda = machine.device.type == "cuda"
    on_device = torch.cuda.max_memory_allocated(machine.device) / GIB if cuda else None
    kept = min(config.compute.memory_gb / 4, _image_bytes(found) / GIB)
    return Trial(machine.parameters, seconds, peak_memory() / GIB + kept, on_device)


def _seconds_a_step(config: ResolvedConfig, machine: Machine, found: Survey) -> float:
    batch = _batch(config, machine.device, found)
    took: list[float] = []
    while len(took) < 2 or (len(took) < MOST_STEPS and sum(took) < MOST_SECONDS):  # noqa: PLR2004
        began = time.monotonic()
        prediction = batch.restored(machine.wrapped).float()
        loss = pixel_loss(config.training.loss, prediction, batch.target, batch.scored)
        machine.accelerator.backward(loss)
        machine.optimizer.step()
        machine.optimizer.zero_grad(set_to_none=True)
        float(loss.detach())  # waits for the device
        took.append(time.monotonic() - began)
    return min(took)


def _batch(config: ResolvedConfig, device: torch.device, found: Survey) -> PretextBatch:
    count, channels = config.training.batch_size, found.in_channels
    images = torch.rand((count, channels, *config.data.patch_size), device=device)
    half = torch.full((count, channels), 0.5, device=device)
    ends = torch.zeros(count, device=device), torch.ones(count, device=device)
    random = TorchRandom([(0, 0, 0, index) for index in range(count)], device)
    task = make_task(config, found.voxel_size)
    return task.make_batch(images, Intensity(half, half, *ends), random)


def _image_bytes(found: Survey) -> int:
    return sum(image.frame_bytes * image.frames for image in (*found.train, *found.validation))
