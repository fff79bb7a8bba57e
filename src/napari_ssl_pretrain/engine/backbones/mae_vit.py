"""The masked autoencoder: a vision transformer on visible tokens, a light decoder on all.

He et al., "Masked autoencoders are scalable vision learners" (2022), arXiv:2111.06377. Differs
from the paper: 2D and 3D with tokens of any shape, no class token, and the head starts at zero
because the output is added to a first guess of the image.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from napari_ssl_pretrain.engine.backbones.base import Backbone, BackboneSpec, zero_


def sincos_positions(grid: tuple[int, ...], dim: int) -> torch.Tensor:
    """Return fixed positions ``L dim`` of a token grid, L its tokens in C order.

    ``dim`` is shared among the axes; each has sines, then cosines, of ``p / 10000^(k/n)``
    (Vaswani et al. 2017, arXiv:1706.03762, once an axis). What cannot be shared is zero.
    """
    half = dim // (2 * len(grid))
    rates = 1.0 / 10000 ** (torch.arange(half, dtype=torch.float64) / max(1, half))
    axes = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in grid], indexing="ij")
    parts = []
    for axis in axes:
        angle = axis.reshape(-1, 1) * rates
        parts += [angle.sin(), angle.cos()]
    positions = torch.cat(parts, dim=1)
    return nn.functional.pad(positions, (0, dim - positions.shape[1])).float()


def to_tokens(images: torch.Tensor, token: tuple[int, ...]) -> torch.Tensor:
    """Cut ``B C *spatial`` into tokens ``B L (pixels C)``."""
    shape = list(images.shape[:2])
    for size, side in zip(images.shape[2:], token, strict=True):
        shape += [size // side, side]
    ndim = len(token)
    grid_axes = [2 + 2 * k for k in range(ndim)]
    pixel_axes = [3 + 2 * k for k in range(ndim)]
    tokens = images.reshape(shape).permute(0, *grid_axes, *pixel_axes, 1)
    length = math.prod(tokens.shape[1 : 1 + ndim])
    return tokens.reshape(images.shape[0], length, -1)


def from_tokens(
    tokens: torch.Tensor, token: tuple[int, ...], grid: tuple[int, ...]
) -> torch.Tensor:
    """Put tokens ``B L (pixels C)`` back together to ``B C *spatial``."""
    ndim = len(token)
    images = tokens.reshape(tokens.shape[0], *grid, *token, -1)
    order = [0, 2 * ndim + 1]
    for k in range(ndim):
        order += [1 + k, 1 + ndim + k]
    spatial = [g * t for g, t in zip(grid, token, strict=True)]
    return images.permute(order).reshape(tokens.shape[0], -1, *spatial)


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

    def forward(self, x: torch.Tensor, allowed: torch.Tensor | None = None) -> torch.Tensor:
        """Map tokens ``B L dim``; ``allowed`` is ``B 1 1 L``, True for tokens to attend to."""
        b, length, dim = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(b, length, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        x = x + self.proj(mixed.transpose(1, 2).reshape(b, length, dim))
        out: torch.Tensor = x + self.mlp(self.norm2(x))
        return out


class MaskedAutoencoder(Backbone):
    """Encode visible tokens, decode all.

    Parameters
    ----------
    spec
        Options: ``token_size``, ``embed_dim``, ``depth``, ``num_heads``, ``mlp_ratio``,
        ``decoder_embed_dim``, ``decoder_depth``, ``decoder_num_heads``.
    """

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__()
        o = spec.options
        self.token_size: tuple[int, ...] = tuple(o["token_size"])
        self.multiple = self.token_size
        self.out_channels = spec.out_channels
        pixels = math.prod(self.token_size)
        dim, narrow = o["embed_dim"], o["decoder_embed_dim"]
        self.token_embed = nn.Linear(pixels * spec.in_channels, dim)
        self.blocks = nn.ModuleList(
            Block(dim, o["num_heads"], o["mlp_ratio"]) for _ in range(o["depth"])
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.decoder_embed = nn.Linear(dim, narrow)
        self.hidden_token = nn.Parameter(torch.zeros(1, 1, narrow))
        self.decoder_blocks = nn.ModuleList(
            Block(narrow, o["decoder_num_heads"], o["mlp_ratio"]) for _ in range(o["decoder_depth"])
        )
        self.decoder_norm = nn.LayerNorm(narrow, eps=1e-6)
        self.decoder_head = nn.Linear(narrow, pixels * spec.out_channels)
        self._positions: dict[tuple[tuple[int, ...], int, torch.device], torch.Tensor] = {}
        self.apply(_initialize)
        nn.init.normal_(self.hidden_token, std=0.02)
        for module in self.modules():
            if isinstance(module, Block):
                _look_nearby(module.qkv)
        with torch.no_grad():  # positions, not contents, decide at first what is attended to
            self.decoder_embed.weight.mul_(0.25)
        zero_(self.decoder_head)

    def forward(self, images: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
        """Return the residual ``B C *spatial``; no hidden tokens means that all are seen."""
        grid = tuple(n // t for n, t in zip(images.shape[2:], self.token_size, strict=True))
        if hidden is None:
            hidden = torch.zeros((images.shape[0], *grid), dtype=torch.bool, device=images.device)
        order, seen, allowed = _visible_first(hidden.flatten(1))
        latent = self.encode(images, order[:, :seen], allowed)
        decoded = self.decode(latent, order, grid, allowed)
        return from_tokens(self.decoder_head(decoded), self.token_size, grid)

    def encode(
        self, images: torch.Tensor, keep: torch.Tensor, allowed: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Encode the tokens ``keep`` (``B V`` indices) of ``B C *spatial`` to ``B V dim``."""
        grid = tuple(n // t for n, t in zip(images.shape[2:], self.token_size, strict=True))
        tokens = to_tokens(images, self.token_size)
        tokens = tokens.gather(1, keep[..., None].expand(-1, -1, tokens.shape[-1]))
        x = self.token_embed(tokens)
        x = x + self.positions(grid, x.shape[-1], x.device)[keep].to(x.dtype)
        for block in self.blocks:
            x = block(x, allowed)
        out: torch.Tensor = self.norm(x)
        return out

    def decode(
        self,
        latent: torch.Tensor,
        order: torch.Tensor,
        grid: tuple[int, ...],
        allowed: torch.Tensor | None,
    ) -> torch.Tensor:
        """Decode ``B V dim`` to all tokens ``B L narrow``, hidden ones from their position."""
        x = self.decoder_embed(latent)
        b, seen, narrow = x.shape
        rest = order.shape[1] - seen
        if allowed is not None:  # padding of the encoder is hidden to the decoder as well
            x = torch.where(allowed[:, 0, 0, :, None], x, self.hidden_token.to(x.dtype))
        x = torch.cat([x, self.hidden_token.to(x.dtype).expand(b, rest, narrow)], dim=1)
        back = order.argsort(dim=1)
        x = x.gather(1, back[..., None].expand(-1, -1, narrow))
        x = x + self.positions(grid, narrow, x.device).to(x.dtype)
        for block in self.decoder_blocks:
            x = block(x)
        out: torch.Tensor = self.decoder_norm(x)
        return out

    def positions(self, grid: tuple[int, ...], dim: int, device: torch.device) -> torch.Tensor:
        """Return the positions ``L dim`` of a token grid, computed once a grid."""
        key = (grid, dim, device)
        if key not in self._positions:
            self._positions[key] = sincos_positions(grid, dim).to(device)
        return self._positions[key]

    def encoder_prefixes(self) -> tuple[str, ...]:
        """Return the beginnings of the parameter names that make the encoder."""
        return ("token_embed.", "blocks.", "norm.")

    def head_prefixes(self) -> tuple[str, ...]:
        """Return the beginnings of the parameter names of the last layer."""
        return ("decoder_head.",)

    def replace_head(self, out_channels: int) -> None:
        """Put a fresh last layer with this many output channels in place."""
        pixels = math.prod(self.token_size)
        self.decoder_head = nn.Linear(self.decoder_head.in_features, pixels * out_channels)
        self.out_channels = out_channels


def _visible_first(hidden: torch.Tensor) -> tuple[torch.Tensor, int, torch.Tensor | None]:
    """Return an order ``B L`` with visible tokens first, how many to keep, and what may be seen.

    Samples with fewer visible tokens than others are padded with hidden ones that nothing
    attends to; ``allowed`` is None where there is no padding.
    """
    order = hidden.to(torch.uint8).argsort(dim=1, stable=True)
    counts = (~hidden).sum(dim=1)
    most, least = int(counts.max()), int(counts.min())
    most = max(1, most)
    if most == least:
        return order, most, None
    places = torch.arange(most, device=hidden.device)
    return order, most, (places < counts[:, None].clamp(min=1))[:, None, None, :]


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def _look_nearby(qkv: nn.Linear) -> None:
    """Start with equal queries and keys, so that tokens attend to those of like position.

    Trockman & Kolter, "Mimetic initialization of self-attention layers" (2023),
    arXiv:2305.09828, in its simplest form. From random ones the network stays at the mean for
    hundreds of steps; so it leaves it within twenty.
    """
    dim = qkv.in_features
    with torch.no_grad():
        nn.init.normal_(qkv.weight[:dim], std=2 * dim**-0.5)
        qkv.weight[dim : 2 * dim] = qkv.weight[:dim]
