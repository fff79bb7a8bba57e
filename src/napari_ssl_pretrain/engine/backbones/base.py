"""What every backbone is: a network from what is seen to a residual of the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

SHOWN = 4
"""Names of fresh parameters that a report lists."""


class BackboneSpec(NamedTuple):
    """Plain numbers and words that rebuild a network; stored in its checkpoint."""

    name: str
    ndim: int
    in_channels: int
    out_channels: int
    sees_hidden: bool
    options: dict[str, Any]


class Architecture(NamedTuple):
    """The public class that a backbone is built around.

    Attributes
    ----------
    kind
        The class, which anybody can import.
    arguments
        What it was built with.
    prefix
        What stands in front of its parameters' names in the backbone.
    """

    kind: type[nn.Module]
    arguments: dict[str, Any]
    prefix: str

    def build(self) -> Any:
        """Return the network, with the library's own fresh weights."""
        return self.kind(**self.arguments)


@dataclass(frozen=True)
class LoadReport:
    """How much of a network came from a checkpoint.

    Attributes
    ----------
    filled, random
        Names of parameters that were loaded, and that kept their fresh values.
    share
        Loaded part of all the network's numbers, 0 to 1.
    """

    filled: tuple[str, ...]
    random: tuple[str, ...]
    share: float

    def __str__(self) -> str:
        text = f"{math.floor(100 * self.share)}% of the network loaded"  # never 100 for less
        if not self.random:
            return text
        more = len(self.random) - SHOWN
        shown = ", ".join(self.random[:SHOWN]) + (f" and {more} more" if more > 0 else "")
        return f"{text}; fresh: {shown}"


class Backbone(nn.Module):
    """A network ``forward(images, hidden) -> residual``.

    ``images`` is ``B C *spatial``; ``hidden`` is the token grid ``B *grid`` of the masking
    task, True where the network cannot see, or None. The residual is ``B C *spatial`` and zero
    before any training.

    Attributes
    ----------
    architecture
        The public class behind it; None where there is none.
    multiple
        Numbers that the sides of the images must be multiples of.
    load_report
        What :func:`~napari_ssl_pretrain.load_backbone` loaded; None before.
    """

    architecture: Architecture | None = None
    multiple: tuple[int, ...] = ()
    load_report: LoadReport | None = None

    def forward(self, images: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
        """Return the residual ``B C *spatial``."""
        raise NotImplementedError

    def encoder_prefixes(self) -> tuple[str, ...]:
        """Return the beginnings of the parameter names that make the encoder."""
        raise NotImplementedError

    def head_prefixes(self) -> tuple[str, ...]:
        """Return the beginnings of the parameter names of the last layer."""
        raise NotImplementedError

    def replace_head(self, out_channels: int) -> None:
        """Put a fresh last layer with this many output channels in place."""
        raise NotImplementedError


def with_hidden_channel(images: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
    """Append one channel to ``B C *spatial``: 1 where a pixel is hidden, else 0."""
    if hidden is None:
        flags = torch.zeros_like(images[:, :1])
    else:
        flags = nn.functional.interpolate(
            hidden[:, None].to(images.dtype), size=images.shape[2:], mode="nearest"
        )
    return torch.cat([images, flags], dim=1)


def zero_(layer: nn.Module) -> None:
    """Set weight and bias of a layer to zero, so that its output starts at zero."""
    for parameter in layer.parameters(recurse=False):
        nn.init.zeros_(parameter)


CONV: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
INSTANCE_NORM: dict[int, type[nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
