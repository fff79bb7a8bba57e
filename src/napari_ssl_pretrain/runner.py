"""The door between whoever shows a run and the process that does it.

A run is a child process; its folder is the interface. It outlives whoever started it, is
found again by its folder, and is asked to stop by a file in it. No Qt, no torch.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.run_dir import RunDir
from napari_ssl_pretrain.spec.status import RunStatus, process_lives

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ssl_pretrain.spec.config import PretrainConfig

COMMAND = (sys.executable, "-m", "napari_ssl_pretrain")
"""What starts a run; ``run --config …`` is appended."""

MAX_STEPS_READ = 4000
"""Steps kept of one reading: a week's history must not take the reader's breath away."""

NICENESS = 2
"""How far a run steps back for the viewer where both want the processor."""

_USAGE_ERROR = 2
_OTHER = "Choose another folder."
_STEP = b'"kind": "step_finished"'


class RunHandle:
    """A run that is watched: its new events, its state, and the wish to stop it.

    Parameters
    ----------
    run
        Where the run lives.
    process
        The child, when this program started it; None when it was found by its folder.
    since
        When the child was started, in seconds since 1970: an older last word is not its own.
    fresh
        The run begins anew in its folder, so whatever is older than ``since`` is dropped.
    config_file
        A file to remove when the run has ended.
    """

    def __init__(
        self,
        run: RunDir,
        process: subprocess.Popen[bytes] | None = None,
        *,
        since: float = 0.0,
        fresh: bool = False,
        config_file: Path | None = None,
    ) -> None:
        self.run = run
        self.status = RunStatus()
        self._process = process
        self._since = since
        self._fresh = fresh
        self._config_file = config_file
        self._offset = 0
        self._file_id: int | None = None
        self._began = False
        self._stop_wanted = False
        self._finished: ev.RunFinished | None = None

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
        """Whether another machine writes the run: its death cannot be seen from here."""
        return bool(self.status.host) and self.status.host != socket.gethostname()

    def poll(self) -> list[ev.AnyEvent]:
        """Return what is new, oldest first; the first call returns all there is.

        When the process is gone without a last word, one is supplied and written down.
        """
        gone = self._gone()  # asked first: what it wrote before it went is then read below
        found = self._take(self._read_lines())
        if self._finished is None and (gone or self._lost()):
            found += self._take(self._read_lines())
            if self._finished is None:
                found.append(self._supply_last_word())
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
            self.run.results.mkdir(parents=True, exist_ok=True)
            self.run.stop_file.touch()
        except OSError as error:
            raise ConfigError(*_unwritable(error), value=self.run.results, remedy=_OTHER) from None

    def _repeat_wish(self) -> None:
        """Ask again: a run that begins takes away an old wish, and cannot know that it is new."""
        if self._stop_wanted and self._began:
            with contextlib.suppress(OSError):
                self.run.stop_file.touch()

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
        return (
            self._process is None and self.status.pid is not None and not process_lives(self.status)
        )

    def _read_lines(self) -> list[bytes]:
        """Return the whole lines beyond what was read; a torn last one waits."""
        try:
            with self.run.events.open("rb") as file:
                state = os.fstat(file.fileno())
                if state.st_ino != self._file_id or state.st_size < self._offset:
                    self._file_id, self._offset = state.st_ino, 0
                file.seek(self._offset)
                whole = file.read().rpartition(b"\n")[0]
        except OSError:
            return []
        if not whole:
            return []
        self._offset += len(whole) + 1
        return thin(whole.split(b"\n"))

    def _take(self, lines: list[bytes]) -> list[ev.AnyEvent]:
        found = [e for line in lines if (e := ev.parse_event(line.decode("utf-8", "replace")))]
        if self._fresh:
            found = [event for event in found if event.time >= self._since]
        for event in found:
            self.status = self.status.after(event)
            if isinstance(event, ev.ProcessStarted):
                self._finished, self._began = None, event.time >= self._since
                self._repeat_wish()
            elif isinstance(event, ev.RunFinished) and event.time >= self._since:
                self._finished = event
        return found

    def _supply_last_word(self) -> ev.RunFinished:
        word = ev.RunFinished(
            state="failed",
            reason="killed",
            message=self._why(),
            epochs_done=self.status.epoch,
            epochs_planned=self.status.epochs,
        )
        if self._began:
            with contextlib.suppress(OSError):
                _append_line(self.run.events, word.to_line())
                self._offset = self.run.events.stat().st_size
        self._finished = word
        self.status = self.status.after(word)
        return word

    def _why(self) -> str:
        code = self._process.returncode if self._process else None
        said = last_error(self.run.console_log)
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
        if self._process is not None and not self.run.events.exists():
            self.run.console_log.unlink(missing_ok=True)
            for folder in (self.run.results, self.run.results.parent, self.run.job):
                with contextlib.suppress(OSError):
                    folder.rmdir()


def start(
    config: PretrainConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    command: Sequence[str] = COMMAND,
) -> RunHandle:
    """Start a run as a process of its own, which goes on when this program ends.

    Parameters
    ----------
    config
        What to run.
    resume
        Go on from the last checkpoint of the run.
    overwrite
        Replace the run if it exists.
    command
        What to start instead of this package's command line.

    Raises
    ------
    ConfigError
        The run is under way already, or its folder cannot be written.
    """
    run = RunDir(Path(config.result_dir).expanduser().absolute(), config.name, config.run_id)
    if _is_running(run):
        raise ConfigError(
            "run_id",
            "is running already",
            value=run.run_id,
            remedy="Stop it first, or take another number.",
        )
    config_file = _write_config(config)
    arguments = [*command, "run", "--config", str(config_file)]
    arguments += ["--resume"] * resume + ["--overwrite"] * overwrite
    since = time.time()
    try:
        run.results.mkdir(parents=True, exist_ok=True)
        run.stop_file.unlink(missing_ok=True)
        with run.console_log.open("ab" if resume else "wb") as log:
            process = _launch(arguments, log)
    except OSError as error:
        config_file.unlink(missing_ok=True)
        raise ConfigError(*_unwritable(error), value=run.result_dir, remedy=_OTHER) from None
    return RunHandle(run, process, since=since, fresh=not resume, config_file=config_file)


def attach(run: RunDir) -> RunHandle:
    """Watch a run that is there already; the first :meth:`RunHandle.poll` returns its history."""
    return RunHandle(run)


def find_running(root: Path) -> list[RunDir]:
    """Return the runs under a folder whose process lives on this machine, newest last."""
    return [run for run in RunDir.find(root) if _is_running(run)]


def last_error(log: Path) -> str:
    """Return the text of the last ``error: …`` line of a console log, or an empty string."""
    try:
        text = log.read_bytes()[-65536:].decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines()]
    return next((s.removeprefix("error: ") for s in reversed(lines) if s.startswith("error: ")), "")


def thin(lines: list[bytes]) -> list[bytes]:
    """Keep at most :data:`MAX_STEPS_READ` of the steps, evenly, and every other line."""
    steps = [i for i, line in enumerate(lines) if _STEP in line]
    if len(steps) <= MAX_STEPS_READ:
        return lines
    every = -(-len(steps) // MAX_STEPS_READ)
    dropped = set(steps) - set(steps[::-1][::every])  # counted from the end: the last one stays
    return [line for i, line in enumerate(lines) if i not in dropped]


def _is_running(run: RunDir) -> bool:
    """Whether a run's process lives here, from the end of its events alone where that says it."""
    try:
        with run.events.open("rb") as file:
            file.seek(max(0, run.events.stat().st_size - 65536))
            tail = file.read().rstrip().rpartition(b"\n")[2]
    except OSError:
        return False
    if isinstance(ev.parse_event(tail.decode("utf-8", "replace")), ev.RunFinished):
        return False
    handle = RunHandle(run)
    handle._take(handle._read_lines())  # noqa: SLF001 - reads only; poll() would write a last word
    status = handle.status
    return status.pid is not None and not handle.remote and process_lives(status)


def _write_config(config: PretrainConfig) -> Path:
    safe = re.sub(r"\W+", "_", config.name, flags=re.ASCII)[:40]
    number, path = tempfile.mkstemp(prefix=f"ssl_pretrain_{safe}_", suffix=".yaml")
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(config.to_yaml())
    return Path(path)


def _launch(arguments: list[str], log: Any) -> subprocess.Popen[bytes]:
    """Start a detached process that outlives this one and steps back a little for it."""
    environment = dict(os.environ, PYTHONUNBUFFERED="1", PYTHONIOENCODING="utf-8", MPLBACKEND="Agg")
    detached: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        flags |= subprocess.BELOW_NORMAL_PRIORITY_CLASS
        detached = {"creationflags": flags}
    process = subprocess.Popen(  # noqa: S603 - our own command line, no shell
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        **detached,
    )
    if sys.platform != "win32":
        with contextlib.suppress(psutil.Error, OSError):
            psutil.Process(process.pid).nice(NICENESS)
    return process


def _append_line(path: Path, line: str) -> None:
    """Append one line in one write, on a line of its own even after a torn one."""
    with path.open("rb+") as file:
        file.seek(0, os.SEEK_END)
        torn = False
        if file.tell():
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
        file.write((b"\n" if torn else b"") + line.encode())


def _unwritable(error: OSError) -> tuple[str, str]:
    return "result_dir", f"cannot be written ({error.strerror or error})"
