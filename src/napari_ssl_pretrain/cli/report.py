"""What a run says, on a terminal, in a pipe, or as JSON lines."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

from napari_ssl_pretrain.cli import text
from napari_ssl_pretrain.spec.events import AnyEvent, Warned

if TYPE_CHECKING:
    from napari_ssl_pretrain.spec import events as ev

STAGES = {
    "scan": "Reading headers",
    "pixels": "Reading pixels",
    "prepare": "Preparing",
    "validate": "Validating",
    "test": "Testing",
    "predict": "Predicting",
    "features": "Encoding",
    "transfer": "Comparing",
}
SECONDS_BETWEEN_LINES = 10.0
MOST_SECONDS_BETWEEN_LINES = 60.0
OPEN_STEPS = 1_000_000
"""So many steps are no plan: they stand there until the minutes given are turned into steps."""
SKIPPED_SHOWN = 5


class Report(Protocol):
    """Where events and notes go; it is called with each event."""

    def __call__(self, event: AnyEvent) -> None:
        """Show one event."""

    def note(self, sentence: str) -> None:
        """Show something that is no event."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def say(line: str) -> None:
    """Print a line at once; a reader that has gone (such as ``head``) does not end a run."""
    try:
        print(text.plain(line), flush=True)
    except OSError:  # the reader is gone, or its disk full: that ends no run
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class JsonReport:
    """One JSON object a line, as in ``events.jsonl``."""

    def __call__(self, event: AnyEvent) -> None:
        """Print one event."""
        say(event.to_line().rstrip("\n"))

    def note(self, sentence: str) -> None:
        """Print a note as an event."""
        self(Warned(message=sentence))

    def close(self) -> None:
        """Do nothing."""


class Silent:
    """Says nothing: for the helpers of a run on several devices."""

    def __call__(self, event: AnyEvent) -> None:
        """Ignore one event."""

    def note(self, sentence: str) -> None:
        """Ignore a note."""

    def close(self) -> None:
        """Do nothing."""


class PlainReport:
    """Few plain lines: a sign of life every ten seconds, then more rarely."""

    def __init__(self) -> None:
        self._began = self._last_line = time.monotonic()
        self._loss: float | None = None
        self._planned = False

    def __call__(self, event: AnyEvent) -> None:
        """Print what an event is worth."""
        handler = getattr(self, f"_{event.kind}", None)
        if handler:
            handler(event)

    def note(self, sentence: str) -> None:
        """Print a line at once."""
        self._last_line = time.monotonic()
        say(sentence)

    def close(self) -> None:
        """Do nothing."""

    def _due(self) -> bool:
        now = time.monotonic()
        gap = min(max(SECONDS_BETWEEN_LINES, (now - self._began) / 10), MOST_SECONDS_BETWEEN_LINES)
        return now - self._last_line >= gap

    def _data_checked(self, event: ev.DataChecked) -> None:
        for line in data_lines(event):
            self.note(line)

    def _progress(self, event: ev.Progress) -> None:
        if self._due():
            left = f", {text.duration(event.seconds_left)} left" if event.seconds_left else ""
            what = f" ({event.message})" if event.stage == "transfer" else ""
            self.note(f"{STAGES[event.stage]}{what}: {event.done} of {event.total}{left}")

    def _run_started(self, event: ev.RunStarted) -> None:
        self.note(started_line(event))

    def _steps_planned(self, event: ev.StepsPlanned) -> None:
        if not self._planned or self._due():  # planned again where the machine became slower
            self.note(planned_line(event))
        self._planned = True

    def _step_finished(self, event: ev.StepFinished) -> None:
        first = self._loss is None
        self._loss = event.loss
        if first or self._due():
            of, left = (f" of {event.steps}", f", {text.duration(event.seconds_left)} left")
            if event.steps >= OPEN_STEPS:
                of = left = ""
            rate = text.rate(event.patches_per_second)
            self.note(f"step {event.step}{of}: loss {event.loss:.4f}, {rate}{left}")

    def _epoch_finished(self, event: ev.EpochFinished) -> None:
        if self._due() or event.epoch == event.epochs:
            self.note(epoch_line(event))

    def _warned(self, event: ev.Warned) -> None:
        self.note(f"note: {event.message}")

    def _run_finished(self, event: ev.RunFinished) -> None:
        if event.state != "failed":  # the error line says it
            self.note(finished_line(event))


class PlainProgress(PlainReport):
    """The same on the standard error, beside what a command prints for others to read."""

    def note(self, sentence: str) -> None:
        """Print a line at once."""
        self._last_line = time.monotonic()
        print(text.plain(sentence), file=sys.stderr, flush=True)


def data_lines(event: ev.DataChecked) -> list[str]:
    """Say which images were found and which were not taken."""
    validation = (
        f"{event.validation} to validate" if event.validation else "validated on parts of them"
    )
    lines = [
        f"Images: {event.train} to train, {validation}, {event.test} to test; "
        f"{event.ndim}D, {text.count(event.channels, 'channel')}, axes {event.axes}"
    ]
    skipped = tuple(dict.fromkeys(event.skipped))  # a file may be in several sets
    lines += [f"skipped: {sentence}" for sentence in skipped[:SKIPPED_SHOWN]]
    if len(skipped) > SKIPPED_SHOWN:
        lines.append(f"skipped: {len(skipped) - SKIPPED_SHOWN} more; `check` lists them all")
    return lines + [f"note: {sentence}" for sentence in event.notes]


def started_line(event: ev.RunStarted) -> str:
    """Say what is trained, on what, for how long."""
    size = f"{text.millions(event.parameters)} parameters"
    steps = text.count(event.steps_per_epoch, "step")
    epochs = text.count(event.epochs, "epoch")
    if event.steps >= OPEN_STEPS:
        epochs = "for the time given, in epochs"
    patches = f"{event.batch_size} patches of {text.by(event.patch_size)}"
    again = f", from step {event.step} on" if event.step else ""
    return (
        f"Training {event.backbone} ({size}) on {event.device} in {event.precision}: "
        f"{epochs} of {steps}, each step {patches}{again}"
    )


def planned_line(event: ev.StepsPlanned) -> str:
    """Say how many steps fit into the minutes that were asked for."""
    epochs = text.count(event.epochs, "epoch")
    return f"{text.count(event.steps, 'step')} fit into the time given ({epochs})"


def epoch_line(event: ev.EpochFinished) -> str:
    """Say where an epoch ended."""
    best = " (best so far)" if event.best else ""
    return (
        f"epoch {event.epoch} of {event.epochs}: training loss {event.train_loss:.4f}, "
        f"validation loss {event.validation_loss:.4f}{best}"
    )


def finished_line(event: ev.RunFinished) -> str:
    """Say how it ended, in one line."""
    if event.reason == "time":
        return "Finished, the time is up"
    why = {
        "patience": "Finished early, there was no improvement any more:",
        "stop": "Stopped, the state is saved:",
        "interrupt": "Interrupted, the last saved state can be resumed:",
    }.get(event.reason, "Finished:")
    return f"{why} {event.epochs_done} of {text.count(event.epochs_planned, 'epoch')}"


def score_lines(summary: dict[str, Any]) -> list[str]:
    """Say what the test images came to, from ``summary.json``."""
    test = summary.get("test") or {}
    if "psnr" in test and "psnr_input" in test:
        gain = test["psnr"] - test["psnr_input"]
        return [
            f"Test images: {test['psnr']:.2f} dB restored, {test['psnr_input']:.2f} dB worsened "
            f"(PSNR, {gain:+.2f} dB)"
        ]
    if "hidden_mse" in test:
        parts = [f"Test images: error in hidden parts {test['hidden_mse']:.3f}"]
        if "hidden_mse_mean" in test:
            parts.append(f"filled with the mean {test['hidden_mse_mean']:.3f}")
        if "hidden_mse_inpaint" in test:
            parts.append(f"filled by smooth interpolation {test['hidden_mse_inpaint']:.3f}")
        return [", ".join(parts) + " (squared, lower is better)"]
    return []
