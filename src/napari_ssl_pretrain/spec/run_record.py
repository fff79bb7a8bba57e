"""Runs for an overview: what the list of the command line and that of the dock both show.

Reading never writes, never raises for what a folder holds, and reads each time only what is new.
"""

from __future__ import annotations

import json
import math
import socket
import time
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain.errors import UserError
from napari_ssl_pretrain.spec.curve import Curve
from napari_ssl_pretrain.spec.event_log import EventLog, read_plain
from napari_ssl_pretrain.spec.heartbeat import QUIET_SECONDS, Pulse
from napari_ssl_pretrain.spec.run_dir import RunDir
from napari_ssl_pretrain.spec.status import Life, RunStatus, life_of
from napari_ssl_pretrain.spec.yaml_io import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_ssl_pretrain.spec import events as ev

Points = tuple[tuple[float, ...], tuple[float, ...]]
NO_POINTS: Points = ((), ())
CURVE_POINTS = 300
LARGEST_SUMMARY = 1 << 22
LONGEST_CONFIG = 1 << 18
LONGEST_TEXT = 500
LONGEST_END = 32
YIELD_SECONDS = 0.25
NO_NUMBER = 1e29
ENDED_EARLY = frozenset({"stopped", "failed", "died", "silent"})
KINDS = (
    "process_started",
    "data_checked",
    "progress",
    "run_started",
    "steps_planned",
    "step_finished",
    "epoch_finished",
    "run_finished",
)


@dataclass(frozen=True)
class RunRecord:
    """One run as a list shows it.

    Attributes
    ----------
    run, status
        The run and where it stands by its own word.
    alive
        Whether its process lives, as far as this machine can know.
    silence
        Seconds without a sign of life from another machine; None while there are some.
    data, images
        The training images as its configuration names them, and how many were found.
    scores
        Mean scores of the test images.
    train, validation
        Curves of the loss: steps and values.
    problem
        What is wrong with its files, empty where nothing is.
    saved
        Whether there is a state to resume from.
    """

    run: RunDir
    status: RunStatus = field(default_factory=RunStatus)
    alive: bool = True
    silence: float | None = None
    data: tuple[str, ...] = ()
    images: int | None = None
    scores: dict[str, float] = field(default_factory=dict)
    train: Points = NO_POINTS
    validation: Points = NO_POINTS
    problem: str = ""
    saved: bool = False

    @property
    def state(self) -> str:
        """State of the run.

        ``died`` without a last word, ``silent`` without a sign of life from another machine,
        ``unreadable`` when it says nothing.
        """
        if self.status.last_seen is None:
            return "unreadable"
        if self.status.ended or (self.alive and self.silence is None):
            return self.status.state
        return "silent" if self.alive else "died"

    @property
    def goes_on(self) -> bool:
        """Whether the run may be under way, here or on another machine."""
        known = self.status.last_seen is not None
        return known and not self.status.ended and self.alive and self.silence is None

    @property
    def resumable(self) -> bool:
        """Whether the run ended early and left a state."""
        return self.state in ENDED_EARLY and self.saved

    @property
    def share(self) -> float | None:
        """Part of the steps that is done."""
        return self.status.step / self.status.steps if self.status.steps > 0 else None

    @property
    def best(self) -> float | None:
        """Best validation loss, if that is a number."""
        return known(self.status.best_validation_loss)

    @property
    def curve(self) -> Points:
        """Loss of the validation where there is a curve of it, else of the training."""
        return self.validation if len(self.validation[0]) > 1 else self.train

    @property
    def images_of(self) -> str:
        """The training images in short: the end of the path, and how many they are."""
        if not self.data:
            return ""
        first = PurePath(self.data[0].replace("\\", "/").rstrip("/"))
        parts = [p for p in first.parts if p != "/"]
        ends = ("/".join(parts[-count:]) for count in (3, 2))
        short = next((end for end in ends if 0 < len(end) <= LONGEST_END), "/".join(parts[-1:]))
        more = f" +{len(self.data) - 1}" if len(self.data) > 1 else ""
        return shortened(f"{short}{more}" + (f" ({self.images})" if self.images else ""), 120)

    @property
    def score(self) -> str:
        """The score of the test images as a person reads it."""
        psnr, before = self.scores.get("psnr"), self.scores.get("psnr_input")
        if psnr is not None:
            return f"PSNR {psnr:.2f}" + ("" if before is None else f" ({psnr - before:+.2f})")
        hidden = self.scores.get("hidden_mse")
        return "" if hidden is None else f"hidden {hidden:.3f}"

    @property
    def note(self) -> str:
        """What is to be known of it: what is wrong, or why it ended early."""
        if self.problem:
            return shortened(self.problem)
        if self.state == "died":
            said = f"Process {self.status.pid} ended without a last word."
            return f"{said} Resume goes on from the saved state." if self.saved else said
        if self.state == "silent":
            minutes = f"{(self.silence or 0) / 60:.0f} minutes"
            said = f"No sign of life from {shortened(self.status.host, 60)} for {minutes}"
            return f"{said}: it seems to be gone. Resume makes sure, then goes on."
        return shortened(self.status.message) if self.state in ENDED_EARLY else ""


class RunReader:
    """Reads one run again and again.

    Parameters
    ----------
    run
        The run.
    patience
        Seconds without a sign of life after which a run of another machine counts as silent.
    """

    def __init__(self, run: RunDir, patience: float = QUIET_SECONDS) -> None:
        self.run = run
        self._pulse = Pulse(run.heartbeat, patience)
        self._log = EventLog(run.events, KINDS)
        self._record = RunRecord(run)
        self._train, self._validation = Curve(CURVE_POINTS), Curve(CURVE_POINTS)

    def read(self) -> RunRecord:
        """Return the run as it is now."""
        try:
            anew, events = self._log.news()
        except OSError as error:
            self._forget()
            problem = f"events.jsonl cannot be read: {error.strerror or error}"
            self._record = RunRecord(self.run, problem=problem)
            return self._record
        if anew:
            self._forget()
        try:
            self._take(events)
            self._record = self._judged(read_on=bool(events) or anew)
        except (ValueError, OverflowError, TypeError, RecursionError) as error:
            problem = f"events.jsonl holds what no run says: {error}"
            self._record = replace(self._record, problem=shortened(problem))
        return self._record

    @property
    def doubtful(self) -> bool:
        """Whether only watching tells if a run of another machine goes on: its sign is old."""
        elsewhere = self._record.status.host != socket.gethostname()
        return self._record.goes_on and elsewhere and self._pulse.age > QUIET_SECONDS

    def _forget(self) -> None:
        self._record = RunRecord(self.run)
        self._train.clear()
        self._validation.clear()

    def _take(self, events: list[ev.AnyEvent]) -> None:
        """Take in what is new."""
        status = self._record.status
        for event in events:
            if event.kind == "process_started":
                if not event.resumed:
                    self._forget()
                self._record = replace(self._record, data=training_images(event.config))
            elif event.kind == "data_checked":
                self._record = replace(self._record, images=event.train)
            elif event.kind == "step_finished" and known(event.loss) is not None:
                self._train.add(event.step, event.loss)
            elif event.kind == "epoch_finished" and known(event.validation_loss) is not None:
                self._validation.add(event.step, event.validation_loss)
            status = status.after(event)
        if events:
            self._record = replace(
                self._record,
                status=status,
                train=(tuple(self._train.x), tuple(self._train.y)),
                validation=(tuple(self._validation.x), tuple(self._validation.y)),
            )

    def _judged(self, *, read_on: bool) -> RunRecord:
        """Return the record with what other files and the machine say."""
        record = self._record
        if record.status.last_seen is None:
            said = "is empty" if not self._log.lines else "holds no event of a run"
            return replace(record, problem=f"events.jsonl {said}")
        if record.status.ended and not read_on:
            return replace(record, saved=self._is_saved()) if record.resumable else record
        life = Life(lives=True) if record.status.ended else life_of(record.status, self._pulse)
        scores: dict[str, float] = {}
        best, problem = None, ""
        if record.status.ended:
            scores, best, problem = self._summary(record.status.state)
        if self._log.cut:
            problem = problem or "events.jsonl is so large that its middle was left out"
            seen = known(record.status.best_validation_loss)
            lowest = min((b for b in (best, seen) if b is not None), default=None)
            status = replace(record.status, best_validation_loss=lowest)
            record = replace(record, status=status)
        return replace(
            record,
            alive=life.lives,
            silence=life.silence if life.elsewhere else None,
            scores=scores,
            problem=problem,
            saved=self._is_saved(),
        )

    def _is_saved(self) -> bool:
        try:
            return self.run.checkpoint("last").is_file()
        except OSError:
            return False

    def _summary(self, state: str) -> tuple[dict[str, float], float | None, str]:
        """Return test scores, best validation loss, and what is wrong with the summary."""
        try:
            found: Any = json.loads(read_plain(self.run.summary, LARGEST_SUMMARY))
        except FileNotFoundError:
            return {}, None, "summary.json is missing" if state == "finished" else ""
        except (OSError, ValueError, RecursionError) as error:
            why = getattr(error, "strerror", None) or "it is no JSON"
            return {}, None, f"summary.json cannot be read: {why}"
        if not isinstance(found, dict):
            return {}, None, "summary.json holds no keys and values"
        best, test = known(found.get("best_validation_loss")), found.get("test", {})
        if not isinstance(test, dict):
            return {}, best, "summary.json: test must hold scores by name"
        scores = {str(name): known(value) for name, value in test.items()}
        wrong = [name for name, value in test.items() if not _is_score(value)]
        problem = f"summary.json: test.{wrong[0]} is no number" if wrong else ""
        return {n: v for n, v in scores.items() if v is not None}, best, problem


class RunScanner:
    """Reads the runs under a folder again and again; belongs to one worker at a time.

    Parameters
    ----------
    root
        The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._readers: dict[RunDir, RunReader] = {}

    def scan(self) -> Iterator[tuple[list[RunRecord], int]]:
        """Yield the runs read so far and how many there are, some times a second; last, all."""
        runs = RunDir.find(self.root)
        self._readers = {run: self._readers.get(run) or RunReader(run) for run in runs}
        records: list[RunRecord] = []
        said = time.monotonic()
        for run in reversed(runs):  # the newest are looked for first
            records.append(self._readers[run].read())
            if time.monotonic() - said > YIELD_SECONDS:
                yield list(records), len(runs)
                said = time.monotonic()
        yield records, len(runs)


def known(value: object) -> float | None:
    """Return a number that exists: neither NaN, nor infinite, nor a stand-in for these."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and abs(number) < NO_NUMBER else None


def _is_score(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def training_images(config: str) -> tuple[str, ...]:
    """Return the entries of ``data.train`` of a configuration, none where it has none."""
    try:
        found: Any = parse_yaml(config[:LONGEST_CONFIG], "events.jsonl").get("data")
    except UserError:
        return ()
    entries = found.get("train") if isinstance(found, dict) else None
    entries = [entries] if isinstance(entries, str) else entries
    return tuple(str(e) for e in entries) if isinstance(entries, list) else ()


def shortened(text: str, most: int = LONGEST_TEXT) -> str:
    """Return one line of text, cut where it is too long."""
    line = " ".join(text[: 2 * most].split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def moment(seconds: float | None, form: str = "%Y-%m-%d %H:%M") -> str:
    """Return when something was by this machine's clock; nothing for what is no time."""
    try:
        return "" if seconds is None else time.strftime(form, time.localtime(seconds))
    except (OverflowError, OSError, ValueError):
        return ""
