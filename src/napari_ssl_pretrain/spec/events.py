"""What a run says while it works: one JSON object a line in ``events.jsonl``.

The first is always :class:`ProcessStarted`, the last always :class:`RunFinished`.
"""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from napari_ssl_pretrain.pretext.base import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

LARGEST_COUNT = 1 << 53
FinishState = Literal["finished", "stopped", "failed"]
FinishReason = Literal["done", "patience", "time", "stop", "interrupt", "error", "killed"]
ImageKind = Literal[
    "original",
    "masked",
    "reconstruction",
    "reconstruction_and_visible",
    "hidden",
    "worsened",
    "restored",
    "aug",
    "features",
    "similarity",
]


class Event(Frozen):
    """Base of all events; ``time`` is in seconds since 1970."""

    time: float = Field(default_factory=time.time)

    def to_line(self) -> str:
        """Return the JSON line, newline included."""
        return json.dumps(self.model_dump(mode="json"), allow_nan=False) + "\n"


class ProcessStarted(Event):
    """The process lives; sent before the slow imports.

    ``folder`` is where it was started: relative paths in ``config`` begin there.
    """

    kind: Literal["process_started"] = "process_started"
    pid: int
    host: str
    config: str
    resumed: bool = False
    folder: str = ""


class DataChecked(Event):
    """The images were looked at; ``skipped`` holds one sentence a file."""

    kind: Literal["data_checked"] = "data_checked"
    train: int
    validation: int
    test: int
    ndim: int
    axes: str
    channels: int
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Progress(Event):
    """Long work other than training: ``done`` of ``total``."""

    kind: Literal["progress"] = "progress"
    stage: Literal[
        "scan", "pixels", "prepare", "validate", "test", "predict", "features", "transfer"
    ]
    done: int
    total: int
    message: str = ""
    seconds_left: float | None = None


class RunStarted(Event):
    """Training begins; ``steps`` may change once ``max_minutes`` has been turned into steps."""

    kind: Literal["run_started"] = "run_started"
    task: Literal["crappify", "masking"]
    backbone: str
    parameters: int
    device: str
    precision: str
    patch_size: tuple[int, ...]
    batch_size: int
    epochs: int
    steps_per_epoch: int
    steps: int
    step: int = 0


class StepsPlanned(Event):
    """``max_minutes`` became a number of steps, kept by a resume."""

    kind: Literal["steps_planned"] = "steps_planned"
    steps: int
    epochs: int
    seconds_a_step: float


class StepFinished(Event):
    """At most five a second."""

    kind: Literal["step_finished"] = "step_finished"
    step: int
    steps: int
    epoch: int
    loss: float
    learning_rate: float
    patches_per_second: float
    seconds_left: float


class EpochFinished(Event):
    """An epoch and its validation are done; ``metrics`` are the validation's, by name."""

    kind: Literal["epoch_finished"] = "epoch_finished"
    epoch: int
    epochs: int
    step: int
    train_loss: float
    validation_loss: float
    metrics: dict[str, float]
    learning_rate: float
    best: bool


class ImageSaved(Event):
    """An image was written; ``source`` is the file it came from."""

    kind: Literal["image_saved"] = "image_saved"
    image_kind: ImageKind
    image: str
    path: str
    source: str
    axes: str
    step: int


class CheckpointSaved(Event):
    """A checkpoint was written whole."""

    kind: Literal["checkpoint_saved"] = "checkpoint_saved"
    which: Literal["best", "last"]
    path: str
    step: int


class FineTuned(Event):
    """One fine-tuning of a transfer study is done; ``iou`` is its mean over the test images."""

    kind: Literal["fine_tuned"] = "fine_tuned"
    arm: str
    n_labels: int
    seed: int
    iou: float


class Warned(Event):
    """Something the user should know; the run goes on."""

    kind: Literal["warned"] = "warned"
    message: str


class RunFinished(Event):
    """The last word."""

    kind: Literal["run_finished"] = "run_finished"
    state: FinishState
    reason: FinishReason
    message: str = ""
    epochs_done: int = 0
    epochs_planned: int = 0


AnyEvent = (
    ProcessStarted
    | DataChecked
    | Progress
    | RunStarted
    | StepsPlanned
    | StepFinished
    | EpochFinished
    | ImageSaved
    | CheckpointSaved
    | FineTuned
    | Warned
    | RunFinished
)
_ADAPTER: TypeAdapter[AnyEvent] = TypeAdapter(Annotated[AnyEvent, Field(discriminator="kind")])


def parse_event(line: str) -> AnyEvent | None:
    """Read one line; None for what is torn, foreign, of a newer version, or no run's numbers."""
    try:
        fields: Any = json.loads(line)
        event = _ADAPTER.validate_python(fields)
    except (ValueError, RecursionError):  # the latter: brackets in brackets without end
        return None
    return event if _is_bounded(vars(event).values()) else None


def _is_bounded(values: Iterable[Any]) -> bool:
    """Whether these numbers can be reckoned with: no event holds one that is not finite."""
    for value in values:
        if isinstance(value, float) and not math.isfinite(value):
            return False
        if isinstance(value, int) and abs(value) > LARGEST_COUNT:
            return False
        inner = value.values() if isinstance(value, dict) else value
        if isinstance(value, dict | tuple) and not _is_bounded(inner):
            return False
    return True
