"""What the docks that watch a process share: one job at a time, its bar, the wish to stop it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_ssl_pretrain.errors import UserError
from napari_ssl_pretrain.gui.calm import Calm
from napari_ssl_pretrain.gui.monitor import Activity
from napari_ssl_pretrain.gui.words import duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QProgressBar, QWidget

    from napari_ssl_pretrain.gui.crew import Crew
    from napari_ssl_pretrain.gui.status import StatusLine
    from napari_ssl_pretrain.runner import JobHandle

FULL = 1000


class Shown(NamedTuple):
    """Where a job is shown in short."""

    status: StatusLine
    progress: QProgressBar


class JobControl(QObject):
    """Watches and stops one job at a time; what its news mean is up to whoever derives.

    Parameters
    ----------
    viewer
        The viewer.
    crew
        Who does the waiting.
    view
        Where the job is shown at length; this ends with it.
    shown
        The status line and the bar.
    """

    changed = Signal()
    problem = Signal(object)
    config_found = Signal(object)

    STOPPING: ClassVar[str]
    ENDED: ClassVar[str]

    def __init__(self, viewer: Any, crew: Crew, view: QWidget, shown: Shown) -> None:
        super().__init__(view)
        self.activity = Activity()
        self.calm = Calm(viewer, self)
        self._crew = crew
        self._status, self._progress = shown
        self.handle: Any = None  # the handle of a run, or of a study
        self._starting = self._stop_wanted = False

    @property
    def active(self) -> bool:
        """Whether a job is starting or under way."""
        return self._starting or self.handle is not None

    def _on_update(self, update: Any) -> None:
        """Take what a worker yields."""
        raise NotImplementedError

    def _on_end(self, finished: Any) -> None:
        """Take what a worker returns."""
        raise NotImplementedError

    def _begin(self) -> None:
        self._starting, self._stop_wanted = True, False
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

    def _hold(self, job: JobHandle) -> None:
        """Take hold of a job that was started or found; a wish to stop from before is passed on."""
        self.handle, self._starting = job, False
        self.calm.begin()
        if self._stop_wanted:
            self._ask_to_stop(job)

    def stop(self) -> None:
        """Ask the job to end; asked again, end its process."""
        if self.handle is None:
            self._stop_wanted = True
        elif self._stop_wanted and self.handle.kill():
            self._status.say(self.ENDED)
            return
        else:
            self._ask_to_stop(self.handle)
        self._status.say(self.STOPPING)

    def _ask_to_stop(self, job: JobHandle) -> None:
        self._stop_wanted = True
        try:
            job.request_stop()
        except UserError as error:
            self.problem.emit(error)

    def _show_share(self, share: float, seconds_left: float | None) -> None:
        self._progress.setRange(0, FULL)
        self._progress.setValue(round(FULL * share))
        left = "" if seconds_left is None else f", {duration(seconds_left)} left"
        self._progress.setFormat(f"%p%{left}")

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
