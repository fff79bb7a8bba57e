"""The masked autoencoder of napari-ssl-pretrain in plain torch: nothing else is needed.

    network = MaskedAutoencoder(**card["architecture"]["arguments"])
    network.load_state_dict(safetensors.torch.load_file("model.safetensors"))
    features = network.encode(images)     # B tokens embed_dim, for a task of your own
    residual = network(images)            # B C *spatial, everything visible
    residual = network(images, hidden)    # with hidden tokens: B *grid, as many in each sample

As in pretraining, ``images`` are normalised and then each less its centre and divided by its
spread, as ``output`` in the card says: residuals are multiplied by that spread.

He et al., "Masked autoencoders are scalable vision learners" (2022), arXiv:2111.06377.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        width = int(dim * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.Linear(width, dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens ``B L dim`` to the same."""
        b, length, dim = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(b, length, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(mixed.transpose(1, 2).reshape(b, length, dim))
        out: torch.Tensor = x + self.mlp(self.norm2(x))
        return out


class MaskedAutoencoder(nn.Module):
    """Encode visible tokens, decode all. The arguments are those of the model's card."""

    def __init__(  # noqa: PLR0913 - the card's
        self,
        *,
        in_channels: int,
        out_channels: int,
        token_size: Sequence[int],
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        decoder_embed_dim: int,
        decoder_depth: int,
        decoder_num_heads: int,
    ) -> None:
        super().__init__()
        self.token = tuple(token_size)
        pixels, narrow = math.prod(self.token), decoder_embed_dim
        self.token_embed = nn.Linear(pixels * in_channels, embed_dim)
        self.blocks = nn.ModuleList([Block(embed_dim, num_heads, mlp_ratio) for _ in range(depth)])
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.decoder_embed = nn.Linear(embed_dim, narrow)
        self.hidden_token = nn.Parameter(torch.zeros(1, 1, narrow))
        self.decoder_blocks = nn.ModuleList(
            [Block(narrow, decoder_num_heads, mlp_ratio) for _ in range(decoder_depth)]
        )
        self.decoder_norm = nn.LayerNorm(narrow, eps=1e-6)
        self.decoder_head = nn.Linear(narrow, pixels * out_channels)

    def forward(self, images: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
        """Return the residual ``B C *spatial``."""
        grid = self.grid(images)
        order = self._visible_first(images, hidden)
        seen = order.shape[1] if hidden is None else int((~hidden[0]).sum())
        x = self.decoder_embed(self.encode(images, order[:, :seen]))
        rest = self.hidden_token.expand(len(x), order.shape[1] - seen, -1)
        x = torch.cat([x, rest], dim=1)
        x = x.gather(1, order.argsort(dim=1)[..., None].expand_as(x))
        x = x + positions(grid, x.shape[-1]).to(x)
        for block in self.decoder_blocks:
            x = block(x)
        return self._to_images(self.decoder_head(self.decoder_norm(x)), grid)

    def encode(self, images: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """Return features ``B V embed_dim`` of the tokens ``keep`` (``B V``), or of all."""
        tokens = self._to_tokens(images)
        where = positions(self.grid(images), self.token_embed.out_features).to(tokens)
        if keep is None:
            x = self.token_embed(tokens) + where
        else:
            kept = tokens.gather(1, keep[..., None].expand(-1, -1, tokens.shape[-1]))
            x = self.token_embed(kept) + where[keep]
        for block in self.blocks:
            x = block(x)
        out: torch.Tensor = self.norm(x)
        return out

    def grid(self, images: torch.Tensor) -> tuple[int, ...]:
        """Return the number of tokens along each axis."""
        return tuple(n // t for n, t in zip(images.shape[2:], self.token, strict=True))

    def _visible_first(self, images: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        if hidden is None:
            hidden = torch.zeros(len(images), *self.grid(images), dtype=torch.bool)
        return hidden.flatten(1).to(images.device, torch.uint8).argsort(dim=1, stable=True)

    def _to_tokens(self, images: torch.Tensor) -> torch.Tensor:
        """Cut ``B C *spatial`` into tokens ``B L (pixels C)``."""
        ndim, shape = len(self.token), list(images.shape[:2])
        for size, side in zip(images.shape[2:], self.token, strict=True):
            shape += [size // side, side]
        order = [2 + 2 * k for k in range(ndim)] + [3 + 2 * k for k in range(ndim)]
        tokens = images.reshape(shape).permute(0, *order, 1)
        return tokens.reshape(len(images), math.prod(self.grid(images)), -1)

    def _to_images(self, tokens: torch.Tensor, grid: tuple[int, ...]) -> torch.Tensor:
        """Put tokens ``B L (pixels C)`` back together to ``B C *spatial``."""
        ndim = len(grid)
        images = tokens.reshape(len(tokens), *grid, *self.token, -1)
        order = [axis for k in range(ndim) for axis in (1 + k, 1 + ndim + k)]
        spatial = [g * t for g, t in zip(grid, self.token, strict=True)]
        return images.permute(0, 2 * ndim + 1, *order).reshape(len(tokens), -1, *spatial)


def positions(grid: tuple[int, ...], dim: int) -> torch.Tensor:
    """Return fixed positions ``L dim``: sines and cosines of ``p / 10000^(k/n)``, axis by axis."""
    half = dim // (2 * len(grid))
    rates = 1.0 / 10000 ** (torch.arange(half, dtype=torch.float64) / max(1, half))
    steps = [torch.arange(n, dtype=torch.float64) for n in grid]
    angles = [a.reshape(-1, 1) * rates for a in torch.meshgrid(*steps, indexing="ij")]
    found = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return nn.functional.pad(found, (0, dim - found.shape[1])).float()
