"""Result folders as runs leave them, written in a moment."""

from __future__ import annotations

import json
import math
import os
import socket
from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.run_dir import RunDir

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

DEAD = 2**22 + 1
PSNR = {"psnr": 30.0, "psnr_input": 28.5}


def losses(epochs: int, rate: float = 0.3) -> list[float]:
    return [0.05 + 0.4 * math.exp(-rate * k) for k in range(1, epochs + 1)]


def write_run(  # noqa: PLR0913 - each of these makes another run
    root: Path,
    name: str = "job",
    run_id: int = 1,
    *,
    state: str | None = "finished",
    task: str = "crappify",
    epochs: int = 10,
    rate: float = 0.3,
    time: float = 1.7e9,
    host: str = "",
    pid: int = 0,
    test: Any = None,
    fields: dict[str, Any] | None = None,
) -> RunDir:
    """Write a run with ``epochs`` of 20 done; ``state`` None has no last word."""
    run = RunDir(root, name, run_id)
    for folder in run.folders(task):
        folder.mkdir(parents=True, exist_ok=True)
    config = PretrainConfig(
        name=name.replace("<b>", ""),
        run_id=run_id,
        result_dir=str(root),
        **{"data": {"train": "/data/nuclei/train"}, "pretext": {"task": task}} | (fields or {}),
    )
    said: list[ev.AnyEvent] = [
        ev.ProcessStarted(
            pid=pid or os.getpid(), host=host or socket.gethostname(), config=config.to_yaml()
        ),
        ev.DataChecked(train=24, validation=2, test=1, ndim=2, axes="YX", channels=1),
        ev.RunStarted(
            task=task, backbone="unet", parameters=1, device="cpu", precision="fp32",
            patch_size=(8, 8), batch_size=1, epochs=20, steps_per_epoch=10, steps=200,
        ),
    ]  # fmt: skip
    for number, loss in enumerate(losses(epochs, rate), 1):
        step = 10 * number
        said += [
            ev.StepFinished(
                step=step, steps=200, epoch=number, loss=loss, learning_rate=1e-3,
                patches_per_second=10, seconds_left=90,
            ),
            ev.EpochFinished(
                epoch=number, epochs=20, step=step, train_loss=loss, validation_loss=1.1 * loss,
                metrics={}, learning_rate=1e-3, best=True,
            ),
        ]  # fmt: skip
    if state:
        reason = {"finished": "done", "stopped": "stop"}.get(state, "error")
        said.append(ev.RunFinished(state=state, reason=reason, message=f"It {state}."))
        run.summary.write_text(json.dumps({"state": state, "test": PSNR if test is None else test}))
    stamped = [event.model_copy(update={"time": time + k}) for k, event in enumerate(said)]
    run.events.write_text("".join(event.to_line() for event in stamped))
    os.utime(run.events, (time, time))
    run.config.write_text(config.to_yaml())
    run.resolved_config.write_text(config.to_yaml())
    for which in ("best", "last"):
        run.checkpoint(which).write_bytes(b"x" * 1000)
    return run


def add_image(
    run: RunDir,
    source: Path,
    pixels: np.ndarray,
    axes: str = "YX",
    kind: str = "restored",
) -> Path:
    """Write an image, if it is not there, and what a run made of it, and say so."""
    size = dict.fromkeys("ZYX" if "Z" in axes else "YX", 0.5)
    if not source.exists():
        write_array(source, pixels, axes, pixel_size=size, unit="nm")
    path = run.restored(source.stem) if kind == "restored" else run.mae_check(source.stem, kind)
    write_array(path, pixels // 2 + run.run_id, axes, pixel_size=size, unit="nm")
    event = ev.ImageSaved(
        image_kind=kind, image=source.stem, path=str(path), source=str(source), axes=axes, step=10
    )
    lines = run.events.read_text().splitlines(keepends=True)
    run.events.write_text("".join([*lines[:-1], event.to_line(), lines[-1]]))
    return path
