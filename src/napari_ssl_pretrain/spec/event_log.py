"""Reading ``events.jsonl`` for an overview: only what is new, only some kinds, never all at once.

A run of a week says millions of steps, and a file may be anything: what is read is bounded, a
line without end is passed over, and what is no plain file is not opened.
"""

from __future__ import annotations

import os
import re
import stat
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
BYTES_A_STEP = 1 << 17
"""One step is kept of this many bytes: some hundred points make a curve."""

_KIND = re.compile(rb'"kind":\s*"(\w+)"')
_STEP = b"step_finished"


class EventLog:
    """The events of one run, read piece by piece.

    Parameters
    ----------
    path
        The file.
    kinds
        Kinds to read; the last line is read whatever it is.
    """

    def __init__(self, path: Path, kinds: Iterable[str]) -> None:
        self._path = path
        self._kinds = {kind.encode() for kind in kinds}
        self._offset = 0
        self._seen: tuple[int, int, int] | None = None
        self.lines = 0
        """Lines read so far, whatever they hold."""
        self.cut = False
        """Whether the middle of a file too large was left out."""

    def news(self) -> tuple[bool, list[ev.AnyEvent]]:
        """Return what is new, and before it whether the file began anew.

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
            anew = self._seen is None or seen[0] != self._seen[0] or seen[1] < self._offset
            if anew:
                self._offset, self.lines, self.cut = 0, 0, False
            self._seen = seen
            return anew, list(self._read(file, state.st_size))

    def _read(self, file: BinaryIO, size: int) -> Iterator[ev.AnyEvent]:
        every = max(1, min(size - self._offset, MOST_BYTES) // BYTES_A_STEP)
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
            kind = _KIND.search(line)
            if kind is None or number == last:
                if number == last:
                    yield line
            elif kind[1] in self._kinds and (kind[1] != _STEP or number % every == 0):
                yield line


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
