"""A linear probe: classes of a few painted pixels, predicted for the whole image.

Multinomial logistic regression on the features, and on a little of the image itself, so that
borders are as sharp as the pixels are. A linear map of interpolated features is the interpolation
of the linear map, so the regression is evaluated on the coarse grid and only its few scores are
enlarged: plane by plane, whatever the size of the volume.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_ssl_pretrain.data.intensity import finite
from napari_ssl_pretrain.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_ssl_pretrain.data.feature_map import FeatureMap
    from napari_ssl_pretrain.data.images import Image

BLURS = (0.0, 1.0, 3.0)
"""Standard deviations, in pixels, of the blurred copies of the image that are used as well."""

MOST_PIXELS = 4000
"""Painted pixels used of each class."""

RIDGE = 0.03
"""Weight of the squared coefficients against the mean loss of a pixel."""

_SMALLEST = 1e-6

REMEDY = "Paint a few strokes of at least two labels in the image."


@dataclass(frozen=True)
class Probe:
    """A trained probe.

    Attributes
    ----------
    values
        The label of each class.
    weights, bias
        Scores are ``weights @ features + bias``: ``K (F + R)`` and ``K``, features first.
    """

    values: np.ndarray
    weights: np.ndarray
    bias: np.ndarray


def train_probe(found: FeatureMap, scribbles: np.ndarray) -> Probe:
    """Train on the pixels of an image that are not zero in ``scribbles``.

    Raises
    ------
    DataError
        Fewer than two labels are painted, or the image can no longer be read.
    """
    places, classes, values = painted(scribbles)
    image = found.open_source()
    rows, spread = _texture_at(found, image, places)
    columns = np.concatenate([found.at(places), rows], axis=1)
    # spreads of the image, not of the strokes: what hardly varies in these may elsewhere; all
    # features by one, so that the principal ones weigh most
    spreads = np.concatenate([np.full(len(found.features), found.spread()), spread])
    weights, bias = fit_logistic(columns / spreads, classes, len(values))
    return Probe(values, (weights / spreads).astype(np.float32), bias)


def painted(scribbles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return painted pixels ``N ndim``, their classes, and the label of each class.

    At most :data:`MOST_PIXELS` of each class, spread evenly.

    Raises
    ------
    DataError
        Fewer than two labels are painted.
    """
    everywhere = np.argwhere(scribbles)
    labels = scribbles[tuple(everywhere.T)]
    values, classes = np.unique(labels, return_inverse=True)
    if len(values) < 2:  # noqa: PLR2004
        rule = "holds no label" if not len(values) else f"holds only the label {values[0]}"
        raise DataError("scribbles", rule, remedy=REMEDY)
    kept = []
    for number in range(len(values)):
        those = np.flatnonzero(classes == number)
        by = max(1, len(those) // MOST_PIXELS)
        kept.append(those[::by][:MOST_PIXELS])
    chosen = np.concatenate(kept)
    return everywhere[chosen], classes[chosen], values


def fit_logistic(
    columns: np.ndarray, classes: np.ndarray, count: int, ridge: float = RIDGE
) -> tuple[np.ndarray, np.ndarray]:
    """Fit multinomial logistic regression; return weights ``K F`` and bias ``K`` of columns.

    Columns are centred first. Classes weigh the same however much of each is painted.
    """
    from scipy.optimize import minimize  # noqa: PLC0415 - slow import

    mean = columns.mean(axis=0)
    x = np.concatenate([columns - mean, np.ones((len(columns), 1))], axis=1)
    share = 1.0 / (count * np.bincount(classes, minlength=count))[classes]
    wanted = np.eye(count)[classes]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        coefficients = flat.reshape(count, -1)
        scores = x @ coefficients.T
        scores -= scores.max(axis=1, keepdims=True)
        likelihood = np.exp(scores)
        total = likelihood.sum(axis=1, keepdims=True)
        punished = coefficients.copy()
        punished[:, -1] = 0
        value = share @ (np.log(total[:, 0]) - (scores * wanted).sum(axis=1))
        gradient = ((likelihood / total - wanted) * share[:, None]).T @ x + ridge * punished
        return float(value + ridge / 2 * (punished**2).sum()), gradient.ravel()

    start = np.zeros(count * x.shape[1])
    best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    coefficients = best.x.reshape(count, -1)
    weights = coefficients[:, :-1]
    return weights.astype(np.float32), (coefficients[:, -1] - weights @ mean).astype(np.float32)


def predict_probe(found: FeatureMap, probe: Probe) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Predict plane by plane: the place of each plane, and its labels ``y x``.

    Raises
    ------
    DataError
        The image can no longer be read.
    """
    image = found.open_source()
    dims = len(found.features)
    for place in found.planes():
        grid = np.tensordot(probe.weights[:, :dims], found.plane(place), axes=1)
        scores = found.enlarge(grid) + probe.bias[:, None, None]
        scores += np.tensordot(probe.weights[:, dims:], texture(found, image, place), axes=1)
        yield place, probe.values[scores.argmax(axis=0)]


def texture(found: FeatureMap, image: Image, place: tuple[int, ...]) -> np.ndarray:
    """Return the normalised image of a plane and blurred copies of it, ``R y x``.

    Raises
    ------
    DataError
        The image can no longer be read.
    """
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415 - slow import

    looped, depth = place[: len(image.frame_axes)], place[len(image.frame_axes) :]
    lengths = [image.info.length(a) for a in image.frame_axes]
    frame = int(np.ravel_multi_index(looped, lengths)) if looped else 0
    region = (*(slice(z, z + 1) for z in depth), slice(None), slice(None))
    block = image.read(frame, region).reshape(image.in_channels, *found.shape[-2:])
    known = {k: np.array(found.about["intensity"][k]) for k in ("offset", "scale", "mean")}
    pixels = finite(block, known["mean"]) - known["offset"][:, None, None]
    pixels = (pixels / known["scale"][:, None, None]).astype(np.float32)
    return np.stack(
        [
            gaussian_filter(channel, blur) if blur else channel
            for channel, blur in itertools.product(pixels, BLURS)
        ]
    )


def _texture_at(
    found: FeatureMap, image: Image, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the texture at pixels, ``N R``, and the spread of the image in their planes."""
    rows = np.zeros((len(points), image.in_channels * len(BLURS)), np.float32)
    lead, spreads = points[:, :-2], []
    for place in np.unique(lead, axis=0) if lead.size else [np.zeros(0, int)]:
        here = np.flatnonzero((lead == place).all(axis=1))
        values = texture(found, image, tuple(int(p) for p in place))
        rows[here] = values[:, points[here, -2], points[here, -1]].T
        spreads.append(values.std(axis=(1, 2)))
    sharp = np.maximum(np.mean(spreads, axis=0)[:: len(BLURS)], _SMALLEST)
    return rows, np.repeat(sharp, len(BLURS))
