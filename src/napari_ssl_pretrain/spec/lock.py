"""A lock on a file that the system lets go of when its holder ends, however it ends."""

from __future__ import annotations

import errno
import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

if TYPE_CHECKING:
    from pathlib import Path

_BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
LOOK_SECONDS = 0.05


class Lock:
    """A file that one process at a time may hold.

    Where the file system knows no locks, or the file cannot be opened, nothing is held and
    nobody refused: see :mod:`~napari_ssl_pretrain.spec.heartbeat` for what helps there. The
    library filelock raises in the second case, and leaves its file when it lets go.

    Parameters
    ----------
    path
        The file; removed when it is let go.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number: int | None = None

    def acquire(self, timeout: float = 0.0) -> bool:
        """Take the lock; false when another one keeps it for so many seconds."""
        deadline = time.monotonic() + timeout
        while not self._try():
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def release(self) -> None:
        """Remove the file and let it go."""
        if self._number is None:
            return
        with suppress(OSError):  # Windows keeps an open file
            self._path.unlink()
        os.close(self._number)
        self._number = None

    def _try(self) -> bool:
        number = self._open()
        if number is None:
            return True
        try:
            _lock(number)
        except OSError as error:
            os.close(number)
            return error.errno not in _BUSY
        if not self._is_there(number):  # the one before removed it meanwhile
            os.close(number)
            return False
        self._number = number
        return True

    def _open(self) -> int | None:
        for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):  # another user's can only be read
            with suppress(OSError):
                return os.open(self._path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)
        return None

    def _is_there(self, number: int) -> bool:
        mine = os.fstat(number)
        try:
            there = self._path.lstat()
        except OSError:
            return False
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


def _lock(number: int) -> None:
    """Lock an open file, without waiting.

    Raises
    ------
    OSError
        Another process holds it, or the file system knows no locks.
    """
    if sys.platform == "win32":
        msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
