"""Reading ``events.jsonl`` for an overview: only what is new, only some kinds, never all at once.

A run of a week says millions of steps, and a file may be anything: what is read is bounded, a
line without end is passed over, and what is no plain file is not opened.
"""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from typing import TYPE_CHECKING, BinaryIO

from napari_ssl_pretrain.spec import events as ev

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from napari_ssl_pretrain.spec.run_dir import RunDir

CHUNK = 1 << 20
MOST_BYTES = 1 << 28
"""Bytes read of one file at a time; of what is larger the beginning and the end."""

LONGEST_LINE = 1 << 24
MOST_EVENTS = 100_000
"""Events kept of one reading."""

STEPS_KEPT = 700
"""About so many steps are kept of one reading, evenly: some hundred points make a curve."""

BYTES_A_LINE = 200
HEAD = 256
"""Bytes at the beginning by which a file is known again: the first event's time among them."""

_KIND = re.compile(rb'"kind":\s*"(\w+)"')
_STEP = b"step_finished"


class EventLog:
    """The events of one run, read piece by piece.

    Parameters
    ----------
    path
        The file.
    kinds
        Kinds to read, all where it is None; the last line is read whatever it is.
    steps
        About how many steps are kept of one reading.
    """

    def __init__(self, path: Path, kinds: Iterable[str] | None, *, steps: int = STEPS_KEPT) -> None:
        self._path = path
        self._kinds = None if kinds is None else {kind.encode() for kind in kinds}
        self._steps = steps
        self._offset = 0
        self._seen: tuple[int, int, int] | None = None
        self._head = b""
        self.lines = 0
        """Lines read so far, whatever they hold."""
        self.cut = False
        """Whether the middle of a file too large was left out."""

    def news(self) -> tuple[bool, list[ev.AnyEvent]]:
        """Return what is new, the newest :data:`MOST_EVENTS`, and before it whether it began anew.

        Raises
        ------
        OSError
            It cannot be read.
        """
        with open_plain(self._path) as file:
            state = os.fstat(file.fileno())
            seen = (state.st_ino, state.st_size, state.st_mtime_ns)
            if seen == self._seen:
                return False, []
            head = file.read(HEAD)
            anew = self._seen is None or seen[0] != self._seen[0] or seen[1] < self._offset
            anew = anew or not head.startswith(self._head)
            if anew:
                self._offset, self.lines, self.cut = 0, 0, False
            self._seen, self._head = seen, head
            return anew, list(deque(self._read(file, state.st_size), MOST_EVENTS))

    def _read(self, file: BinaryIO, size: int) -> Iterator[ev.AnyEvent]:
        new = min(size - self._offset, MOST_BYTES)
        every = max(1, -(-new // (BYTES_A_LINE * self._steps)))
        for lines in self._pieces(file, size):
            self.lines += len(lines)
            yield from _parsed(self._chosen(lines, every))

    def _pieces(self, file: BinaryIO, size: int) -> Iterator[list[bytes]]:
        """Yield whole lines up to the size that the file had; a torn last one waits."""
        ends = [size]
        if size - self._offset > MOST_BYTES:
            self.cut = True
            ends = [self._offset + MOST_BYTES // 4, size]
        for end in ends:
            if self.cut and end == size:
                self._offset = max(self._offset, size - MOST_BYTES * 3 // 4)
            yield from self._until(file, end)

    def _until(self, file: BinaryIO, end: int) -> Iterator[list[bytes]]:
        file.seek(self._offset)
        rest = b""
        while file.tell() < end and (block := file.read(min(CHUNK, end - file.tell()))):
            whole, found, rest = (rest + block).rpartition(b"\n")
            if found:
                self._offset = file.tell() - len(rest)
                yield [line for line in whole.split(b"\n") if line.strip()]
            elif len(rest) > LONGEST_LINE:
                self._offset, rest = file.tell(), b""

    def _chosen(self, lines: list[bytes], every: int) -> Iterator[bytes]:
        last = len(lines) - 1
        for number, line in enumerate(lines):
            if number == last or self._is_wanted(_KIND.search(line), number % every == 0):
                yield line

    def _is_wanted(self, kind: re.Match[bytes] | None, step: bool) -> bool:  # noqa: FBT001
        if kind is None or (kind[1] == _STEP and not step):
            return False
        return self._kinds is None or kind[1] in self._kinds


def _parsed(lines: Iterable[bytes]) -> Iterator[ev.AnyEvent]:
    for line in lines:
        event = ev.parse_event(line.decode("utf-8", "replace"))
        if event is not None:
            yield event


def events_of(run: RunDir, *kinds: str) -> list[ev.AnyEvent]:
    """Return a run's events of some kinds, oldest first; none where they cannot be read."""
    try:
        _, found = EventLog(run.events, kinds).news()
    except OSError:
        return []
    return [event for event in found if event.kind in kinds]


def open_plain(path: Path) -> BinaryIO:
    """Open a file that is one: a pipe or a device would hold the reader up for ever.

    Raises
    ------
    OSError
        It is none, or cannot be opened.
    """
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(None, "it is no plain file")
    return os.fdopen(number, "rb")


def read_plain(path: Path, most: int) -> bytes:
    """Return all that a small file holds.

    Raises
    ------
    OSError
        It is no plain file, cannot be read, or holds more than ``most`` bytes.
    """
    with open_plain(path) as file:
        found = file.read(most + 1)
    if len(found) > most:
        raise OSError(None, f"it holds more than {most >> 20} MB")
    return found
