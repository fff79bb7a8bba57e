"""What every kind of export is: how its file is named, and the bytes that go into it."""

from __future__ import annotations

import io
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from napari_ssl_pretrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from napari_ssl_pretrain.engine.backbones import Backbone
    from napari_ssl_pretrain.spec.card import ModelCard

INSTALL = 'pip install "napari-ssl-pretrain[export]"'

TOLERANCE = 1e-4
"""Largest difference of outputs, over their largest magnitude where that is above 1."""


class Job(NamedTuple):
    """One export.

    Attributes
    ----------
    path
        The file of the weights.
    model
        The network, in evaluation mode.
    state
        The checkpoint without the weights.
    tensors
        The weights under the public class's names.
    card
        The card, as it is without what the format adds to it.
    """

    path: Path
    model: Backbone
    state: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    card: ModelCard


class Made(NamedTuple):
    """What a format makes.

    Attributes
    ----------
    weights
        Content of the file of the weights.
    card
        The card, with what the format adds.
    beside
        Content of other files, by what their names end with.
    """

    weights: bytes
    card: ModelCard
    beside: Mapping[str, bytes] = MappingProxyType({})


class Format(NamedTuple):
    """A kind of file.

    Attributes
    ----------
    suffixes
        How the file of the weights may end, the usual one first.
    load
        The line that loads it.
    make
        Makes the files' content.
    beside
        What the names of other files may end with.
    needs
        Modules beyond those that every installation has.
    """

    suffixes: tuple[str, ...]
    load: str
    make: Callable[[Job], Made]
    beside: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


def require(modules: tuple[str, ...], fmt: str) -> None:
    """Look for packages that only some exports need.

    Raises
    ------
    ConfigError
        One is not installed.
    """
    missing = [name for name in modules if not _is_there(name)]
    if missing:
        rule = f"needs {', '.join(missing)}, not installed here"
        raise ConfigError("--format", rule, value=fmt, remedy=f"Install it: {INSTALL}")


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


class FormatRefused(ConfigError):
    """A network, or its size, that a format cannot take.

    Parameters
    ----------
    fmt
        The format.
    rule
        What it cannot hold.
    remedy
        What to do instead.
    """

    def __init__(self, fmt: str, rule: str, remedy: str) -> None:
        super().__init__("--format", rule, value=fmt, remedy=remedy)


def torch_bytes(value: Any) -> bytes:
    """Return what ``torch.save`` writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def alone(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights with a tensor each, although some names share one."""
    return {name: value.contiguous().clone() for name, value in tensors.items()}


def far_from(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return the largest difference, over the largest magnitude where that is above 1."""
    if got.shape != wanted.shape or not bool(torch.isfinite(got).all()):
        return float("inf")
    return float((got - wanted).abs().max() / max(1.0, float(wanted.abs().max())))
