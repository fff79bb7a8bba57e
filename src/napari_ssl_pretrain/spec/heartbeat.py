"""Signs of life: a small file that a running process writes anew every ten seconds.

Whoever looks compares what it sees with what it saw before, by its own stopwatch: clocks of two
machines are never compared, and a clock that jumps changes nothing.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

from napari_ssl_pretrain.spec.event_log import read_plain
from napari_ssl_pretrain.spec.lock import LOOK_SECONDS

BEAT_SECONDS = 10.0
QUIET_SECONDS = 3 * BEAT_SECONDS
"""Watched for so long without a change, a process of another machine counts as gone."""

LARGEST = 1 << 14
_beating: set[str] = set()
"""Tokens of what this very process is writing."""


@dataclass(frozen=True)
class Owner:
    """A process as it names itself.

    Attributes
    ----------
    pid, host
        Its number and its machine.
    boot
        Which start of that machine, empty where the system does not say.
    started
        When the process began, as its system counts; not by the clock, where that can be had.
    token
        Which of the runs of that process.
    """

    pid: int
    host: str
    boot: str
    started: str
    token: str

    @classmethod
    def me(cls) -> Owner:
        """Return this process, for one more run."""
        pid = os.getpid()
        return cls(pid, socket.gethostname(), boot_id(), started(pid), uuid.uuid4().hex)

    def lives(self) -> bool | None:
        """Whether it runs; None where that cannot be seen from here."""
        if self.host != socket.gethostname() or self.boot != boot_id():
            return None
        if self.pid == os.getpid() and self.started == started(self.pid):
            return self.token in _beating
        try:
            zombie = psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
            return not zombie and started(self.pid) == self.started
        except (psutil.Error, ValueError, OverflowError):  # the latter: no number of a process
            return False

    def ends_within(self, seconds: float) -> bool:
        """Wait until a process of this machine has ended; false when it has not by then."""
        deadline = time.monotonic() + seconds
        while self.lives():
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@lru_cache(1)
def boot_id() -> str:
    """Return what tells one start of this machine from another one, or nothing."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def started(pid: int) -> str:
    """Return when a process began: in ticks since the start of Linux, else by the clock."""
    with suppress(OSError, IndexError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return fields.rpartition(")")[2].split()[19]
    with suppress(psutil.Error, ValueError, OverflowError):
        return str(round(psutil.Process(pid).create_time()))
    return ""


def read_owner(path: Path) -> Owner | None:
    """Return whose signs of life a file holds; None where it holds none."""
    return parse_owner(_content(path))


def parse_owner(content: bytes) -> Owner | None:
    """Read the content of such a file; None for what is torn or foreign."""
    try:
        found: Any = json.loads(content)
        pid, *texts = (found[name] for name in Owner.__dataclass_fields__)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    whole = isinstance(pid, int) and not isinstance(pid, bool)
    return Owner(pid, *texts) if whole and all(isinstance(text, str) for text in texts) else None


class Heartbeat:
    """Gives signs of life from a thread until it is stopped.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.owner = Owner.me()
        self.taken: Owner | None = None
        """Who took the file over while this process slept, if anybody did."""
        self._path = path
        self._count = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Give the first sign, and go on until :meth:`stop`."""
        _beating.add(self.owner.token)
        self.beat()
        self._thread.start()

    def stop(self) -> None:
        """Give no more signs and remove the file."""
        self._over.set()
        _beating.discard(self.owner.token)
        if self._thread.ident is not None:
            self._thread.join(1)
        if self.taken is None and self._is_mine():
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def beat(self) -> None:
        """Write the file anew; on a full disk its time changes all the same."""
        if not self._is_mine():
            return
        self._count += 1
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        try:
            temporary.write_text(json.dumps(asdict(self.owner) | {"beat": self._count}))
            temporary.replace(self._path)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            with suppress(OSError):
                os.utime(self._path)

    def _is_mine(self) -> bool:
        other = read_owner(self._path)
        if self._count and other is not None and other.token != self.owner.token:
            self.taken = other
        return self.taken is None

    def _go_on(self) -> None:
        while not self._over.wait(BEAT_SECONDS) and self.taken is None:
            self.beat()


class Pulse:
    """Looks for signs of life again and again.

    Parameters
    ----------
    path
        The file.
    patience
        For how many seconds it is watched before it counts as silent.
    """

    def __init__(self, path: Path, patience: float = QUIET_SECONDS) -> None:
        self._path, self._patience = path, patience
        self._seen: tuple[bytes, int] | None = None
        self._since = time.monotonic()
        self._changed = False
        self.owner: Owner | None = None
        """Who gave the last sign; None where there is no file."""
        self.age = 0.0
        """How old the last sign was when it was first seen, by the times of the file system."""

    def look(self) -> float:
        """Return for how many seconds nothing has changed under these eyes."""
        content, changed = _content(self._path), _changed(self._path)
        if (content, changed) != self._seen:
            first = self._seen is None
            self._seen, self._since = (content, changed), time.monotonic()
            self._changed = not first
            self.owner = parse_owner(content)
            known = first and self.owner is not None
            self.age = max(0.0, time.time() - changed / 1e9) if known else 0.0
        return time.monotonic() - self._since

    @property
    def moved(self) -> bool:
        """Whether a change was seen."""
        return self._changed and self.owner is not None

    def silence(self) -> float | None:
        """Return for how long there was no sign; None before this was watched long enough."""
        quiet = self.look()
        return None if self.owner is None or quiet < self._patience else quiet + self.age


def wait_for_sign(path: Path, owner: Owner) -> bool:
    """Watch a file until the owner gives a sign, or has been silent for too long."""
    pulse = Pulse(path)
    while pulse.look() < QUIET_SECONDS:
        if pulse.owner is None or pulse.owner.token != owner.token or pulse.moved:
            return pulse.owner is not None
        time.sleep(min(0.5, QUIET_SECONDS / 20))
    return False


def _content(path: Path) -> bytes:
    try:
        return read_plain(path, LARGEST)
    except OSError:
        return b""


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
