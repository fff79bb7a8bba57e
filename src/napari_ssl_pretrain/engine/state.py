"""Where a training stands: everything that a resume needs beside the weights."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass
class EpochRow:
    """One epoch in numbers; a row of the training log."""

    epoch: int
    step: int
    train_loss: float
    validation_loss: float
    learning_rate: float
    seconds: float
    patches_per_second: float
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass
class TrainState:
    """Position, plan and history of a training.

    Attributes
    ----------
    step
        Steps done.
    steps
        Steps planned.
    planned
        Whether ``max_minutes`` has been turned into ``steps`` already.
    loss_sum, loss_count
        Loss of the current epoch so far.
    bad_epochs
        Epochs since the best one.
    seconds
        Time spent on training steps, validation not included.
    elapsed
        Time since training began, all included, over all processes that went on with it.
    """

    steps: int
    step: int = 0
    planned: bool = False
    loss_sum: float = 0.0
    loss_count: int = 0
    best_score: float = math.inf
    bad_epochs: int = 0
    skipped_steps: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    elapsed: float = 0.0
    patches: int = 0
    history: list[EpochRow] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`."""
        fields = dict(fields)
        history = [EpochRow(**row) for row in fields.pop("history")]
        return cls(**fields, history=history)

    def epochs(self, steps_per_epoch: int) -> int:
        """Return the number of epochs planned; the last one may be short."""
        return max(1, math.ceil(self.steps / steps_per_epoch))

    @property
    def patches_per_second(self) -> float:
        """Patches a second of training alone."""
        return self.patches / self.seconds if self.seconds > 0 else 0.0
