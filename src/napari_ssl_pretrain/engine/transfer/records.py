"""What a transfer study found, as plain records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Score:
    """The scores of one test unit: a whole image, or a block of one where there are few."""

    arm: str
    n_labels: int
    seed: int
    image: str
    unit: str
    iou: float
    dice: float
    boundary_f: float


@dataclass(frozen=True)
class CurvePoint:
    """The score on the validation part after some steps."""

    arm: str
    n_labels: int
    seed: int
    step: int
    steps: int
    iou: float


@dataclass(frozen=True)
class Picture:
    """One test image side by side, uint8 planes by name.

    ``image`` is ``y x`` (gray) or ``y x 3``; ``truth`` and the arms' names hold class numbers.
    """

    kind: Literal["median", "worst"]
    n_labels: int
    image: str
    gain: float
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class TransferResult:
    """Everything a report is made from.

    Attributes
    ----------
    config
        What was asked, as plain types.
    checkpoint_card
        ``task``, ``backbone``, ``step`` and ``parameters`` of what was pretrained.
    learning_rates
        Peak rate of each arm, as the sweep chose it.
    sweep
        One row a short training of the sweep: ``arm``, ``rate``, ``iou``.
    steps
        Length of each fine-tuning.
    planned
        How many fine-tunings the study consists of; 0 where that is not known.
    stopped
        Whether the user ended the study before all was compared.
    """

    config: dict[str, Any]
    checkpoint_card: dict[str, Any]
    scheme_note: str
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    learning_rates: dict[str, float]
    sweep: tuple[dict[str, Any], ...]
    steps: int
    seconds: float
    scores: tuple[Score, ...]
    curve: tuple[CurvePoint, ...]
    pictures: tuple[Picture, ...]
    planned: int = 0
    stopped: bool = False

    @property
    def done(self) -> int:
        """How many fine-tunings were scored."""
        return len({(s.arm, s.n_labels, s.seed) for s in self.scores})
