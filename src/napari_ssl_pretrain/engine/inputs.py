"""What the commands that use a trained network share: its images, and where results go."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ssl_pretrain.data.images import first_line
from napari_ssl_pretrain.data.parts import clear_parts
from napari_ssl_pretrain.data.survey import survey
from napari_ssl_pretrain.errors import CheckpointError, ConfigError, DataError
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.resolve import ResolvedConfig

LARGEST_PATCH = 1 << 30
"""Numbers in the largest patch; a network of its size would need a hundred times as many."""

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_ssl_pretrain.data.images import Image


def config_of(state: dict[str, Any], checkpoint: Path) -> ResolvedConfig:
    """Return the configuration that a checkpoint was trained with.

    Raises
    ------
    CheckpointError
        It cannot be read.
    """
    try:
        config = ResolvedConfig(**state["config"])
        _check_numbers(state, config)
    except ConfigError as error:
        raise CheckpointError(
            checkpoint,
            f"its configuration cannot be read ({error.subject} {error.rule})",
            remedy="Use a checkpoint of this version.",
        ) from None
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise CheckpointError(
            checkpoint, f"is damaged ({first_line(error)})", remedy="Use another checkpoint."
        ) from None
    return config


def _check_numbers(state: dict[str, Any], config: ResolvedConfig) -> None:
    """Refuse numbers that are none, or of which no memory could be had.

    Raises
    ------
    ValueError
        There are such.
    """
    custom_statistics(state)
    if not all(float(size) > 0 for size in state["voxel_size"] or ()):
        raise ValueError("voxel_size must be positive")
    patch = config.data.patch_size
    if math.prod(patch) * int(state["in_channels"]) > LARGEST_PATCH:
        raise ValueError(f"patches of {' x '.join(map(str, patch))} are too large")


def custom_statistics(state: dict[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return mean and standard deviation of the training set, for ``normalization: custom``."""
    found = state.get("normalization_statistics")
    if not found:
        return None
    return np.asarray(found["mean"], np.float64), np.asarray(found["std"], np.float64)


def open_inputs(
    paths: list[str],
    config: ResolvedConfig,
    state: dict[str, Any],
    checkpoint: Path,
    say: Callable[[ev.AnyEvent], None],
) -> Sequence[Image]:
    """Find and open the images of ``--input`` as those of the training were.

    Parameters
    ----------
    paths
        Folders, files or globs.
    config, state
        The configuration of the checkpoint, and all that it holds.
    checkpoint
        Its path.
    say
        Told of each image that is skipped.

    Raises
    ------
    CheckpointError
        The images do not have the channels that the network was trained on.
    ConfigError
        They are flat where volumes are wanted, or lack a channel.
    DataError
        There is no image.
    """
    asked = PretrainConfig(
        data={
            "train": paths,
            "ndim": config.data.ndim,
            "channels": config.data.channels,
            "axes": config.data.axes,
        },
        pretext={"task": config.pretext.task},
    )
    try:
        found = survey(asked.data)
    except (ConfigError, DataError) as error:
        if error.subject == "data.train":
            error = type(error)("--input", error.rule, value=error.value, remedy=error.remedy)
        if error.subject == "data.ndim":
            raise CheckpointError(
                checkpoint,
                f"was trained on volumes and {error.rule}",
                remedy="Use images like those of the training.",
            ) from None
        raise error from None
    skipped = [f"{one.path} is skipped: {one.reason}" for one in found.skipped]
    for message in (*skipped, *(f"{note}." for note in found.notes)):
        say(ev.Warned(message=message))
    if found.in_channels != state["in_channels"]:
        raise CheckpointError(
            checkpoint,
            f"was trained on {state['in_channels']} channels, the images have {found.in_channels}",
            remedy="Use images like those of the training.",
        )
    return found.train


def output_folder(output: Path, images: Sequence[Image]) -> Path:
    """Make the folder of ``--output``, which is never that of the images.

    What a killed process was writing there goes.

    Raises
    ------
    ConfigError
        It is, or it cannot be made.
    """
    output = output.expanduser().absolute()
    place = output.resolve()
    if any(image.info.path.resolve().parent == place for image in images):
        raise ConfigError(
            "--output", "is the folder of the images", value=output, remedy="Choose another folder."
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            "--output",
            f"cannot be made ({error.strerror})",
            value=output,
            remedy="Choose another folder.",
        ) from None
    clear_parts(output)
    return output
