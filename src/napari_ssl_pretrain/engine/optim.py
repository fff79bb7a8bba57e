"""AdamW in parameter groups, and a learning rate that is a pure function of the step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn


def make_optimizer(
    model: nn.Module, learning_rate: float, weight_decay: float, *, betas: tuple[float, float]
) -> torch.optim.AdamW:
    """Return AdamW that decays weight matrices, but no bias, norm, position or token.

    Loshchilov & Hutter, "Decoupled weight decay regularization" (2019), arXiv:1711.05101.
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            token = name.rsplit(".", 1)[-1].endswith("token")
            (plain if parameter.ndim <= 1 or token else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    device = next(model.parameters()).device.type
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=device in {"cpu", "cuda"})


def learning_rate_at(step: int, steps: int, peak: float, warmup: int) -> float:
    """Return the rate of a step: a linear rise, then half a cosine down to a hundredth of the peak.

    Loshchilov & Hutter, "SGDR" (2017), arXiv:1608.03983, without restarts.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
