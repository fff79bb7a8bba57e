"""What a transfer study is: labelled images, how few of them, how often, how long."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from napari_ssl_pretrain.pretext.base import Frozen
from napari_ssl_pretrain.spec.config import known_axes
from napari_ssl_pretrain.spec.config_errors import first_error

Arm = Literal["scratch", "pretrained", "frozen", "shuffled"]
ARMS: tuple[Arm, ...] = ("scratch", "pretrained", "frozen", "shuffled")

CONTROL: Arm = "shuffled"
"""The arm that tells knowledge from the mere size of the weights; run where a gain is seen."""

RATES = (5e-4, 1.5e-3, 4.5e-3)
"""Peak learning rates that the sweep offers to scratch and to the pretrained network alike."""

SWEPT_ARMS: tuple[Arm, ...] = ("scratch", "pretrained")
"""Arms that the sweep chooses a rate for; the others take the pretrained network's."""

SWEEP_SHARE = 0.3
"""Length of a training of the sweep over that of a fine-tuning."""


def _numbers(value: Any) -> Any:
    """Take ``2,5,10``, one number, or a list."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _words(value: Any) -> Any:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    return tuple(value) if isinstance(value, list) else value


LabelCounts = Annotated[
    tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_numbers), Field(min_length=1)
]
Arms = Annotated[tuple[Arm, ...], BeforeValidator(_words), Field(min_length=1)]


class TransferConfig(Frozen):
    """Does pretraining help? Which checkpoint, on which labelled images, how it is asked.

    Attributes
    ----------
    n_labels
        Numbers of labelled images to train on; the subsets are nested.
    seeds
        Repetitions, each with its own subset, start and order of the data.
    minutes
        Length of each fine-tuning; turned into steps once, the same for every arm.
    axes
        Axes as stored in the images. ``auto`` takes those that the pretraining was given, and
        the file's own where these do not fit.
    arms
        What is compared: ``scratch``, ``pretrained`` (all of it is tuned), ``frozen`` (its
        encoder stays as it is) and ``shuffled`` (the control: the pretrained weights, shuffled
        within each tensor; run only where ``pretrained`` does better than ``scratch``).
    """

    checkpoint: str = Field(description="The pretrained model: a .pth file of a run.")
    images: str = Field(description="Folder of labelled images to fine-tune on.")
    labels: str = Field(description="Folder of their labels, files of the same names.")
    test_images: str | None = Field(
        None, description="Folder of held-out images; empty keeps some of the others for it."
    )
    test_labels: str | None = Field(None, description="Folder of the held-out images' labels.")
    n_labels: LabelCounts = Field(
        (2, 5, 10), description="Numbers of labelled images to train on, such as 2, 5, 10."
    )
    seeds: int = Field(3, ge=1, le=20, description="Repetitions with other images and starts.")
    minutes: float = Field(
        3.0, gt=0, le=100_000, allow_inf_nan=False, description="Minutes of each fine-tuning."
    )
    axes: str = Field(
        "auto", description="Axes as stored in the images, such as YXC; auto takes the model's."
    )
    output: str = Field("transfer", description="Folder of the report.")
    arms: Arms = Field(ARMS, description="What is compared.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1 or mps.")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto, fp32 or bf16.")
    seed: int = Field(0, ge=0, description="Seed of the first repetition.")

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise first_error(error, type(self)) from None

    @field_validator("n_labels")
    @classmethod
    def _ascending(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(value)))

    @field_validator("axes")
    @classmethod
    def _known_axes(cls, value: str) -> str:
        return known_axes(value)

    @field_validator("arms")
    @classmethod
    def _both(cls, value: tuple[Arm, ...]) -> tuple[Arm, ...]:
        if not {"scratch", "pretrained"} <= set(value):
            raise ValueError("must hold scratch and pretrained, which are compared")
        return tuple(arm for arm in ARMS if arm in value)

    @property
    def fine_tunings(self) -> int:
        """Number of fine-tunings that are compared, at most: the control may not be needed."""
        return self.seeds * len(self.n_labels) * len(self.arms)

    @property
    def sweep_minutes(self) -> float:
        """Minutes that the choice of the learning rates takes, about."""
        return len(SWEPT_ARMS) * len(RATES) * SWEEP_SHARE * self.minutes

    @property
    def total_minutes(self) -> float:
        """Minutes of training, at most about; reading and scoring the images come on top."""
        return self.fine_tunings * self.minutes + self.sweep_minutes

    @model_validator(mode="after")
    def _test_pairs(self) -> Self:
        if bool(self.test_images) != bool(self.test_labels):
            raise ValueError("test_images and test_labels must be given together")
        return self
