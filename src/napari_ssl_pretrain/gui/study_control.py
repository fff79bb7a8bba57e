"""The transfer study that the dock watches: its process, its news, its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_ssl_pretrain.errors import ConfigError, UserError
from napari_ssl_pretrain.gui import remember, study_watch
from napari_ssl_pretrain.gui.calm import Calm
from napari_ssl_pretrain.gui.monitor import Activity
from napari_ssl_pretrain.gui.problem import Problem
from napari_ssl_pretrain.gui.run_control import FULL, Shown
from napari_ssl_pretrain.gui.words import duration
from napari_ssl_pretrain.spec.transfer import TransferConfig
from napari_ssl_pretrain.spec.yaml_io import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_ssl_pretrain import runner
    from napari_ssl_pretrain.gui.crew import Crew
    from napari_ssl_pretrain.gui.study_view import StudyView
    from napari_ssl_pretrain.gui.study_watch import Found, StudyNews, Update
    from napari_ssl_pretrain.spec import events as ev
    from napari_ssl_pretrain.spec.study_dir import StudyDir


class StudyControl(QObject):
    """Starts, finds, watches and stops one study at a time.

    Parameters
    ----------
    viewer
        The viewer.
    crew
        Who does the waiting.
    view
        Where the study is shown at length; this ends with it.
    shown
        The status line and the bar.
    """

    changed = Signal()
    problem = Signal(object)
    config_found = Signal(object)

    def __init__(self, viewer: Any, crew: Crew, view: StudyView, shown: Shown) -> None:
        super().__init__(view)
        self.handle: runner.StudyHandle | None = None
        self.study: StudyDir | None = None
        self.activity = Activity()
        self.calm = Calm(viewer, self)
        self._crew, self._view = crew, view
        self._status, self._progress = shown
        self._starting = self._stop_wanted = self._progressed = False

    @property
    def active(self) -> bool:
        """Whether a study is starting or under way."""
        return self._starting or self.handle is not None

    def start(
        self, start: Callable[[TransferConfig], runner.StudyHandle], config: TransferConfig
    ) -> None:
        """Start a study in a worker and watch it."""
        self._begin()
        self._status.say("Starting: the process loads its libraries, which takes some seconds.")
        self._work(study_watch.start_and_watch, start, config)

    def attach(self, handle: runner.StudyHandle) -> None:
        """Watch a study that was found."""
        self._begin()
        self._status.say(f"Found {handle.study.run_name}, begun earlier.")
        self._work(study_watch.watch_study, handle)

    def show(self, found: Found) -> None:
        """Show a study that has ended."""
        self.study = found.study
        self._view.clear()
        self._view.show_found(found.summary)
        self._status.say(f"The report of {found.study.results}")
        self.changed.emit()

    def _begin(self) -> None:
        self._starting, self._stop_wanted, self._progressed = True, False, False
        self.study = None
        self._view.clear()
        self._progress.setRange(0, 0)
        self._progress.setFormat("")
        self.changed.emit()

    def _work(self, work: Callable[..., Any], *args: Any) -> None:
        self._crew.start(
            work,
            *args,
            yielded=self._on_update,
            returned=self._on_end,
            errored=self._on_unexpected,
        )

    def stop(self) -> None:
        """Ask the study to end; asked again, end its process."""
        if self.handle is None:
            self._stop_wanted = True
        elif self._stop_wanted and self.handle.kill():
            self._status.say("Ended at once.")
            return
        else:
            self._ask_to_stop(self.handle)
        self._status.say("Stopping at the next step. Stop again ends the process at once.")

    def _ask_to_stop(self, handle: runner.StudyHandle) -> None:
        self._stop_wanted = True
        try:
            handle.request_stop()
        except UserError as error:
            self.problem.emit(error)

    def _on_update(self, update: Update | None) -> None:
        if isinstance(update, study_watch.StudyStarted):
            self._on_started(update.handle)
        elif isinstance(update, study_watch.StudyNews):
            self._on_news(update)
        elif isinstance(update, study_watch.Found):
            self._view.show_found(update.summary)
        elif isinstance(update, Problem):
            self._rest()
            self._progress.setValue(0)
            self._view.clear()
            self._view.verdict.setText("")
            self.problem.emit(update.error)

    def _on_started(self, handle: runner.StudyHandle) -> None:
        self.handle, self._starting = handle, False
        self.study = handle.study
        self.calm.begin()
        remember.save_study(handle.study, watching=True)
        if self._stop_wanted:
            self._ask_to_stop(handle)
        self.changed.emit()

    def _on_news(self, news: StudyNews) -> None:
        handle = self.handle
        if handle is None:
            return
        self._view.take(news.events)
        for event in news.events:
            if event.kind == "process_started":
                self._read_config(event)
        last = next((e for e in reversed(news.events) if e.kind == "progress"), None)
        self._progressed = self._progressed or last is not None
        if last is not None and not handle.ended:
            self._show_progress(last, handle.study.run_name)

    def _read_config(self, event: ev.ProcessStarted) -> None:
        try:
            config = TransferConfig(**parse_yaml(event.config, "events.jsonl"))
        except (UserError, TypeError):
            return  # of another version: it can be watched all the same
        self.config_found.emit(config)

    def _show_progress(self, event: ev.Progress, name: str) -> None:
        if not self._stop_wanted:
            self._status.say(f"{name}: {event.message or 'working'}.")
        self._progress.setRange(0, FULL)
        self._progress.setValue(round(FULL * event.done / max(1, event.total)))
        left = event.seconds_left
        self._progress.setFormat("%p%" if left is None else f"%p%, {duration(left)} left")
        # last, for napari's bar handles waiting events inside: the end may be among them
        self.activity.show(event.done, event.total, name)

    def _on_end(self, finished: ev.RunFinished | None) -> None:
        handle = self.handle
        if handle is None or finished is None:
            return
        self._rest()
        remember.save_study(handle.study, watching=False)
        done = finished.state == "finished"
        self._progress.setValue(FULL if done else 0)
        self._progress.setFormat(finished.state)
        report = handle.study.report
        if finished.state != "failed":
            where = f" Report: {report}" if report.exists() else ""
            self._status.say(f"{finished.message}{where}")
            if not where:
                self._view.verdict.setText("")
            return
        self._view.verdict.setText("")
        if not self._progressed:
            subject, _, rest = finished.message.partition(": ")
            self.problem.emit(ConfigError(subject, rest.rstrip(".")))
        else:
            self._status.say(f"Failed: {finished.message}", error=True)

    def _on_unexpected(self, error: Exception) -> None:
        self._rest()
        self._status.say(f"Something went wrong: {type(error).__name__}: {error}", error=True)

    def _rest(self) -> None:
        """Watch nothing any more."""
        self.handle, self._starting = None, False
        self._progress.setRange(0, FULL)
        self._progress.setFormat("")
        self.activity.close()
        self.calm.end()
        self.changed.emit()
