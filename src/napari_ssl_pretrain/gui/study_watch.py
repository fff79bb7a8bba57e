"""What workers do for the dock *Transfer*: start and watch a study, read what it found."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np

from napari_ssl_pretrain import runner
from napari_ssl_pretrain.errors import CheckpointError, ConfigError, DataError, UserError
from napari_ssl_pretrain.gui.problem import Problem
from napari_ssl_pretrain.gui.watch import follow
from napari_ssl_pretrain.spec.study_dir import BACKGROUND, StudyDir

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari_ssl_pretrain.spec import events as ev
    from napari_ssl_pretrain.spec.status import RunStatus
    from napari_ssl_pretrain.spec.transfer import TransferConfig

FOLDERS = ("images", "labels", "test_images", "test_labels")


@dataclass(frozen=True)
class StudyStarted:
    """The process was started, or a study found; ``handle`` can stop it."""

    handle: runner.StudyHandle


@dataclass(frozen=True)
class StudyNews:
    """What a study said since the last news."""

    events: list[ev.AnyEvent]
    status: RunStatus


@dataclass(frozen=True)
class Found:
    """The content of ``summary.json``, and where the report lies."""

    summary: dict[str, Any]
    study: StudyDir


@dataclass(frozen=True)
class Case:
    """The pictures of the median or the worst case, by what they show."""

    kind: str
    pictures: dict[str, np.ndarray] = field(default_factory=dict)


Update = StudyStarted | StudyNews | Found | Problem


def launch(
    start: Callable[[TransferConfig], runner.StudyHandle], config: TransferConfig
) -> runner.StudyHandle:
    """Start a study, after what can be told at once without the slow libraries.

    Raises
    ------
    CheckpointError
        The checkpoint is not there.
    ConfigError
        The folder holds a report already.
    DataError
        A folder of images is not there.
    """
    if not Path(config.checkpoint).expanduser().is_file():
        remedy = "Choose a .pth file from the checkpoints folder of a run."
        raise CheckpointError("checkpoint", "no such file", value=config.checkpoint, remedy=remedy)
    for name in FOLDERS:
        given = getattr(config, name)
        if given and not any(c in given for c in "*?[") and not Path(given).expanduser().exists():
            raise DataError(name, "does not exist", value=given, remedy="Choose a folder.")
    study = StudyDir(Path(config.output).expanduser().absolute())
    if study.events.exists() or study.report.exists():
        raise ConfigError(
            "output", "holds a report already", value=study.results, remedy="Take another folder."
        )
    return start(config)


def next_output(output: str) -> str:
    """Return the first of ``output``, ``output_2``, ``output_3``, … that holds no report."""
    number, place = 1, Path(output)
    while any(path.exists() for path in (StudyDir(place).events, StudyDir(place).report)):
        number += 1
        place = Path(f"{output}_{number}")
    return str(place)


def start_and_watch(
    start: Callable[[TransferConfig], runner.StudyHandle], config: TransferConfig
) -> Generator[Update | None, None, ev.RunFinished | None]:
    """Start a study, and say what it says until it ends."""
    try:
        handle = launch(start, config)
    except UserError as error:
        yield Problem(error)
        return None
    return (yield from watch_study(handle))


def watch_study(
    handle: runner.StudyHandle,
) -> Generator[Update | None, None, ev.RunFinished | None]:
    """Say what a study says until it ends; whoever closes this leaves the study alone."""
    yield StudyStarted(handle)
    for events in follow(handle):
        yield StudyNews(events, handle.status) if events else None
    found = read_found(handle.study)
    if found is not None and handle.status.state in {"finished", "stopped"}:
        yield found
    return handle.finished


def read_found(study: StudyDir) -> Found | None:
    """Return what a study found; None where it has not come to that."""
    try:
        summary = json.loads(study.summary.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return Found(summary, study) if isinstance(summary, dict) else None


def read_cases(study: StudyDir) -> list[Case]:
    """Read the pictures of the median and the worst case."""
    cases: dict[str, Case] = {}
    for path in sorted(study.pictures.glob("*_*_*.png")):
        _, kind, shown = path.stem.split("_", 2)
        try:
            picture = iio.imread(path)
        except (OSError, ValueError):
            continue
        drawn = picture if shown == "image" else see_through(picture)
        cases.setdefault(kind, Case(kind)).pictures[shown] = drawn
    return list(cases.values())


def see_through(picture: np.ndarray) -> np.ndarray:
    """Return a picture of classes as RGBA whose background can be seen through."""
    if picture.ndim != 3 or picture.shape[2] != 3:  # noqa: PLR2004
        return picture
    alpha = np.where((picture == BACKGROUND).all(axis=2), 0, 255).astype(np.uint8)
    return np.dstack([picture, alpha])


def find_study(last: StudyDir | None, watching: bool) -> runner.StudyHandle | Found | None:  # noqa: FBT001 - a worker's argument
    """Return the study last watched: its process, or what it found if its end was seen."""
    if last is None or not last.events.exists():
        return None
    return runner.attach_study(last) if watching else read_found(last)
