"""The card of an exported model: all that is needed to use it without this package."""

from __future__ import annotations

import json
import re
from pathlib import PurePath
from typing import Any, Literal

from napari_ssl_pretrain.pretext.base import Frozen

CARD_VERSION = 1


class Weights(Frozen):
    """The file of the weights.

    Attributes
    ----------
    file, format
        Its name, and how it is written.
    parameters, tensors
        Numbers that were learnt, and names in the file; a tensor may have several names.
    names
        Whose names the tensors have.
    load
        A line of Python that loads them into the network.
    """

    file: str
    format: str
    parameters: int
    tensors: int
    names: str
    load: str


class Architecture(Frozen):
    """What rebuilds the network.

    Attributes
    ----------
    name
        Its name in this package.
    library, library_version, python_class
        The public library, its version when the model was exported, and the class in it; all
        None where there is none.
    arguments
        Keyword arguments of the class; a class among them by its full name as text.
    encoder, head
        Beginnings of the names of the weights that make the encoder, and the last layer.
    note
        What else there is to know.
    """

    name: str
    library: str | None
    library_version: str | None
    python_class: str | None
    arguments: dict[str, Any]
    encoder: tuple[str, ...]
    head: tuple[str, ...]
    note: str


class Input(Frozen):
    """What the network takes: float32, normalised.

    Attributes
    ----------
    axes
        Order of the axes, batch and channels first.
    channels
        What each channel holds, in order.
    patch_size
        Pixels a side that it was trained on; other sizes work too.
    multiple_of
        Numbers that the sides must be multiples of.
    voxel_size
        Pixel size of the training images, as their files say; None where unknown.
    image_axes
        Axes of the training images as they were stored.
    """

    axes: str
    channels: tuple[str, ...]
    patch_size: tuple[int, ...]
    multiple_of: tuple[int, ...]
    voxel_size: tuple[float, ...] | None
    image_axes: str


class Normalization(Frozen):
    """How pixels become the network's numbers; ``mean`` and ``std`` only where they are fixed."""

    name: str
    formula: str
    offset: str
    scale: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


class Output(Frozen):
    """What the network returns, in normalised units."""

    axes: str
    channels: int
    meaning: str
    formula: str


class Graph(Frozen):
    """What the graph of an ONNX file takes and returns.

    Attributes
    ----------
    inputs, outputs
        Names, in order, and what each holds.
    batch, sides
        What is free, and what not.
    """

    inputs: dict[str, str]
    outputs: dict[str, str]
    batch: str
    sides: str


class ModelCard(Frozen):
    """The whole card.

    Attributes
    ----------
    made_by, card_version
        This package, and the version of this description.
    name, task
        Name of the run, and its pretext task.
    weights, architecture, input, normalization, output
        See their classes.
    graph
        What the file's graph takes and returns, where it holds one.
    licence
        For whoever shares the model to fill in.
    prefix
        What stands in front of the weights' names in this package.
    checkpoint
        What the checkpoint held beside the weights: settings, step, scores, versions. Of paths
        only the last part is kept.
    """

    made_by: Literal["napari-ssl-pretrain"] = "napari-ssl-pretrain"
    card_version: int = CARD_VERSION
    name: str
    task: str
    weights: Weights
    architecture: Architecture
    input: Input
    normalization: Normalization
    output: Output
    graph: Graph | None = None
    licence: str | None = None
    prefix: str
    checkpoint: dict[str, Any]

    def to_json(self) -> str:
        """Return the card as JSON text."""
        text = json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False)
        # lists of numbers on one line each
        return re.sub(r"\[\n[^\[\]{}\"]*\]", lambda found: _on_one_line(found[0]), text) + "\n"


def without_folders(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration of which no path says more than its last part.

    Parameters
    ----------
    config
        A configuration as nested dictionaries; it stays as it is.
    """
    places = {
        "data": ("train", "validation", "test"),
        "pretext": ("ssl_source_dir",),
        "training": ("load_checkpoint",),
    }
    short = config | {"result_dir": _last_part(config.get("result_dir"))}
    for group, keys in places.items():
        inside = dict(config.get(group) or {})
        short[group] = inside | {key: _last_part(inside[key]) for key in keys if key in inside}
    return short


def _on_one_line(text: str) -> str:
    return re.sub(r"\n\s*", " ", text).replace("[ ", "[").replace(" ]", "]")


def _last_part(path: Any) -> Any:
    if isinstance(path, list | tuple):
        return [_last_part(one) for one in path]
    return PurePath(path.replace("\\", "/")).name or path if isinstance(path, str) else path
