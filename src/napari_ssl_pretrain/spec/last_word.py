"""The end of an events file: what it says last, and a line added after it by someone else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.event_log import open_plain

if TYPE_CHECKING:
    from pathlib import Path

TAIL = 65536
LOST = "The process ended without a last word; the run goes on from its last saved state."


def last_event(path: Path) -> ev.AnyEvent | None:
    """Return the event that a file ends with; None where it cannot be read, or is torn."""
    try:
        with open_plain(path) as file:
            return _last(file)
    except OSError:
        return None


def missing_words(path: Path) -> str:
    """Return what must be appended before another process goes on with a file.

    That is the end of a torn line, and the last word of a process that died without one.
    """
    try:
        with open_plain(path) as file:
            torn, last = _is_torn(file), _last(file)
    except OSError:
        return ""
    text = "\n" if torn else ""
    if isinstance(last, ev.RunFinished):
        return text
    known = {} if last is None else {"time": last.time}
    return text + ev.RunFinished(state="failed", reason="killed", message=LOST, **known).to_line()


def append_line(path: Path, line: str) -> None:
    """Append one line in one write, on a line of its own even after a torn one.

    Raises
    ------
    OSError
        It cannot be written, or is no plain file.
    """
    with open_plain(path) as file:
        torn = _is_torn(file)
    with path.open("ab", buffering=0) as file:
        write_whole(file, ("\n" if torn else "") + line)


def write_whole(file: BinaryIO, text: str) -> None:
    """Write text to an unbuffered file: in one piece, unless the disk is full.

    Raises
    ------
    OSError
        It cannot be written; a part of it may be.
    """
    left = memoryview(text.encode())
    while left:
        left = left[file.write(left) :]


def _is_torn(file: BinaryIO) -> bool:
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def _last(file: BinaryIO) -> ev.AnyEvent | None:
    file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
    tail = file.read().rstrip().rpartition(b"\n")[2]
    return ev.parse_event(tail.decode("utf-8", "replace"))
