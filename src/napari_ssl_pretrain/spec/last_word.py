"""The end of an events file: what it says last, and a line added after it by someone else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from napari_ssl_pretrain.spec import events as ev

if TYPE_CHECKING:
    from pathlib import Path

TAIL = 65536


def last_event(path: Path) -> ev.AnyEvent | None:
    """Return the event that a file ends with; None where it cannot be read, or is torn."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            tail = file.read().rstrip().rpartition(b"\n")[2]
    except OSError:
        return None
    return ev.parse_event(tail.decode("utf-8", "replace"))


def append_line(path: Path, line: str) -> None:
    """Append one line in one write, on a line of its own even after a torn one."""
    with path.open("rb+") as file:
        file.seek(0, os.SEEK_END)
        torn = False
        if file.tell():
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
        file.write((b"\n" if torn else b"") + line.encode())
