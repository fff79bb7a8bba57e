"""Processes of their own: detached, quiet, a little more polite than the viewer."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from napari_ssl_pretrain.runner.handle import Place

COMMAND = (sys.executable, "-m", "napari_ssl_pretrain")
"""What starts a job; the words of a command are appended."""

NICENESS = 2
"""How far a job steps back for the viewer where both want the processor."""


def start_in(
    place: Place, arguments: list[str], *, append: bool = False
) -> subprocess.Popen[bytes]:
    """Make a job's folder and start its process, which prints into its log."""
    place.results.mkdir(parents=True, exist_ok=True)
    place.stop_file.unlink(missing_ok=True)
    with place.console_log.open("ab" if append else "wb") as log:
        return _launch(arguments, log)


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
