"""What workers do for the docks: start, watch and find runs. Generators for ``thread_worker``."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ssl_pretrain import runner
from napari_ssl_pretrain.errors import ConfigError, UserError
from napari_ssl_pretrain.gui.problem import Problem
from napari_ssl_pretrain.spec.run_dir import RunDir

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari_ssl_pretrain.gui.layer_source import LayerSource
    from napari_ssl_pretrain.gui.results import Result, ResultReader
    from napari_ssl_pretrain.spec import events as ev
    from napari_ssl_pretrain.spec.config import PretrainConfig
    from napari_ssl_pretrain.spec.status import RunStatus

POLL_SECONDS = 0.1
BATCH = 2000
"""Events handed over at once: a long history comes in pieces that the viewer hardly feels."""

Start = "Callable[..., runner.RunHandle]"


@dataclass(frozen=True)
class Started:
    """The process was started, or a run found; ``handle`` can stop it."""

    handle: runner.RunHandle


@dataclass(frozen=True)
class Saved:
    """A layer was written to a file."""

    layer: str
    path: str


@dataclass(frozen=True)
class News:
    """What a run said since the last news."""

    events: list[ev.AnyEvent]
    results: list[Result]
    status: RunStatus


@dataclass(frozen=True)
class Scores:
    """Mean scores of the test images of a run that has ended."""

    scores: dict[str, float]


Update = Started | Saved | News | Scores | Problem


def save_layers(sources: dict[Path, LayerSource]) -> Generator[Saved, None, None]:
    """Write layers that have no file of their own."""
    for path, source in sources.items():
        source.save(path)
        yield Saved(source.name, str(path))


def start_and_watch(
    start: Callable[[], runner.RunHandle], sources: dict[Path, LayerSource], reader: ResultReader
) -> Generator[Update | None, None, ev.RunFinished | None]:
    """Write the layers to train on, start the process, and say what it says until it ends."""
    try:
        yield from save_layers(sources)
        handle = start()
    except UserError as error:
        yield Problem(error)
        return None
    return (yield from watch(handle, reader))


def watch(
    handle: runner.RunHandle, reader: ResultReader
) -> Generator[Update | None, None, ev.RunFinished | None]:
    """Say what a run says until it ends; whoever closes this leaves the run alone."""
    yield Started(handle)
    for events in follow(handle):
        for first in range(0, len(events), BATCH):
            yield News(events[first : first + BATCH], [], handle.status)
        for result in reader.read(events):
            yield News([], [result], handle.status)
        if not events:
            yield None  # where a worker that shall quit is stopped
    yield Scores(read_scores(handle.run))
    return handle.finished


def follow(handle: runner.JobHandle) -> Generator[list[ev.AnyEvent], None, None]:
    """Yield what a job has said since the last time, often nothing, until it has ended."""
    while True:
        yield handle.poll()
        if handle.ended:
            return
        time.sleep(POLL_SECONDS)


def read_scores(run: RunDir) -> dict[str, float]:
    """Return the mean scores of the test images; empty where there are none."""
    try:
        scores = json.loads(run.summary.read_text(encoding="utf-8")).get("test", {})
        return {name: float(value) for name, value in scores.items() if value is not None}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def launch(
    start: Callable[..., runner.RunHandle], config: PretrainConfig, *, resume: bool
) -> runner.RunHandle:
    """Start or resume a run, after what can be told at once without the slow libraries.

    Raises
    ------
    ConfigError
        The run exists already, or there is nothing to resume.
    """
    run = RunDir(Path(config.result_dir).expanduser().absolute(), config.name, config.run_id)
    if resume and not run.checkpoint("last").exists():
        raise ConfigError(
            "run_id",
            f"there is no saved state of {run.run_name} in {run.result_dir}",
            value=config.run_id,
            remedy="Start it first.",
        )
    if not resume and run.events.exists():
        raise ConfigError(
            "run_id",
            f"this run exists already in {run.results}",
            value=config.run_id,
            remedy="Take another number, or resume it.",
        )
    return start(config, resume=resume)


def next_run_id(run: RunDir) -> int:
    """Return the first number at or after a run's that is free."""
    number = run.run_id
    while RunDir(run.result_dir, run.name, number).events.exists():
        number += 1
    return number


def find_run(root: Path, last: RunDir | None, watching: bool) -> runner.RunHandle | None:  # noqa: FBT001 - a worker's argument
    """Return the run to watch when the dock opens, or None.

    The one last watched, if it goes on or ended unseen; else the newest that goes on.

    Parameters
    ----------
    root
        The result folder of the form.
    last
        The run last watched.
    watching
        Whether its end was not seen.
    """
    if last is not None and watching and last.events.exists():
        return runner.attach(last)
    running = runner.find_running(root)
    return runner.attach(running[-1]) if running else None
