"""Progress bars with the time left, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from napari_ssl_pretrain.cli import report, text

if TYPE_CHECKING:
    from napari_ssl_pretrain.spec import events as ev
    from napari_ssl_pretrain.spec.events import AnyEvent


class BarReport:
    """One bar for what is under way; lines for what is done, above it."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
        )
        self._current: tuple[str, TaskID] | None = None
        self._validation = ""
        self._planned = False

    def __call__(self, event: AnyEvent) -> None:
        """Move a bar or print a line."""
        handler = getattr(self, f"_{event.kind}", None)
        if handler:
            handler(event)

    def note(self, sentence: str) -> None:
        """Print a line above the bar."""
        self._console.print(text.plain(sentence), markup=False)

    def close(self) -> None:
        """Take the bars away."""
        self._bars.stop()

    def _move(self, stage: str, label: str, done: int, total: int, note: str) -> None:
        """Move the bar of a stage; a new stage takes the place of the last one."""
        total = max(total, 1)
        if self._current is None or self._current[0] != stage:
            if self._current:
                self._bars.remove_task(self._current[1])
            self._current = (
                stage,
                self._bars.add_task(label, total=total, completed=done, note=note),
            )
            self._bars.start()
        self._bars.update(
            self._current[1], description=label, completed=done, total=total, note=note
        )

    def _progress(self, event: ev.Progress) -> None:
        left = "" if event.seconds_left is None else f"{text.duration(event.seconds_left)} left"
        label = text.plain(event.message or report.STAGES[event.stage])
        self._move(event.stage, label, event.done, event.total, left)

    def _step_finished(self, event: ev.StepFinished) -> None:
        rate = text.rate(event.patches_per_second)
        note = f"loss {event.loss:.4f}{self._validation}  {rate}"
        if event.steps >= report.OPEN_STEPS:
            self._move("measure", "Measuring speed", 0, 1, note)
        else:
            left = text.duration(event.seconds_left)
            self._move("train", "Training", event.step, event.steps, f"{note}  {left} left")

    def _epoch_finished(self, event: ev.EpochFinished) -> None:
        best = " (best)" if event.best else ""
        self._validation = f"  validation {event.validation_loss:.4f}{best}"

    def _data_checked(self, event: ev.DataChecked) -> None:
        for line in report.data_lines(event):
            self.note(line)

    def _run_started(self, event: ev.RunStarted) -> None:
        self.note(report.started_line(event))
        self._move("first", "First step", 0, 1, "")

    def _steps_planned(self, event: ev.StepsPlanned) -> None:
        if not self._planned:  # planned again where the machine became slower
            self.note(report.planned_line(event))
        self._planned = True

    def _warned(self, event: ev.Warned) -> None:
        self.note(f"note: {event.message}")

    def _run_finished(self, event: ev.RunFinished) -> None:
        self.close()
        if event.state != "failed":  # the error line says it
            self.note(report.finished_line(event))
