"""The transfer study that the dock watches: its process, its news, its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain.errors import ConfigError, UserError
from napari_ssl_pretrain.gui import remember, study_watch
from napari_ssl_pretrain.gui.job_control import FULL, JobControl, Shown
from napari_ssl_pretrain.gui.problem import Problem
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


class StudyControl(JobControl):
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

    STOPPING = "Stopping at the next step. Stop again ends the process at once."
    ENDED = "Ended at once."

    def __init__(self, viewer: Any, crew: Crew, view: StudyView, shown: Shown) -> None:
        super().__init__(viewer, crew, view, shown)
        self.study: StudyDir | None = None
        self._view = view
        self._progressed = False

    def start(
        self, start: Callable[[TransferConfig], runner.StudyHandle], config: TransferConfig
    ) -> None:
        """Start a study in a worker and watch it."""
        self._begin_study()
        self._status.say("Starting: the process loads its libraries, which takes some seconds.")
        self._work(study_watch.start_and_watch, start, config)

    def attach(self, handle: runner.StudyHandle) -> None:
        """Watch a study that was found."""
        self._begin_study()
        self._status.say(f"Found {handle.study.run_name}, begun earlier.")
        self._work(study_watch.watch_study, handle)

    def show(self, found: Found) -> None:
        """Show a study that has ended."""
        self.study = found.study
        self._view.clear()
        self._view.show_found(found.summary)
        self._status.say(f"The report of {found.study.results}")
        self.changed.emit()

    def _begin_study(self) -> None:
        self._progressed, self.study = False, None
        self._view.clear()
        self._begin()

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
        self.study = handle.study
        self._hold(handle)
        remember.save_study(handle.study, watching=True)
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
        self._show_share(event.done / max(1, event.total), event.seconds_left)
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
