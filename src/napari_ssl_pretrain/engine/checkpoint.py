"""Checkpoints: plain dictionaries that load with ``weights_only=True``, written whole."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from napari_ssl_pretrain.engine import foreign
from napari_ssl_pretrain.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

FORMAT_VERSION = 1
KEYS = (
    "format_version",
    "model",
    "backbone",
    "task",
    "axes",
    "ndim",
    "in_channels",
    "normalization",
    "patch_size",
    "voxel_size",
    "config",
    "epoch",
    "step",
    "metrics",
    "versions",
)
EXTRAS = ("normalization_statistics",)
"""Entries that only some checkpoints have; what ``last`` adds for a resume is not among them."""

REMEDY = (
    "Give the .pth file that a run of napari-ssl-pretrain left in its checkpoints folder, or an "
    "export of it as torch or safetensors."
)


def save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint under a temporary name, flush it to disk, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path, *, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint of ours, or what ``export`` made of one (``torch``, ``safetensors``).

    Raises
    ------
    CheckpointError
        The file is missing, no checkpoint, damaged, or holds anything but plain tensors.
    """
    if not path.is_file():
        raise CheckpointError(path, "no such file", remedy=REMEDY)
    try:
        kind = foreign.kind_of(path)
    except OSError as error:
        raise CheckpointError(path, f"cannot be read ({error.strerror})", remedy=REMEDY) from None
    if kind not in {"zip", "safetensors"}:
        raise CheckpointError(path, kind, remedy=REMEDY)
    # among several processes on the CPU accelerate calls it cpu:0, which readers do not know
    where = "cpu" if torch.device(device).type == "cpu" else str(device)
    read = _read_zip if kind == "zip" else _read_safetensors
    state = _as_checkpoint(read(path, where))
    if state is None or not _is_ours(state):
        raise CheckpointError(path, _not_ours(path, kind), remedy=REMEDY)
    if state["format_version"] > FORMAT_VERSION:
        raise CheckpointError(
            path,
            f"was written by a newer version (format {state['format_version']})",
            remedy="Update napari-ssl-pretrain.",
        )
    return state


def _read_zip(path: Path, device: str) -> Any:
    """Read a file of ``torch.save``.

    Raises
    ------
    CheckpointError
        It holds more than plain tensors and numbers.
    """
    odd = foreign.odd(path)
    if odd:
        origin = foreign.origin(path)
        rule = f"is a checkpoint of {origin}" if origin else odd
        raise CheckpointError(path, rule, remedy=REMEDY)
    try:
        return torch.load(path, map_location=device, weights_only=True)  # noqa: TID251 - the one place
    except Exception as error:  # noqa: BLE001 - unpickling a foreign file can raise anything
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointError(
            path, f"cannot be read as plain weights ({reason})", remedy=REMEDY
        ) from None


def _read_safetensors(path: Path, device: str) -> dict[str, Any]:
    """Read a safetensors file and the card in it.

    Raises
    ------
    CheckpointError
        It is damaged.
    """
    try:
        with safe_open(path, framework="pt", device=device) as file:
            about = file.metadata() or {}
            # foreign files may be large: without a card there is nothing to read
            tensors = {k: file.get_tensor(k) for k in file.keys()} if "card" in about else {}  # noqa: SIM118
        return {"state_dict": tensors, "card": json.loads(about.get("card", "null"))}
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointError(
            path, f"is a damaged safetensors file ({reason})", remedy=REMEDY
        ) from None


def _as_checkpoint(found: Any) -> dict[str, Any] | None:
    """Return an export as the checkpoint that it was made from; others as they are."""
    if not isinstance(found, dict):
        return None
    if "card" not in found:
        return found
    card, tensors = found["card"], found.get("state_dict")
    if not isinstance(card, dict) or not isinstance(tensors, dict):
        return None
    about, prefix = card.get("checkpoint"), str(card.get("prefix", ""))
    if not isinstance(about, dict):
        return None
    return about | {"model": {f"{prefix}{name}": value for name, value in tensors.items()}}


def _not_ours(path: Path, kind: str) -> str:
    if kind == "safetensors":
        return "is a safetensors file of other software: no card of this program is in it"
    origin = foreign.origin(path)
    if origin:
        return f"is a checkpoint of {origin}"
    return "is a torch file, but no checkpoint of this program"


def _is_ours(state: dict[str, Any]) -> bool:
    return (
        isinstance(state.get("format_version"), int)
        and isinstance(state.get("backbone"), dict)
        and isinstance(state.get("model"), dict)
        and all(_is_stored(name, value) for name, value in state["model"].items())
    )


def _is_stored(name: Any, value: Any) -> bool:
    """Return whether this is a tensor by name, and the file holds each of its numbers."""
    return (
        isinstance(name, str)
        and isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and not value.is_meta
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def plain(value: Any) -> Any:
    """Turn tuples, paths and numpy numbers into what ``weights_only`` loads."""
    if isinstance(value, dict):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return value.item() if hasattr(value, "item") else str(value)
