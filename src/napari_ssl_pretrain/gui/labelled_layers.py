"""Open images with a Labels layer each, as the folders of labelled images that a study reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels as LabelsLayer

from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.errors import ConfigError, UserError
from napari_ssl_pretrain.gui.layer_source import (
    OWN,
    STROKES,
    LayerSource,
    describe,
    file_stem,
    users_layers,
)
from napari_ssl_pretrain.gui.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel

FIELD = "images"
REMEDY = "Add a Labels layer to each labelled image, named after it: “cells” and “cells labels”."


@dataclass(frozen=True)
class Pair:
    """An image, and the labels painted on it.

    Attributes
    ----------
    image, labels
        The layers.
    axes
        A letter for each axis of the image.
    """

    image: LayerSource
    labels: LayerSource
    axes: str

    @property
    def painted(self) -> str:
        """The axes of the image without those of channels."""
        return self.axes.replace("C", "").replace("S", "")

    def fits(self) -> bool:
        """Whether the labels have the image's shape; one plane, or one for each channel, serves."""
        lengths = dict(zip(self.axes, self.image.shape, strict=True))
        stored = [a for a in self.axes if a != "S"]
        return self.labels.shape in {
            tuple(lengths[a] for a in self.painted),
            tuple(lengths[a] for a in stored),
            tuple(1 if a == "C" else lengths[a] for a in stored),
        }

    def named(self) -> bool:
        """Whether the labels' name holds the image's as words of their own."""
        name = re.escape(self.image.name)
        alone = rf"(?<![^\W_]){name}(?![^\W_])"
        return bool(re.search(alone, self.labels.name, re.IGNORECASE))

    def save(self, folder: Path, stem: str) -> None:
        """Write image and labels as TIFFs of one name; labels of all channels are one."""
        drawn = np.array(self.labels.data)
        if drawn.ndim > len(self.painted):
            drawn = drawn.max(axis=self.axes.index("C"))
        ends = (int(drawn.min(initial=0)), int(drawn.max(initial=0)))
        drawn = drawn.astype(np.result_type(*map(np.min_scalar_type, ends)))
        self.image.save(folder / "images" / f"{stem}.tif")
        write_array(folder / "labels" / f"{stem}.tif", drawn, self.painted)


@dataclass(frozen=True)
class Kept:
    """Where labelled layers were written, and which images had labels."""

    folder: Path
    pairs: tuple[Pair, ...]


def labelled_layers(viewer: ViewerModel) -> tuple[list[LayerSource], list[LayerSource]]:
    """Return the user's images and Labels layers; strokes for a probe are none."""
    labels = (layer for layer in viewer.layers if isinstance(layer, LabelsLayer))
    drawn = [x for x in labels if OWN not in x.metadata and STROKES not in x.metadata]
    return list(map(describe, users_layers(viewer))), list(map(describe, drawn))


def keep(
    images: Sequence[LayerSource], labels: Sequence[LayerSource], output: str
) -> Kept | Problem:
    """Write each labelled image and its labels as TIFFs beside the report. For a worker.

    Parameters
    ----------
    images, labels
        The layers.
    output
        Folder of the report; the images go beside it, into a new folder ``<output>_layers``.

    Returns
    -------
    Kept or Problem
        The folder, with ``images`` and ``labels`` in it; or what the user can mend.
    """
    place = Path(output).expanduser().absolute()
    folder, number = place.with_name(f"{place.name}_layers"), 1
    try:
        pairs = pair_up(images, labels)
        while folder.exists():
            number += 1
            folder = place.with_name(f"{place.name}_layers_{number}")
        for stem, pair in zip(_stems(pairs), pairs, strict=True):
            pair.save(folder, stem)
    except UserError as error:
        return Problem(error)
    return Kept(folder, tuple(pairs))


def pair_up(images: Sequence[LayerSource], labels: Sequence[LayerSource]) -> list[Pair]:
    """Return the images that have labels, each with them.

    Labels belong to the image whose name their own name holds, the longest where there are
    several; labels of any other name to the only image left that they fit.

    Parameters
    ----------
    images, labels
        The layers.

    Raises
    ------
    ConfigError
        There is no such pair, an image has two Labels layers, or labels fit several images.
    """
    axes = {image.name: image.axes() for image in images}
    pairs: dict[str, Pair] = {}
    unnamed: list[list[Pair]] = []
    for drawn in labels:
        fitting = [p for i in images if (p := Pair(i, drawn, axes[i.name])).fits()]
        named = [pair for pair in fitting if pair.named()]
        if named:
            _take(pairs, max(named, key=lambda pair: len(pair.image.name)))
        else:
            unnamed.append(fitting)
    named_images = set(pairs)
    for fitting in unnamed:
        free = [pair for pair in fitting if pair.image.name not in named_images]
        if len(free) > 1:
            names = " or ".join(f"“{pair.image.name}”" for pair in free)
            raise ConfigError(
                FIELD, f"may belong to {names}", value=free[0].labels.name, remedy=REMEDY
            )
        for pair in free:
            _take(pairs, pair)
    if not pairs:
        raise ConfigError(FIELD, "no open image has a Labels layer of its shape", remedy=REMEDY)
    return [pairs[image.name] for image in images if image.name in pairs]


def _take(pairs: dict[str, Pair], pair: Pair) -> None:
    """Note down a pair.

    Raises
    ------
    ConfigError
        The image has other labels already.
    """
    name = pair.image.name
    if name in pairs:
        rule = f"has two Labels layers, “{pairs[name].labels.name}” and “{pair.labels.name}”"
        remedy = "Close one, or name it after the image that it belongs to."
        raise ConfigError(FIELD, rule, value=name, remedy=remedy)
    pairs[name] = pair


def _stems(pairs: Sequence[Pair]) -> list[str]:
    """Return a name of its own for the files of each pair."""
    stems: dict[str, str] = {}
    for pair in pairs:
        stem = wanted = file_stem(pair.image.name)
        count = 1
        while stem.casefold() in stems:
            count += 1
            stem = f"{wanted}_{count}"
        stems[stem.casefold()] = stem
    return list(stems.values())
