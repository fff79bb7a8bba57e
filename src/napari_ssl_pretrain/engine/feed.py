"""Batches: patches in the files' own dtype, brought to the device and turned into a pretext batch.

Everything random is a function of (seed, purpose, step, index), so that workers, the number of
processes and a resume do not change the data.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ssl_pretrain.data.intensity import ImageIntensity, finite
from napari_ssl_pretrain.engine.augment import turn_coins, turned
from napari_ssl_pretrain.engine.random import TorchRandom
from napari_ssl_pretrain.pretext import Crappify, Intensity, Masking, PretextBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_ssl_pretrain.data.patches import Patch, PatchSource


class Purpose(IntEnum):
    """What random numbers are for; part of every key, so that uses do not share numbers."""

    PATCH = 1  # data.patches keeps its own keys; the number stays taken
    PRETEXT = 2
    AUGMENT = 3
    VALIDATION = 4
    TEST = 5
    WEIGHTS = 6


@dataclass(frozen=True)
class HostBatch:
    """A batch before it goes to the device.

    Attributes
    ----------
    clean
        ``B C *spatial`` in the files' dtype, or float32.
    worsened
        The stored copies' same patches, or None where they are made anew.
    intensity
        Intensities of the image of each sample, numpy.
    indices
        Global index of each sample within its step.
    step
        Number of the step.
    images
        Number of the image that each sample is from.
    """

    clean: np.ndarray
    worsened: np.ndarray | None
    intensity: Intensity
    indices: tuple[int, ...]
    step: int
    images: tuple[int, ...]


@dataclass(frozen=True)
class PatchSet:
    """Where patches come from.

    Attributes
    ----------
    clean, worsened
        Sources with the same regions; ``worsened`` is None unless stored copies are used.
    intensities
        One an image: normalisation of what the network sees, low and high of the clean image.
    """

    clean: PatchSource
    worsened: PatchSource | None
    intensities: Sequence[ImageIntensity]


def host_batch(
    patches: PatchSet,
    drawn: Sequence[tuple[Patch, Patch | None]],
    indices: Sequence[int],
    step: int,
) -> HostBatch:
    """Stack patches and the intensities of their images."""
    of = [patches.intensities[clean.image] for clean, _ in drawn]
    intensity = Intensity(
        np.stack([i.offset for i in of]).astype(np.float32),
        np.stack([i.scale for i in of]).astype(np.float32),
        np.array([i.low for i in of], np.float32),
        np.array([i.high for i in of], np.float32),
    )
    clean = stack([c.array for c, _ in drawn], of)
    worse = [w.array for _, w in drawn if w is not None]
    return HostBatch(
        clean,
        stack(worse, of) if worse else None,
        intensity,
        tuple(indices),
        step,
        tuple(c.image for c, _ in drawn),
    )


def turned_alike(
    drawn: Sequence[tuple[Patch, Patch | None]], key: Sequence[int], indices: Sequence[int]
) -> list[tuple[Patch, Patch | None]]:
    """Mirror and turn patches at random, each pair alike."""
    coins = turn_coins(key, indices, drawn[0][0].array.ndim - 1)
    return [
        (
            replace(clean, array=turned(clean.array, row)),
            worse and replace(worse, array=turned(worse.array, row)),
        )
        for (clean, worse), row in zip(drawn, coins, strict=True)
    ]


def stack(arrays: Sequence[np.ndarray], intensities: Sequence[ImageIntensity]) -> np.ndarray:
    """Stack to one array: uint8 stays uint8, all else becomes finite float32."""
    if all(a.dtype == np.uint8 for a in arrays):
        return np.stack(arrays)
    return np.stack([finite(a, i.mean) for a, i in zip(arrays, intensities, strict=True)])


class Feed:
    """Makes the batches of training and validation on one device.

    Parameters
    ----------
    task
        The pretext task.
    seed
        Seed of the run.
    device
        Where batches are made.
    """

    def __init__(self, task: Crappify | Masking, seed: int, device: torch.device) -> None:
        self._task = task
        self._seed = seed
        self._device = device

    @property
    def device(self) -> torch.device:
        """Where batches are made."""
        return self._device

    def to_device(self, host: HostBatch, purpose: Purpose) -> PretextBatch:
        """Bring a batch to the device and let the pretext task work on it."""
        clean = self._tensor(host.clean)
        intensity = Intensity(*(torch.from_numpy(v).to(self._device) for v in host.intensity))
        if host.worsened is not None and isinstance(self._task, Crappify):
            return self._task.pair(self._tensor(host.worsened), clean, intensity)
        return self._task.make_batch(clean, intensity, self._random(host, purpose))

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor.to(self._device, non_blocking=True).float()

    def _random(self, host: HostBatch, purpose: Purpose) -> TorchRandom:
        keys = [(self._seed, int(purpose), host.step, index) for index in host.indices]
        return TorchRandom(keys, self._device)


def training_batches(
    patches: PatchSet,
    seed: int,
    steps: range,
    indices: Sequence[int],
    workers: int,
    *,
    augment: bool,
) -> Iterator[HostBatch]:
    """Yield the batch of each step, read ahead by threads.

    Parameters
    ----------
    patches
        Where they come from.
    seed
        Seed of the run.
    steps
        The steps.
    indices
        Which samples of each step are this process's.
    workers
        Number of threads; 0 reads when asked.
    augment
        Whether to mirror and turn the patches at random.
    """

    def read(step: int) -> HostBatch:
        drawn = [
            (
                patches.clean.draw(seed, step, index),
                patches.worsened.draw(seed, step, index) if patches.worsened else None,
            )
            for index in indices
        ]
        if augment:
            drawn = turned_alike(drawn, (seed, int(Purpose.AUGMENT), step), indices)
        return host_batch(patches, drawn, indices, step)

    if workers == 0:
        yield from map(read, steps)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="read-ahead") as pool:
        ahead: deque[Future[HostBatch]] = deque()
        try:
            for step in steps:
                ahead.append(pool.submit(read, step))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def validation_batches(
    patches: PatchSet, seed: int, count: int, batch_size: int
) -> list[HostBatch]:
    """Return fixed batches, the same at every call: patches spread over the regions."""
    clean = patches.clean.fixed(count, seed)
    worse = patches.worsened.fixed(count, seed) if patches.worsened else [None] * len(clean)
    pairs = list(zip(clean, worse, strict=True))
    return [
        host_batch(patches, pairs[i : i + batch_size], range(i, min(i + batch_size, len(pairs))), 0)
        for i in range(0, len(pairs), batch_size)
    ]
