"""Weights into networks: what was filled, what stayed random, and a refusal when nothing fits."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_ssl_pretrain.data.images import first_line
from napari_ssl_pretrain.engine import checkpoint
from napari_ssl_pretrain.engine.backbones import Backbone, BackboneSpec, build_backbone
from napari_ssl_pretrain.engine.backbones.base import LoadReport
from napari_ssl_pretrain.errors import CheckpointError
from napari_ssl_pretrain.spec.backbones import BACKBONES

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

LARGEST_OPTION = 4096
"""No number that describes a network is larger than this and all sides of its tensors."""

LARGEST_DEPTH = 256
"""Most layers of one kind, and stages: many small ones take long to build."""

SPARE = 2
"""A network may have so many times the numbers of the file: exports leave some out."""

LEAST_SHARE = 0.1
"""Least share of the parameters that a checkpoint must fill to be accepted."""


def load_weights(
    model: torch.nn.Module, state: dict[str, torch.Tensor], source: Path | str
) -> LoadReport:
    """Copy every tensor whose name and shape fit.

    Raises
    ------
    CheckpointError
        Next to nothing fits.
    """
    own = model.state_dict()
    filled = {
        name: fitted
        for name, value in own.items()
        if (fitted := _fit(value, state.get(name))) is not None
    }
    # layers that two parts of a network share have several names: each counts once
    once = [name for name, _ in (*model.named_parameters(), *model.named_buffers())]
    share = sum(own[n].numel() for n in once if n in filled) / max(
        1, sum(own[n].numel() for n in once)
    )
    if share < LEAST_SHARE:
        raise CheckpointError(
            source,
            f"fits only {share:.0%} of the network",
            remedy="Use the backbone, size and ndim that the checkpoint was trained with.",
        )
    model.load_state_dict({**own, **filled})
    taken = tuple(name for name in once if name in filled)
    return LoadReport(taken, tuple(name for name in once if name not in filled), share)


def _fit(own: torch.Tensor, loaded: torch.Tensor | None) -> torch.Tensor | None:
    return loaded if loaded is not None and loaded.shape == own.shape else None


def spec_from(state: dict[str, Any], path: Path | str) -> BackboneSpec:
    """Return what rebuilds the network of a checkpoint.

    Raises
    ------
    CheckpointError
        The entry is damaged, or asks for a network much larger than the weights in the file.
    """
    try:
        spec = BackboneSpec(**state["backbone"])
    except TypeError as error:
        raise CheckpointError(
            path, f"its backbone entry is damaged ({error})", remedy="Use another checkpoint."
        ) from None
    if str(spec.name) not in BACKBONES:  # a damaged entry may hold anything
        raise CheckpointError(
            path, "its network is unknown", value=spec.name, remedy="Update napari-ssl-pretrain."
        )
    try:
        _check_size(spec, state["model"])
    except Exception as error:  # noqa: BLE001 - whatever libraries say to foolish numbers
        raise CheckpointError(
            path,
            f"its network cannot be built ({first_line(error)})",
            remedy="Use another checkpoint.",
        ) from None
    return spec


def _check_size(spec: BackboneSpec, weights: dict[str, torch.Tensor]) -> None:
    """Build a network without memory and compare it with the weights that are there.

    Raises
    ------
    ValueError
        It would be much larger than they.
    """
    held = sum(value.numel() for value in weights.values())
    sides = [side for value in weights.values() for side in value.shape]
    most = max([LARGEST_OPTION, len(weights), *sides])
    deep = [v for k, v in spec.options.items() if "depth" in k or "blocks" in k]
    if (
        any(number > most for number in _numbers([*spec]))
        or any(number > LARGEST_DEPTH for number in _numbers(deep))
        or any(len(v) > LARGEST_DEPTH for v in spec.options.values() if isinstance(v, list | tuple))
    ):
        raise ValueError("its numbers are too large")
    with torch.device("meta"):
        sketch = build_backbone(spec)
    needed = sum(value.numel() for value in sketch.state_dict().values())
    if needed > SPARE * held + LARGEST_OPTION:
        raise ValueError(f"it would have {needed} numbers, the file holds {held}")


def _numbers(value: Any) -> Iterator[float]:
    """Return the numbers in nested lists and dictionaries."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, int | float):
        yield abs(value)


def load_network(path: Path) -> tuple[Backbone, dict[str, Any]]:
    """Rebuild the network of a checkpoint from the file alone, all weights loaded.

    Raises
    ------
    CheckpointError
        The file is no checkpoint of ours, or its weights do not fit its own network.
    """
    state = checkpoint.load(path)
    model = build_backbone(spec_from(state, path))
    try:
        model.load_state_dict(state["model"])
    except (RuntimeError, TypeError):
        raise CheckpointError(
            path, "its weights do not fit its own network", remedy="Use another checkpoint."
        ) from None
    return model.eval(), state


def load_backbone(path: str | Path, out_channels: int | None = None) -> Backbone:
    """Load a pretrained network, ready for fine-tuning.

    Parameters
    ----------
    path
        A ``.pth`` checkpoint of a run, or what ``export`` made of it as torch or safetensors.
    out_channels
        Output channels of a fresh last layer, such as the number of classes; None keeps the
        pretext head.

    Returns
    -------
    Backbone
        ``forward(images B C *spatial) -> B out_channels *spatial``, images normalised as the
        checkpoint's ``normalization`` says. ``encoder_prefixes()`` names the encoder's
        parameters, ``head_prefixes()`` those of the last layer; ``load_report`` says what was
        loaded and what stayed random.

    Raises
    ------
    CheckpointError
        The file is no checkpoint of ours, or next to nothing of it fits.
    """
    path = Path(path)
    state = checkpoint.load(path)
    model = build_backbone(spec_from(state, path))
    if out_channels is not None:
        model.replace_head(out_channels)
    # a fresh head is asked for even where the old one's shape would fit
    weights = state["model"] if out_channels is None else without_head(state["model"], model)
    model.load_report = load_weights(model, weights, path)
    logger.info("%s: %s", path, model.load_report)
    return model


def without_head(state: dict[str, torch.Tensor], model: Backbone) -> dict[str, torch.Tensor]:
    """Return the weights but those of the last layer."""
    return {name: v for name, v in state.items() if not name.startswith(model.head_prefixes())}
