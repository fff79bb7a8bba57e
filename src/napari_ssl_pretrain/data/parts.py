"""Names of what is being written, and the removal of what was never finished.

A result is written beside its place under a name that begins with a dot and tells who writes it;
it is moved to its place whole. Who is killed leaves such a name behind.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86400
_NAME = re.compile(r"\..+\.(\d+)-([0-9a-f]{8})\.(part|old)")


def part_of(path: Path, ending: str = "part") -> Path:
    """Return the name under which this process writes a file or folder."""
    return path.with_name(f".{path.name}.{os.getpid()}-{_machine()}.{ending}")


def clear_parts(folder: Path) -> None:
    """Remove from a folder what processes that are gone were writing there.

    Those of another machine cannot be looked for: what they left goes when it is a day old.
    """
    with suppress(OSError):
        for path in list(folder.glob(".*")):
            if (found := _NAME.fullmatch(path.name)) and _is_left(path, int(found[1]), found[2]):
                remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all in it; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _is_left(path: Path, pid: int, machine: str) -> bool:
    if machine == _machine():
        return pid != os.getpid() and not psutil.pid_exists(pid)
    try:
        return time.time() - path.lstat().st_mtime > DAY
    except OSError:
        return False


def _machine() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"
