"""What a run keeps in numbers: the training log, TensorBoard's events, and the summary.

Numbers that do not exist (no validation, a loss that was not finite) are empty cells, missing
points and ``null``: never NaN or infinity.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain.data.writers import write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from napari_ssl_pretrain.engine.state import EpochRow

NO_NUMBER = 1e29
"""From here on a number stands for one that was not finite."""


def known(value: float) -> bool:
    """Return whether a number exists: neither NaN, nor infinite, nor a stand-in for these."""
    return math.isfinite(value) and abs(value) < NO_NUMBER


class TrainLog:
    """The training log: CSV, one row an epoch.

    The file is written whole at every epoch from the history, which a resume takes from its
    checkpoint: epochs that were trained after it and lost are not in there, none is there twice.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, history: Sequence[EpochRow]) -> None:
        """Write all rows: ``epoch, step, train_loss, validation_loss``, metrics, then speed."""
        metrics = metric_names(history)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        head = ("epoch", "step", "train_loss", "validation_loss")
        tail = ("learning_rate", "seconds", "patches_per_second")
        writer.writerow((*head, *metrics, *tail))
        for row in history:
            numbers = (
                row.train_loss,
                row.validation_loss,
                *(row.metrics.get(name, math.nan) for name in metrics),
                *(getattr(row, name) for name in tail),
            )
            writer.writerow((row.epoch, row.step, *map(_cell, numbers)))
        write_text(self._path, text.getvalue())


def metric_names(history: Iterable[EpochRow]) -> list[str]:
    """Return the names of all metrics in the order in which they came up."""
    return list(dict.fromkeys(name for row in history for name in row.metrics))


def _cell(value: float) -> str:
    return f"{value:.8g}" if known(value) else ""


class TensorBoardLog:
    """TensorBoard's scalars: one tag a metric, at the true training steps.

    Written without tensorflow, each epoch's events in one piece.

    Parameters
    ----------
    folder
        Folder of the logs; every process writes a file of its own there.
    first_step
        TensorBoard forgets what earlier files say of this step and later ones: a resume goes on
        from before them.
    """

    def __init__(self, folder: Path, *, first_step: int = 0) -> None:
        self._folder = folder
        self._first_step = first_step
        self._path: Path | None = None

    def add(self, row: EpochRow) -> None:
        """Add one epoch: ``loss/train``, ``loss/validation``, ``metrics/<name>``, …."""
        scalars = {
            "loss/train": row.train_loss,
            "loss/validation": row.validation_loss,
            **{f"metrics/{name}": value for name, value in row.metrics.items()},
            "learning_rate": row.learning_rate,
            "patches_per_second": row.patches_per_second,
        }
        self.add_scalars(row.step, scalars)

    def add_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add numbers by tag at one step; those that do not exist are left out."""
        from tensorboard.compat.proto.event_pb2 import Event  # noqa: PLC0415 - slow import
        from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415 - slow import

        values = [
            Summary.Value(tag=tag, simple_value=value)
            for tag, value in scalars.items()
            if known(value)
        ]
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        if self._path is None:
            self._append(*self._opening(step))
        self._append(event)

    def _opening(self, step: int) -> list[Any]:
        """Return what begins a file: its version, and from where on older files are void."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # noqa: PLC0415

        now = time.time()
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{now:.6f}.{socket.gethostname()}.{os.getpid()}"
        self._path = self._folder / name
        start = SessionLog(status=SessionLog.START)
        first = min(step, self._first_step)
        return [
            Event(wall_time=now, file_version="brain.Event:2"),
            Event(wall_time=now, step=first, session_log=start),
        ]

    def _append(self, *events: Any) -> None:
        """Append events as records, whole."""
        from tensorboard.summary.writer.record_writer import RecordWriter  # noqa: PLC0415

        if self._path is None:
            return
        records = io.BytesIO()
        writer = RecordWriter(records)
        for event in events:
            writer.write(event.SerializeToString())
        with self._path.open("ab") as file:
            file.write(records.getvalue())


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write ``summary.json`` whole; numbers that are not finite become ``null``."""
    text = json.dumps(_finite(summary), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if known(value) else None
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
