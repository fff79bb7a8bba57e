"""What is asked of a transfer study, checked before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain.data.labels import (
    find_scheme,
    hold_out,
    open_labelled,
    refuse_shared,
    usable_counts,
)
from napari_ssl_pretrain.engine import checkpoint
from napari_ssl_pretrain.engine.inputs import config_of
from napari_ssl_pretrain.engine.load import spec_from
from napari_ssl_pretrain.errors import CheckpointError

if TYPE_CHECKING:
    from napari_ssl_pretrain.data.labels import LabelledSet, LabelScheme
    from napari_ssl_pretrain.spec.resolve import ResolvedConfig
    from napari_ssl_pretrain.spec.transfer import TransferConfig


@dataclass(frozen=True)
class Study:
    """What is asked, checked and read, before anything is trained."""

    config: TransferConfig
    state: dict[str, Any]
    pretraining: ResolvedConfig
    learn: LabelledSet
    test: LabelledSet
    scheme: LabelScheme
    n_labels: tuple[int, ...]
    notes: tuple[str, ...]


def check(config: TransferConfig) -> Study:
    """Check everything that can be wrong before training.

    Raises
    ------
    CheckpointError
        The checkpoint cannot be used, or not with these images.
    ConfigError, DataError
        What the user can mend.
    """
    path = Path(config.checkpoint)
    state = checkpoint.load(path)
    spec_from(state, path)
    pretraining = config_of(state, path)
    data = pretraining.data

    def opened(images: str, labels: str, field: tuple[str, str]) -> LabelledSet:
        return open_labelled(
            images,
            labels,
            field=field,
            axes=data.axes if config.axes == "auto" else config.axes,
            strict=config.axes != "auto",
            ndim=data.ndim,
            channels=data.channels,
        )

    learn = opened(config.images, config.labels, ("--images", "--labels"))
    notes: list[str] = []
    if config.test_images and config.test_labels:
        names = ("--test_images", "--test_labels")
        test = opened(config.test_images, config.test_labels, names)
        refuse_shared(learn, test)
        sets = [learn, test]
    else:
        sets = [learn]
        learn, test, held = hold_out(learn)
        notes.append(f"{held[0].upper()}{held[1:]}.")
    for found in sets:
        notes += [*found.skipped, *found.notes]
        if found.in_channels != state["in_channels"]:
            raise CheckpointError(
                path,
                f"was trained on {state['in_channels']} channels, "
                f"{found.field[0]} have {found.in_channels}",
                remedy="Use a model pretrained on images like these, or say by --axes how they "
                "are stored.",
            )
    scheme = find_scheme(sets)
    counts, lowered = usable_counts(config.n_labels, len(learn.images))
    if lowered:
        notes.append(f"{lowered[0].upper()}{lowered[1:]}.")
    return Study(config, state, pretraining, learn, test, scheme, counts, tuple(notes))
