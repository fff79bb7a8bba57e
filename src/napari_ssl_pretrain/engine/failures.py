"""What goes wrong around a job, as sentences: folders that cannot be written, what stopped it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NoReturn

from napari_ssl_pretrain.data.writers import CannotWrite
from napari_ssl_pretrain.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


_CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EDQUOT)
PROBE = ".napari-ssl-pretrain-"
OPEN = "Make the folder writable again and resume."


def refuse_unwritable(results: Path, field: str, given: object) -> None:
    """Find out that results cannot be written before anything else is done.

    Parameters
    ----------
    results
        The folder that will be made.
    field, given
        What the user calls it, and wrote.

    Raises
    ------
    ConfigError
        The nearest folder that exists is no folder, or cannot be written.
    """
    place = results
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        rule = f"{place} is a file, not a folder"
        raise ConfigError(field, rule, value=given, remedy="Choose another folder.")
    try:
        (place / f"{PROBE}{os.getpid()}").touch()
        for probe in list(place.glob(f"{PROBE}*")):  # of those that were killed here, too
            probe.unlink(missing_ok=True)
    except OSError as error:
        refuse(error, field, given)


def refuse(error: OSError, field: str, given: object) -> NoReturn:
    """Refuse a folder that cannot be written.

    Raises
    ------
    ConfigError
        Always.
    """
    rule = f"cannot be written ({error.strerror or error})"
    remedy = "Choose a folder that you may write to."
    raise ConfigError(field, rule, value=given, remedy=remedy) from None


def explain(error: Exception, *, memory: str, where: object, disk: str) -> str:
    """Turn what went wrong into a sentence with a remedy.

    Parameters
    ----------
    memory
        What to say when memory ran out.
    where
        Where the disk is full, if the error does not say so.
    disk
        What to do once there is space again.
    """
    error = error.reason if isinstance(error, CannotWrite) else error
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    low = text.lower()
    if isinstance(error, MemoryError) or "out of memory" in low or "can't allocate memory" in low:
        return memory
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"The disk is full ({error.filename or where}). {disk}"
    if isinstance(error, OSError) and error.errno in _CLOSED:
        reason = (error.strerror or text).lower()
        return f"{error.filename or where} cannot be written any more ({reason}). {OPEN}"
    return f"{type(error).__name__}: {text}"
