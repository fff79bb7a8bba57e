"""Random numbers of a batch on its device, each sample with a stream of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence


class TorchRandom:
    """Random numbers that depend on (seed, step, index) alone.

    So the workers, the number of processes and a resume do not change the data.

    Parameters
    ----------
    keys
        One sequence of non-negative integers a sample, such as (seed, step, index).
    device
        Where the numbers are drawn; CPU and CUDA give different numbers for one key.
    """

    def __init__(self, keys: Sequence[Sequence[int]], device: torch.device) -> None:
        self._device = device
        self._generators = [torch.Generator(device).manual_seed(fold(key)) for key in keys]

    def normal(self, shape: Sequence[int]) -> torch.Tensor:
        """Draw standard normal float32 numbers; the first axis is the sample."""
        drawn = torch.empty(tuple(shape), device=self._device)
        for sample, generator in zip(drawn, self._generators, strict=True):
            sample.normal_(generator=generator)
        return drawn

    def uniform(self, shape: Sequence[int]) -> torch.Tensor:
        """Draw float32 numbers from [0, 1); the first axis is the sample."""
        drawn = torch.empty(tuple(shape), device=self._device)
        for sample, generator in zip(drawn, self._generators, strict=True):
            sample.uniform_(generator=generator)
        return drawn


def fold(key: Sequence[int]) -> int:
    """Mix a sequence of non-negative integers into one 63-bit seed."""
    return int(np.random.SeedSequence(list(key)).generate_state(1, np.uint64)[0] >> np.uint64(1))
