"""A network as a graph of fixed operations: no branches on values, hidden pixels as an input."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_ssl_pretrain.engine.backbones.mae_vit import (
    MaskedAutoencoder,
    from_tokens,
    to_tokens,
)
from napari_ssl_pretrain.pretext.masking import visible_moments
from napari_ssl_pretrain.pretext.smooth import fill_smooth

if TYPE_CHECKING:
    from napari_ssl_pretrain.engine.backbones import Backbone

POOL = {2: nn.functional.max_pool2d, 3: nn.functional.max_pool3d}


class Graph(nn.Module):
    """``forward(image) -> output, restored``; of masking networks ``forward(image, hidden)``.

    Parameters
    ----------
    model
        The network.
    state
        Its checkpoint.
    """

    def __init__(self, model: Backbone, state: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.net: Any = getattr(model, "net", None)
        self.ndim: int = state["ndim"]
        self.sees_hidden = isinstance(model, MaskedAutoencoder) or state["backbone"]["sees_hidden"]
        # tokens that were standardised cannot be added to the image
        masking = state["task"] == "masking"
        self.restores = not (masking and state["config"]["pretext"]["normalize_target"])
        self.hides_tokens = self.fixed = isinstance(model, MaskedAutoencoder)
        sides = state["patch_size"]
        self.sides = [
            -(-side // m) * m if self.fixed else 2 * m
            for side, m in zip(sides, model.multiple, strict=True)
        ]

    @property
    def cell(self) -> tuple[int, ...]:
        """Pixels that are hidden together in examples."""
        return self.model.multiple

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return ("image", "hidden") if self.sees_hidden else ("image",)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return ("output", "restored") if self.restores else ("output",)

    def example(self, channels: int, batch: int, times: int, seed: int) -> tuple[torch.Tensor, ...]:
        """Return inputs, ``times`` the smallest sides, with a quarter of the tokens hidden."""
        random = torch.Generator().manual_seed(seed)
        sides = self.sides if self.fixed else [times * side for side in self.sides]
        image = torch.randn(batch, channels, *sides, generator=random)
        if not self.sees_hidden:
            return (image,)
        cells = [n // m for n, m in zip(sides, self.cell, strict=True)]
        hidden = (torch.rand(batch, 1, *cells, generator=random) < 0.25).float()  # noqa: PLR2004
        return image, nn.functional.interpolate(hidden, size=sides, mode="nearest")

    def forward(
        self, image: torch.Tensor, hidden: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        """Map ``B C *spatial`` and ``B 1 *spatial`` to the output and, where it can, the image."""
        if hidden is not None and isinstance(self.model, MaskedAutoencoder):
            output = _autoencoder(self.model, image, _hidden_tokens(self.model, hidden))
        else:
            seen = image if hidden is None else torch.cat([image, hidden], dim=1)
            output = self.net(seen)
        return (output, image + output) if self.restores else (output,)


def _hidden_tokens(model: MaskedAutoencoder, hidden: torch.Tensor) -> torch.Tensor:
    """Return ``B L``: tokens of which any pixel is hidden; never all, as the network does."""
    pool = POOL[hidden.dim() - 2]
    flags = pool(hidden, model.token_size, model.token_size).flatten(1) > 0.5  # noqa: PLR2004
    first = torch.arange(flags.shape[1]) == 0
    return flags & ~(flags.all(dim=1, keepdim=True) & first)


def _autoencoder(
    model: MaskedAutoencoder, image: torch.Tensor, hidden: torch.Tensor
) -> torch.Tensor:
    """Encode all tokens, the hidden ones unseen by any other: the same numbers, more work."""
    grid = tuple(n // t for n, t in zip(image.shape[2:], model.token_size, strict=True))
    x = model.token_embed(to_tokens(image, model.token_size))
    x = x + model.positions(grid, x.shape[-1], x.device)
    for block in model.blocks:
        x = block(x, ~hidden[:, None, None, :])
    x = model.decoder_embed(model.norm(x))
    x = torch.where(hidden[..., None], model.hidden_token, x)
    x = x + model.positions(grid, x.shape[-1], x.device)
    for block in model.decoder_blocks:
        x = block(x)
    tokens = model.decoder_head(model.decoder_norm(x))
    return from_tokens(tokens, model.token_size, grid)


def wanted(model: Backbone, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return what the network itself makes of the inputs of its graph."""
    image, *rest = inputs
    hidden = None
    if rest:
        steps: list[Any] = [slice(None, None, m) for m in model.multiple]
        hidden = rest[0][(slice(None), 0, *steps)] > 0.5  # noqa: PLR2004
    with torch.no_grad():
        out: torch.Tensor = model(image, hidden)
    return out


class TaskGraph(Graph):
    """The whole task: ``forward(image) -> restored``, or ``forward(image, hidden) -> restored``.

    Hidden pixels of the image are never read; they are filled, and each patch is centred, as in
    pretraining. The sides are then those of the patches.

    Parameters
    ----------
    model
        The network.
    state
        Its checkpoint.
    """

    def __init__(self, model: Backbone, state: dict[str, Any]) -> None:
        super().__init__(model, state)
        self.masking = state["task"] == "masking"
        self.token_size = (1,) * self.ndim
        if self.masking:
            self.fixed = True
            self.token_size = tuple(state["config"]["pretext"]["token_size"])
        units = [math.lcm(*pair) for pair in zip(model.multiple, self.token_size, strict=True)]
        sides = zip(state["patch_size"], units, strict=True)
        self.sides = [-(-side // unit) * unit for side, unit in sides]

    @property
    def cell(self) -> tuple[int, ...]:
        """Pixels that are hidden together in examples."""
        return self.token_size

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return ("restored",) if self.restores else ("output",)

    def forward(
        self, image: torch.Tensor, hidden: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        """Map a normalised image to the restored one, both ``B C *spatial``."""
        if hidden is None:
            return (image + super().forward(image)[0],)
        known = image * (1 - hidden)
        filled = fill_smooth(known, hidden, self.token_size)
        if not self.restores:
            return super().forward(filled, hidden)[:1]
        centre, spread = visible_moments(known, hidden)
        output = super().forward((filled - centre) / spread, hidden)[0]
        return (filled + output * spread,)
