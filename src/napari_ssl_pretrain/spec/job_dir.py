"""The files that every job keeps in its folder, a run as well as a transfer study."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class JobDir:
    """What tells how a job goes, and what holds and stops it."""

    if TYPE_CHECKING:  # a field or a property of each

        @property
        def results(self) -> Path:
            """The folder."""

    @property
    def events(self) -> Path:
        """What the job said, one JSON object a line."""
        return self.results / "events.jsonl"

    @property
    def stop_file(self) -> Path:
        """A wish to stop: the job ends at its next step when this file is there."""
        return self.results / "stop"

    @property
    def lock(self) -> Path:
        """Held by the process that writes the job."""
        return self.results / ".lock"

    @property
    def heartbeat(self) -> Path:
        """Signs of life of that process; removed at its end."""
        return self.results / "heartbeat.json"

    @property
    def reserve(self) -> Path:
        """Some space for the last word on a full disk; removed at the end."""
        return self.results / ".reserve"

    @property
    def console_log(self) -> Path:
        """What the process printed, when the dock started it."""
        return self.results / "run.log"
