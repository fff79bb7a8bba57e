"""The run that the dock watches: its process, its news, its end. A worker reads, this shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]

from napari_ssl_pretrain.errors import ConfigError, UserError
from napari_ssl_pretrain.gui import remember, watch
from napari_ssl_pretrain.gui.job_control import FULL, JobControl, Shown
from napari_ssl_pretrain.gui.layer_queue import LayerQueue
from napari_ssl_pretrain.gui.problem import Problem
from napari_ssl_pretrain.gui.words import last_line, silence_line, status_line
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.yaml_io import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_ssl_pretrain import runner
    from napari_ssl_pretrain.gui.crew import Crew
    from napari_ssl_pretrain.gui.layer_source import LayerSource
    from napari_ssl_pretrain.gui.monitor import Monitor
    from napari_ssl_pretrain.gui.results import ResultReader
    from napari_ssl_pretrain.spec import events as ev
    from napari_ssl_pretrain.spec.status import RunStatus


class RunControl(JobControl):
    """Starts, finds, watches and stops one run at a time.

    Parameters
    ----------
    viewer
        Where results go.
    crew
        Who does the waiting.
    monitor
        Where the run is shown at length; this ends with it.
    shown
        The status line and the bar.
    """

    layer_saved = Signal(str, str)

    STOPPING = "Stopping: the state is saved first. Stop again ends the process at once."
    ENDED = "Ended at once; the last saved state can be resumed."

    def __init__(self, viewer: Any, crew: Crew, monitor: Monitor, shown: Shown) -> None:
        super().__init__(viewer, crew, monitor, shown)
        self.results = LayerQueue(viewer, self)
        self._monitor = monitor
        self._found = self._saved = False
        self._size = self._speed_key = ""

    def start(
        self,
        launch: Callable[[], runner.RunHandle],
        sources: dict[Path, LayerSource],
        reader: ResultReader,
    ) -> None:
        """Launch a run in a worker and watch it."""
        self._begin_run(found=False)
        self._status.say("Starting: the process loads its libraries, which takes some seconds.")
        self._work(watch.start_and_watch, launch, sources, reader)

    def attach(self, handle: runner.RunHandle, reader: ResultReader) -> None:
        """Watch a run that was found."""
        self._begin_run(found=True)
        self._work(watch.watch, handle, reader)

    def _begin_run(self, *, found: bool) -> None:
        self._found, self._saved = found, False
        self._size = self._speed_key = ""
        self._monitor.clear()
        self._begin()

    def _on_update(self, update: watch.Update | None) -> None:
        if isinstance(update, watch.Started):
            self._on_started(update.handle)
        elif isinstance(update, watch.Saved):
            self.layer_saved.emit(update.layer, update.path)
            self._monitor.say(f"Layer {update.layer} is kept as {update.path}")
        elif isinstance(update, watch.News):
            self._on_news(update)
        elif isinstance(update, watch.Scores):
            self._monitor.show_scores(update.scores)
        elif isinstance(update, Problem):
            self._on_problem(update.error)
        elif update is None:
            self._say_silence()

    def _on_started(self, handle: runner.RunHandle) -> None:
        self._hold(handle)
        remember.save_run(handle.run, watching=True)
        if self._found and not self._stop_wanted:
            self._status.say(f"Found {handle.run.run_name}, which goes on.")
        self.changed.emit()

    def _say_silence(self) -> None:
        handle = self.handle
        if handle is None or handle.ended or handle.silence is None or self._stop_wanted:
            return
        line = silence_line(handle.status, handle.run, handle.silence, remote=handle.remote)
        if self._status.text() != line:
            self._status.say(line, error=True)

    def _on_problem(self, error: UserError) -> None:
        self._rest()
        self._progress.setValue(0)
        self.problem.emit(error)

    def _on_news(self, news: watch.News) -> None:
        handle = self.handle
        if handle is None:
            return
        for event in news.events:
            if event.kind == "checkpoint_saved":
                self._saved = True
            elif event.kind == "process_started":
                self._read_config(event)
            elif event.kind == "run_started":
                place = (self._size, event.device, event.patch_size)
                self._speed_key = remember.speed_key(event.backbone, *place)
        self._monitor.take(news)
        for result in news.results:
            self.results.put(result, handle.run)
        if news.events and not news.status.ended:
            self._show_progress(news.status)
            if not self._stop_wanted:
                self._status.say(status_line(news.status, handle.run, remote=handle.remote))
            # last, for napari's bar handles waiting events inside: the run's end may be among them
            self.activity.show(news.status.step, news.status.steps, handle.run.run_name)

    def _read_config(self, event: ev.ProcessStarted) -> None:
        try:
            config = PretrainConfig.from_dict(parse_yaml(event.config, "events.jsonl"))
        except UserError:
            return  # of another version: it can be watched all the same
        self._size = config.backbone.size
        if self._found:
            self.config_found.emit(config)

    def _show_progress(self, status: RunStatus) -> None:
        if not status.steps or status.state in {"starting", "preparing"}:
            self._progress.setRange(0, 0)
            return
        self._show_share(status.step / status.steps, status.seconds_left)

    def _on_end(self, finished: ev.RunFinished | None) -> None:
        handle = self.handle
        if handle is None or finished is None:
            return
        status = handle.status
        if self._speed_key and status.patches_per_second:
            remember.save_speed(self._speed_key, status.patches_per_second)
        self._rest()
        remember.save_run(handle.run, watching=False)
        if status.state == "finished":
            self._progress.setValue(FULL)
        self._progress.setFormat(status.state)
        if status.state == "failed" and not status.step and (error := as_error(finished.message)):
            self.problem.emit(error)
            return
        line = last_line(status, handle.run, saved=self._saved)
        self._status.say(line, error=status.state == "failed")


def as_error(text: str) -> UserError | None:
    """Read ``subject: value: rule. remedy`` back, if a known field is its subject."""
    subject, colon, rest = text.partition(": ")
    if not colon or " " in subject:
        return None
    return ConfigError(subject, rest.rstrip("."))
