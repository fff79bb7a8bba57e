"""The linear probe, as a worker does it: from a few strokes to labels everywhere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ssl_pretrain.data.probe import predict_probe, train_probe
from napari_ssl_pretrain.errors import DataError, UserError
from napari_ssl_pretrain.gui.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_ssl_pretrain.gui.encoding import Encoded


@dataclass(frozen=True)
class Probed:
    """What the probe came to.

    Attributes
    ----------
    found
        The encoded image.
    labels
        The predicted label of each pixel.
    values
        The labels that were painted.
    painted
        Number of painted pixels.
    seconds
        How long it took.
    """

    found: Encoded
    labels: np.ndarray
    values: tuple[int, ...]
    painted: int
    seconds: float


def probe(
    found: Encoded, name: str, scribbles: Any
) -> Generator[tuple[int, int], None, Probed | Problem]:
    """Train the probe and predict plane by plane; yields planes done and in all."""
    began = time.perf_counter()
    try:
        strokes = _strokes(found, name, np.asarray(scribbles))
        trained = train_probe(found.map, strokes)
        small = trained.values.min() >= 0 and trained.values.max() <= np.iinfo(np.uint8).max
        labels = np.zeros(found.map.shape, np.uint8 if small else np.int32)
        planes = len(found.map.planes())
        for number, (place, plane) in enumerate(predict_probe(found.map, trained), start=1):
            labels[place] = plane
            yield number, planes
    except UserError as error:
        return Problem(error)
    values = tuple(int(v) for v in trained.values)
    painted = int(np.count_nonzero(strokes))
    return Probed(found, labels, values, painted, time.perf_counter() - began)


def _strokes(found: Encoded, name: str, painted: np.ndarray) -> np.ndarray:
    """Return the strokes with the axes of the features: those of all channels are one.

    Raises
    ------
    DataError
        The layer does not have the image's shape.
    """
    axes = found.axes
    if painted.ndim == len(axes) and "C" in axes:
        painted = painted.max(axis=axes.index("C"))
        axes = axes.replace("C", "")
    wanted = tuple(found.map.shape[found.map.axes.index(a)] for a in axes if a in found.map.axes)
    if painted.shape != wanted:
        shapes = [" x ".join(map(str, s)) for s in (painted.shape, wanted)]
        rule = f"has {shapes[0]} pixels, the image {shapes[1]}"
        remedy = "Choose a layer of the image's shape, or a new one."
        raise DataError("scribbles", rule, value=name, remedy=remedy)
    return painted.transpose([axes.index(a) for a in found.map.axes])
