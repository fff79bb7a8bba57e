"""Checkpoints: plain dictionaries that load with ``weights_only=True``, written whole."""

from __future__ import annotations

import os
import zipfile
from typing import TYPE_CHECKING, Any

import torch

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
    """Read a checkpoint of ours.

    Raises
    ------
    CheckpointError
        The file is missing, no checkpoint, damaged, or holds anything but plain tensors.
    """
    remedy = "Give the .pth file that a run of napari-ssl-pretrain left in its checkpoints folder."
    if not path.is_file():
        raise CheckpointError(path, "no such file", remedy=remedy)
    if not zipfile.is_zipfile(path):
        raise CheckpointError(path, "is no checkpoint", remedy=remedy)
    # among several processes on the CPU accelerate calls it cpu:0, which torch.load does not know
    where = "cpu" if torch.device(device).type == "cpu" else device
    try:
        state = torch.load(path, map_location=where, weights_only=True)  # noqa: TID251 - the one place
    except Exception as error:  # noqa: BLE001 - unpickling a foreign file can raise anything
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointError(
            path, f"cannot be read as plain weights ({reason})", remedy=remedy
        ) from None
    if not isinstance(state, dict) or not _is_ours(state):
        raise CheckpointError(
            path, "is a torch file, but no checkpoint of this program", remedy=remedy
        )
    if state["format_version"] > FORMAT_VERSION:
        raise CheckpointError(
            path,
            f"was written by a newer version (format {state['format_version']})",
            remedy="Update napari-ssl-pretrain.",
        )
    return state


def _is_ours(state: dict[str, Any]) -> bool:
    return (
        isinstance(state.get("format_version"), int)
        and isinstance(state.get("backbone"), dict)
        and isinstance(state.get("model"), dict)
        and all(isinstance(value, torch.Tensor) for value in state["model"].values())
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
