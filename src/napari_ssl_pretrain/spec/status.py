"""Where a run stands, computed from its events: the one truth about progress."""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import psutil

from napari_ssl_pretrain.spec import events as ev

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_ssl_pretrain.spec.heartbeat import Pulse
    from napari_ssl_pretrain.spec.run_dir import RunDir

RunState = Literal["starting", "preparing", "training", "testing", "finished", "stopped", "failed"]

LONGEST_MESSAGE = 2000


@dataclass(frozen=True)
class RunStatus:
    """A snapshot; :meth:`after` gives the next one."""

    state: RunState = "starting"
    message: str = ""
    pid: int | None = None
    host: str = ""
    task: str = ""
    step: int = 0
    steps: int = 0
    epoch: int = 0
    epochs: int = 0
    loss: float | None = None
    best_validation_loss: float | None = None
    seconds_left: float | None = None
    patches_per_second: float | None = None
    started: float | None = None
    last_seen: float | None = None

    @property
    def ended(self) -> bool:
        """Whether the last word was said."""
        return self.state in {"finished", "stopped", "failed"}

    def after(self, event: ev.AnyEvent) -> RunStatus:
        """Return the status after one more event."""
        handler = getattr(self, f"_after_{event.kind}", None)
        status: RunStatus = handler(event) if handler else self
        message = status.message[:LONGEST_MESSAGE]
        return replace(status, message=message, last_seen=event.time)

    def _after_process_started(self, event: ev.ProcessStarted) -> RunStatus:
        kept = self if event.resumed else RunStatus()
        return replace(
            kept,
            state="starting",
            message="Loading…",
            pid=event.pid,
            host=event.host,
            started=event.time,
            seconds_left=None,
        )

    def _after_data_checked(self, event: ev.DataChecked) -> RunStatus:
        return replace(self, state="preparing", message=f"{event.train} training images found")

    def _after_progress(self, event: ev.Progress) -> RunStatus:
        names = {
            "scan": "Reading headers",
            "pixels": "Reading pixels",
            "prepare": "Preparing",
            "validate": "Validating",
            "test": "Testing",
            "predict": "Predicting",
        }
        state: RunState = "testing" if event.stage == "test" else self.state
        stage = names.get(event.stage, event.stage.capitalize())
        text = event.message or f"{stage} {event.done} of {event.total}"
        return replace(self, state=state, message=text, seconds_left=event.seconds_left)

    def _after_run_started(self, event: ev.RunStarted) -> RunStatus:
        return replace(
            self,
            state="training",
            message="Training",
            task=event.task,
            step=event.step,
            steps=event.steps,
            epochs=event.epochs,
        )

    def _after_steps_planned(self, event: ev.StepsPlanned) -> RunStatus:
        return replace(self, steps=event.steps, epochs=event.epochs)

    def _after_step_finished(self, event: ev.StepFinished) -> RunStatus:
        return replace(
            self,
            state="training",
            message="Training",
            step=event.step,
            steps=event.steps,
            epoch=event.epoch,
            loss=event.loss,
            seconds_left=event.seconds_left,
            patches_per_second=event.patches_per_second,
        )

    def _after_epoch_finished(self, event: ev.EpochFinished) -> RunStatus:
        best = self.best_validation_loss
        best = event.validation_loss if best is None else min(best, event.validation_loss)
        return replace(
            self, epoch=event.epoch, epochs=event.epochs, step=event.step, best_validation_loss=best
        )

    def _after_run_finished(self, event: ev.RunFinished) -> RunStatus:
        return replace(self, state=event.state, message=event.message, seconds_left=None)


def read_events(run: RunDir) -> list[ev.AnyEvent]:
    """Return every whole event of a run; an empty list when it has not begun."""
    try:
        text = run.events.read_text(encoding="utf-8")
    except OSError:
        return []
    return [event for line in text.splitlines() if (event := ev.parse_event(line))]


def status_of(events: Iterable[ev.AnyEvent]) -> RunStatus:
    """Return the status after all these events."""
    status = RunStatus()
    for event in events:
        status = status.after(event)
    return status


def process_lives(status: RunStatus) -> bool:
    """Whether the process that writes the events runs; true where this machine cannot know."""
    if status.pid is None or status.host != socket.gethostname():
        return True
    try:
        process = psutil.Process(status.pid)
        born_later = status.started is not None and process.create_time() > status.started + 5
        # a clock that was set forward makes every process look younger than what it said
        born_later = born_later and not any("napari" in word for word in process.cmdline())
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE and not born_later
    except (psutil.Error, ValueError, OverflowError):  # the latter: a number that is none of ours
        return False


@dataclass(frozen=True)
class Life:
    """What can be known from here of the process that writes a job.

    Attributes
    ----------
    lives
        Whether it runs; true where that cannot be known.
    silence
        Seconds without a sign of life; None while there are some, or where none are given.
    elsewhere
        Whether only signs of life tell of it: another machine writes, or did before this one was
        started anew.
    """

    lives: bool
    silence: float | None = None
    elsewhere: bool = False


def life_of(status: RunStatus, pulse: Pulse) -> Life:
    """Find out whether a job's process lives, by the system here and by signs of life elsewhere."""
    silence, owner = pulse.silence(), pulse.owner
    if owner is None or (owner.pid, owner.host) != (status.pid, status.host):
        return Life(process_lives(status))
    lives = owner.lives()
    if lives is not None:
        return Life(lives, silence if lives else None)
    if status.host == socket.gethostname():
        return Life(process_lives(status), elsewhere=True)
    return Life(lives=True, silence=silence, elsewhere=True)
