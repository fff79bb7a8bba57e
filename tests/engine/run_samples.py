"""Small images on disk and the smallest runs on them."""

# ruff: noqa: TID251

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tifffile

from napari_ssl_pretrain.engine import checkpoint
from napari_ssl_pretrain.engine.run import PretrainResult, pretrain
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.run_dir import RunDir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_ssl_pretrain.spec.events import AnyEvent

TINY = {
    "residual_unet": {"features_per_stage": [4, 8]},
    "unet": {"features_per_stage": [4, 8]},
    "mae_vit": {
        "embed_dim": 12,
        "depth": 1,
        "num_heads": 2,
        "decoder_embed_dim": 12,
        "decoder_depth": 1,
        "decoder_num_heads": 2,
    },
    "segresnet": {"size": "tiny"},
    "attention_unet": {"size": "tiny"},
}


def smooth(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return waves between 0 and 1 with a little noise, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    waves = sum(
        np.sin(axis / 3 + rng.uniform(0, 6)) for axis in np.indices(shape[-2:]).astype(float)
    )
    image = 0.5 + 0.2 * waves + rng.normal(0, 0.02, shape)
    return np.clip(image, 0, 1)


def write(path: Path, axes: str, shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Write a TIFF with a pixel size and return its array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = smooth(shape, seed)
    array = (
        (image * 300 - 100).astype(dtype)
        if dtype.startswith("float")
        else (image * min(60000, np.iinfo(dtype).max)).astype(dtype)
    )
    metadata = {"axes": axes, "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    if "Z" in axes:
        metadata["PhysicalSizeZ"] = 0.5
    tifffile.imwrite(path, array, ome=True, photometric="minisblack", metadata=metadata)
    return array


def config(folder: Path, task: str, backbone: str = "residual_unet", **groups: Any):
    """Return the smallest job on ``folder``/images and ``folder``/test (where it exists)."""
    test = folder / "test"
    fields: dict[str, Any] = {
        "name": "job",
        "result_dir": str(folder / "results"),
        "data": {
            "train": str(folder / "images"),
            "test": str(test) if test.exists() else None,
            "patch_size": [16, 16],
        },
        "pretext": {"task": task, "token_size": 4},
        "backbone": {"name": backbone, **TINY[backbone]} | groups.pop("network", {}),
        "training": {"epochs": 2, "steps_per_epoch": 2, "batch_size": 2},
        "compute": {"device": "cpu", "workers": 1, "precision": "fp32"},
    }
    for name, changes in groups.items():
        fields[name] = fields[name] | changes if isinstance(changes, dict) else changes
    return PretrainConfig.from_dict(fields)


def do(asked: PretrainConfig, **options: Any) -> tuple[PretrainResult, list[AnyEvent]]:
    """Run a job and return its result and all that it said."""
    said: list[AnyEvent] = []
    return pretrain(asked, emit=said.append, **options), said


def run_of(asked: PretrainConfig) -> RunDir:
    """Return the place of a run."""
    from pathlib import Path  # noqa: PLC0415

    return RunDir(Path(asked.result_dir), asked.name, asked.run_id)


def stop_after(steps: int) -> Callable[[], bool]:
    """Return what says to stop after so many steps."""
    count = iter(range(1, 10**9))
    return lambda: next(count) >= steps


def raising(error: BaseException) -> Callable[..., Any]:
    """Return a function that raises."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def last_state(asked: PretrainConfig, which: Literal["best", "last"] = "last") -> dict[str, Any]:
    """Return a checkpoint of a run."""
    return checkpoint.load(run_of(asked).checkpoint(which))


def tree(folder: Path) -> dict[str, bytes]:
    """Return all files under a folder with their contents."""
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def events(run: RunDir) -> list[AnyEvent | None]:
    """Return the run's events, None for what cannot be read."""
    return [ev.parse_event(line) for line in run.events.read_text().splitlines()]


def summary(run: RunDir) -> dict[str, Any]:
    """Return the run's summary."""
    found: dict[str, Any] = json.loads(run.summary.read_text())
    return found
