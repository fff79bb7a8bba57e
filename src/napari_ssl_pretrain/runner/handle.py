"""A job that is watched by its folder alone: its events, its end, the wish to stop it."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.spec import claim
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.event_log import EventLog, open_plain
from napari_ssl_pretrain.spec.heartbeat import Pulse
from napari_ssl_pretrain.spec.last_word import last_event
from napari_ssl_pretrain.spec.status import RunStatus, life_of, process_lives

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from napari_ssl_pretrain.spec.run_dir import RunDir
    from napari_ssl_pretrain.spec.study_dir import StudyDir

MAX_STEPS_READ = 4000
"""About so many steps are kept of one reading: a week's history must not take the breath away."""

OTHER = "Choose another folder."
_USAGE_ERROR = 2
LONGEST_TAIL = 1 << 16
LOOK_SECONDS = 1.0
LOST_SECONDS = 120.0
"""Watched for so long without a sign of life, a job of another machine is followed no more."""


class Place(claim.Place, Protocol):
    """Where a job lives: a run, or a transfer study."""

    @property
    def stop_file(self) -> Path:
        """The wish to stop it."""

    @property
    def console_log(self) -> Path:
        """What its process prints."""

    def empty_folders(self) -> tuple[Path, ...]:
        """Return the folders that are made for it alone, innermost first."""


class JobHandle:
    """A job that is watched: its new events, its state, and the wish to stop it.

    One that was found by its folder is watched from the beginning.

    Parameters
    ----------
    place
        Where the job lives.
    config_file
        A file to remove when the run has ended.
    """

    def __init__(self, place: Place, *, config_file: Path | None = None) -> None:
        self._place = place
        self.status = RunStatus()
        self._process: subprocess.Popen[bytes] | None = None
        self._config_file = config_file
        self._log = EventLog(place.events, None, steps=MAX_STEPS_READ)
        self._history: list[ev.AnyEvent] = []
        self._own = True
        self._began = False
        self._stop_wanted = False
        self._finished: ev.RunFinished | None = None
        self._pulse = Pulse(place.heartbeat)
        self._looked = float("-inf")
        self._elsewhere = False
        self.silence: float | None = None
        """Seconds without a sign of life; None while there are some."""

    def look_back(self, *, keep: bool) -> None:
        """Read what earlier processes said, before another one is started.

        Parameters
        ----------
        keep
            Whether that is part of the history of the job; else it is begun anew.
        """
        self._own = False
        found = self._read()
        self._own = True
        if keep:
            self._history = found
        else:
            self.status = RunStatus()

    def follow(self, process: subprocess.Popen[bytes]) -> None:
        """Watch a child of this program from now on."""
        self._process = process

    @property
    def finished(self) -> ev.RunFinished | None:
        """The last word of the run, or None while it has not been said."""
        return self._finished

    @property
    def ended(self) -> bool:
        """Whether the last word was said."""
        return self._finished is not None

    @property
    def remote(self) -> bool:
        """Whether another machine writes the run: of its death only the silence is seen here."""
        return bool(self.status.host) and self.status.host != socket.gethostname()

    def poll(self) -> list[ev.AnyEvent]:
        """Return what is new, oldest first; the first call returns all there is.

        When the process is gone without a last word, one is supplied and written down.
        """
        gone = self._gone()  # asked first: what it wrote before it went is then read below
        found, self._history = self._history + self._read(), []
        if self._finished is None and (gone or self._lost()):
            found += self._read()
            if self._finished is None:
                found += self._supply_last_word()
        if self._finished is not None:
            self._tidy()
        return found

    def request_stop(self) -> None:
        """Ask the run to save its state and end at its next step.

        Raises
        ------
        ConfigError
            The run's folder cannot be written.
        """
        self._stop_wanted = True
        try:
            self._place.results.mkdir(parents=True, exist_ok=True)
            self._place.stop_file.touch()
        except OSError as error:
            raise ConfigError(*unwritable(error), value=self._place.results, remedy=OTHER) from None

    def _repeat_wish(self) -> None:
        """Ask again: a run that begins takes away an old wish, and cannot know that it is new."""
        if self._stop_wanted and self._began:
            with contextlib.suppress(OSError):
                self._place.stop_file.touch()

    def kill(self) -> bool:
        """End the process at once, its children too; false when it is not on this machine."""
        pid = self._process.pid if self._process else self.status.pid
        if pid is None or self.remote or self.ended or not self._alive_here():
            return False
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            for child in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.Error):
                    child.kill()
        return True

    def _alive_here(self) -> bool:
        return self._process.poll() is None if self._process else process_lives(self.status)

    def _gone(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _lost(self) -> bool:
        """Whether a job that was found is gone; looked for once a second."""
        if self._process is not None or self.status.pid is None:
            return False
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return False
        self._looked = time.monotonic()
        life = life_of(self.status, self._pulse)
        self.silence, self._elsewhere = life.silence, life.elsewhere
        return not life.lives or (life.elsewhere and (life.silence or 0) > LOST_SECONDS)

    def _read(self) -> list[ev.AnyEvent]:
        """Return what is new; a torn last line waits."""
        try:
            _, found = self._log.news()
        except OSError:
            return []
        for event in found:
            self.status = self.status.after(event)
            if isinstance(event, ev.ProcessStarted):
                self._finished, self._began = None, self._own
                self._repeat_wish()
            elif isinstance(event, ev.RunFinished) and self._own:
                self._finished = event
        return found

    def _supply_last_word(self) -> list[ev.AnyEvent]:
        """Say that the process is gone; nothing where another one writes by now."""
        word = ev.RunFinished(
            state="failed",
            reason="killed",
            message=self._why(),
            epochs_done=self.status.epoch,
            epochs_planned=self.status.epochs,
        )
        if self._began and not self._elsewhere:
            said = claim.say_last_word(self._place, word)
            if said != "closed":
                return self._read()
        self._finished = word
        self.status = self.status.after(word)
        return [word]

    def _why(self) -> str:
        if self.silence is not None and self.remote:
            minutes = f"{self.silence / 60:.0f} minutes"
            return f"no sign of life from {self.status.host} for {minutes}; it seems to be gone"
        code = self._process.returncode if self._process else None
        said = last_error(self._place.console_log)
        if code == _USAGE_ERROR and said:
            return said
        if code is None:
            return f"process {self.status.pid} ended without a word; see run.log"
        return f"process ended with code {code}; see run.log"

    def _tidy(self) -> None:
        """Leave nothing behind of a run that never began."""
        if self._config_file is not None:
            self._config_file.unlink(missing_ok=True)
            self._config_file = None
        if self._process is not None and not self._place.events.exists():
            self._place.console_log.unlink(missing_ok=True)
            for folder in self._place.empty_folders():
                with contextlib.suppress(OSError):
                    folder.rmdir()


class RunHandle(JobHandle):
    """A pretraining run that is watched; see :class:`JobHandle`."""

    def __init__(self, run: RunDir, *args: Any, **options: Any) -> None:
        super().__init__(run, *args, **options)
        self.run = run


class StudyHandle(JobHandle):
    """A transfer study that is watched; see :class:`JobHandle`."""

    def __init__(self, study: StudyDir, *args: Any, **options: Any) -> None:
        super().__init__(study, *args, **options)
        self.study = study


def is_running(place: Place) -> bool:
    """Whether a job's process lives here, from the end of its events alone where that says it."""
    if not place.events.exists() or isinstance(last_event(place.events), ev.RunFinished):
        return False
    handle = JobHandle(place)
    handle._read()  # noqa: SLF001 - reads only; poll() would write a last word
    status = handle.status
    return status.pid is not None and not handle.remote and not handle._lost()  # noqa: SLF001


def last_error(log: Path) -> str:
    """Return the text of the last ``error: …`` line of a console log, or an empty string."""
    try:
        with open_plain(log) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LONGEST_TAIL))
            text = file.read(LONGEST_TAIL).decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines()]
    return next((s.removeprefix("error: ") for s in reversed(lines) if s.startswith("error: ")), "")


def unwritable(error: OSError) -> tuple[str, str]:
    """Return the subject and the rule of an error: the results cannot be written."""
    return "result_dir", f"cannot be written ({error.strerror or error})"
