"""What a run says: events to its file and to whoever listens, and the last word always."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.last_word import missing_words, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import BinaryIO

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
        self._file: BinaryIO | None = None
        self._torn = False
        self._last_step = self._last_progress = 0.0
        self._last_stage = ""

    def open(self, path: Path, *, append: bool) -> None:
        """Write to this file from now on, beginning with what was said before.

        Appended to what an earlier process wrote, whose last word is added if it died without.

        Raises
        ------
        OSError
            It cannot be written.
        """
        if self.silent:
            return
        before = missing_words(path) if append else ""
        self._file = path.open("ab" if append else "wb", buffering=0)
        size = self._file.tell()
        # in one piece: who reads meanwhile shall not take an earlier life's end for this one's
        try:
            self._write(before + "".join(event.to_line() for event in self._waiting))
        except OSError:
            if append:
                self._file.truncate(size)  # it still ends with the last word that it had
            else:
                path.unlink(missing_ok=True)  # what never began leaves no run behind
            raise
        self._waiting.clear()

    def __call__(self, event: ev.AnyEvent) -> None:
        """Say one event."""
        if self.silent or (isinstance(event, ev.Progress) and not self._progress_due(event)):
            return
        try:
            if self._file is None:
                self._waiting.append(event)
            else:
                self._write(event.to_line())
        finally:
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

    def _write(self, text: str) -> None:
        if self._file is None or not text:
            return
        text, self._torn = "\n" * self._torn + text, True
        write_whole(self._file, text)
        self._torn = False

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with suppress(OSError):  # a full disk was said already
                self._file.close()
            self._file = None
