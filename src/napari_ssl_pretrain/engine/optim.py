"""AdamW in parameter groups, and a learning rate that is a pure function of the step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping

FULL_RATE_INPUTS = 432
"""Inputs of a unit up to which it learns at the full rate: a 3 x 3 x 3 kernel over 16 channels."""

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)  # noqa: SLF001


def make_optimizer(
    model: nn.Module, learning_rate: float, weight_decay: float, *, betas: tuple[float, float]
) -> torch.optim.AdamW:
    """Return AdamW that decays weight matrices, but no bias, norm, position or token.

    Loshchilov & Hutter, "Decoupled weight decay regularization" (2019), arXiv:1711.05101.
    """
    factors = rate_factors(model)
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            token = name.rsplit(".", 1)[-1].endswith("token")
            decay = 0.0 if parameter.ndim <= 1 or token else weight_decay
            found.setdefault((decay, factors.get(parameter, 1.0)), []).append(parameter)
    groups = [{"params": p, "weight_decay": d, "factor": f} for (d, f), p in found.items()]
    device = next(model.parameters()).device.type
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=device in {"cpu", "cuda"})


def rate_factors(model: nn.Module) -> Mapping[torch.Tensor, float]:
    """Return what the learning rate of weights is multiplied by, where that is not 1.

    One step of Adam moves every weight by about the rate, and so a unit's sum by the rate times
    the number of its inputs. Norms take that back. Without any, deep layers with thousands of
    inputs grow until most units are below zero and the next fine-tuning falls apart; there the
    rate falls with the number of inputs (Yang et al., "Tensor programs V" (2022),
    arXiv:2203.03466).
    """
    if any(isinstance(module, _NORMS) for module in model.modules()):
        return {}
    factors = {}
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd):  # noqa: SLF001
            # a transposed convolution with strides as long as its kernel sums over channels only
            inputs = module.in_channels if module.transposed else module.weight[0].numel()
            if inputs > FULL_RATE_INPUTS:
                factors[module.weight] = FULL_RATE_INPUTS / inputs
    return factors


def learning_rate_at(step: int, steps: int, peak: float, warmup: int) -> float:
    """Return the rate of a step: a linear rise, then half a cosine down to a hundredth of the peak.

    Loshchilov & Hutter, "SGDR" (2017), arXiv:1608.03983, without restarts.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group this learning rate, times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def learning_rate_of(optimizer: torch.optim.Optimizer) -> float:
    """Return the rate that :func:`set_learning_rate` was given."""
    group = optimizer.param_groups[0]
    return float(group["lr"] / group["factor"])
