"""What is known of the images and of the machine before a run: plain numbers, no pixels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSummary:
    """The training images in numbers.

    Attributes
    ----------
    ndim
        2 or 3.
    in_channels
        Channels that are used.
    shapes
        Spatial shape ``(z,) y, x`` of each training frame (a volume, or a plane at one time).
    voxel_size
        Spacing of each spatial axis, in one unit, or None where the files do not say.
    """

    ndim: int
    in_channels: int
    shapes: tuple[tuple[int, ...], ...]
    voxel_size: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Hardware:
    """What the machine offers.

    Attributes
    ----------
    device
        Device as torch names it, such as ``cpu`` or ``cuda:0``.
    cores
        Processor cores that this process may use.
    memory_gb
        Host memory that is free for this process.
    device_memory_gb
        Memory of the accelerator, or None on the CPU.
    bf16
        Whether bfloat16 arithmetic is fast there.
    processes
        Training processes (ranks) that share the work.
    neighbours
        Those of them that share this machine.
    """

    device: str
    cores: int
    memory_gb: float
    device_memory_gb: float | None = None
    bf16: bool = False
    processes: int = 1
    neighbours: int = 1
