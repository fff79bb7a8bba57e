"""What a network computes on the way: the outputs of its layers, read with forward hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_ssl_pretrain.spec.backbones import BACKBONES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ssl_pretrain.engine.backbones import Backbone, BackboneSpec

VIT_DEPTHS = (0.5, 1.0)
"""Blocks of a vision transformer that are read, as a share of its depth: the last ones lean
towards the pretext task (He et al. 2022, table 1; Caron et al. 2021, arXiv:2104.14294)."""


class Taps:
    """Runs a network and returns what its layers made of the images.

    U-Nets: the stages of encoder and decoder. Vision transformers: the tokens after some of the
    blocks. MONAI's networks: their levels.

    Parameters
    ----------
    model
        The network, in evaluation mode.
    spec
        What it was built from.

    Attributes
    ----------
    step
        Pixels of a cell of the finest grid that is worth keeping, on each axis.
    multiple
        Numbers that the sides of the images must be multiples of.
    """

    def __init__(self, model: Backbone, spec: BackboneSpec) -> None:
        self._model = model.eval()
        family = BACKBONES[spec.name].family
        self._tokens: tuple[int, ...] | None = None
        net: Any = model
        if family == "mae":
            token = tuple(spec.options["token_size"])
            self._tokens = token
            depth = len(net.blocks)
            self._modules = [net.blocks[max(0, round(depth * d) - 1)] for d in VIT_DEPTHS]
            self.step = tuple(max(1, t // 4) for t in token)
        elif family == "unet":
            self._modules = [*net.net.encoder.stages, *net.net.decoder.stages]
            second = spec.options["strides"][1:2] or [(1,) * spec.ndim]
            self.step = tuple(second[0])
        else:
            self._modules = _levels(net.net)
            self.step = (2,) * spec.ndim
        self.multiple = tuple(model.multiple)

    @property
    def positional(self) -> bool:
        """Whether the network knows where in a tile a pixel is."""
        return self._tokens is not None

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the layers of images ``B C *spatial``, each ``B D *coarser``, float32."""
        found: list[torch.Tensor] = []

        def keep(_module: nn.Module, _args: Any, output: torch.Tensor) -> None:
            found.append(output.detach().float().clone())  # networks go on in place

        hooks = [module.register_forward_hook(keep) for module in self._modules]
        try:
            self._model(images)
        finally:
            for hook in hooks:
                hook.remove()
        if self._tokens is None:
            return found
        grid = [n // t for n, t in zip(images.shape[2:], self._tokens, strict=True)]
        # what attention spreads over all tokens of a tile would show as the outline of the tile
        found = [x - x.median(dim=1, keepdim=True).values for x in found]
        return [x.transpose(1, 2).reshape(len(x), -1, *grid) for x in found]


def _levels(net: nn.Module) -> list[nn.Module]:
    """Return the modules of a network of MONAI that make its levels."""
    if hasattr(net, "down_layers"):
        return [*net.down_layers, *net.up_layers]  # type: ignore[misc, unused-ignore]
    return [m for m in net.modules() if type(m).__name__ in {"ConvBlock", "AttentionLayer"}]


def to_grid(layer: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    """Bring a layer ``B D *spatial`` to a grid: averaged where finer, linear where coarser."""
    pooled = [min(g, n) for g, n in zip(grid, layer.shape[2:], strict=True)]
    if pooled != list(layer.shape[2:]):
        layer = nn.functional.interpolate(layer, size=pooled, mode="area")
    if pooled != list(grid):
        mode = "bilinear" if len(pooled) == 2 else "trilinear"  # noqa: PLR2004
        layer = nn.functional.interpolate(layer, size=list(grid), mode=mode, align_corners=False)
    return layer
