"""What a run says: events to its file and to whoever listens, and the last word always."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from napari_ssl_pretrain.spec import events as ev

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TextIO

STEP_INTERVAL = 0.2
"""Seconds between two :class:`StepFinished`, or two words on one progress, at least."""


class Reporter:
    """Sends events to a callback at once, and to the run's file as soon as it has one.

    Parameters
    ----------
    emit
        Called with every event; may be None.
    silent
        Whether nothing is written or sent (all processes but the first).
    """

    def __init__(self, emit: Callable[[ev.AnyEvent], None] | None, *, silent: bool = False) -> None:
        self._emit = emit
        self.silent = silent
        self._waiting: list[ev.AnyEvent] = []
        self._file: TextIO | None = None
        self._last_step = self._last_progress = 0.0
        self._last_stage = ""

    def open(self, path: Path, *, append: bool) -> None:
        """Write to this file from now on, beginning with what was said before."""
        if self.silent:
            return
        torn = (
            append
            and path.exists()
            and not path.read_bytes().endswith(b"\n")
            and path.stat().st_size > 0
        )
        self._file = path.open("a" if append else "w", encoding="utf-8")
        if torn:
            self._file.write("\n")
        for event in self._waiting:
            self._write(event)
        self._waiting.clear()

    def __call__(self, event: ev.AnyEvent) -> None:
        """Say one event."""
        if self.silent or (isinstance(event, ev.Progress) and not self._progress_due(event)):
            return
        if self._file is None:
            self._waiting.append(event)
        else:
            self._write(event)
        if self._emit is not None:
            self._emit(event)

    def _progress_due(self, event: ev.Progress) -> bool:
        """Let a stage's first and last word pass, and at most five a second between them."""
        now = time.monotonic()
        edge = event.done >= event.total or event.stage != self._last_stage
        if not edge and now - self._last_progress < STEP_INTERVAL:
            return False
        self._last_stage, self._last_progress = event.stage, now
        return True

    def step_due(self) -> bool:
        """Whether enough time has passed to say another step; calling it starts the next wait."""
        now = time.monotonic()
        if now - self._last_step < STEP_INTERVAL:
            return False
        self._last_step = now
        return True

    def _write(self, event: ev.AnyEvent) -> None:
        if self._file is not None:
            self._file.write(event.to_line())
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with suppress(OSError):  # a full disk was said already
                self._file.close()
            self._file = None
