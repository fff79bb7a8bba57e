"""The linear probe: what it optimises, and that it is evaluated plane by plane exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_ssl_pretrain.data import probe as p
from napari_ssl_pretrain.data.feature_map import FeatureMap
from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def an_image(folder: Path, shape: tuple[int, ...], channels: int = 1) -> FeatureMap:
    """Write an image of two halves; its features know the halves on a coarse grid."""
    random = np.random.default_rng(0)
    half = np.zeros(shape, np.float32)
    half[..., shape[-1] // 2 :] = 1
    pixels = (100 + 20 * random.normal(size=(channels, *shape))).astype(np.float32)
    axes = "ZYX"[-len(shape) :]
    path = folder / "a.tif"
    if channels == 1:
        write_array(path, pixels[0], axes)
    else:
        write_array(path, pixels, f"C{axes}")
    step = (1, 2, 2)[-len(shape) :]
    coarse = half[tuple(slice(None, None, s) for s in step)]
    features = np.stack([coarse * 2 - 1, random.normal(size=coarse.shape)]).astype(np.float16)
    about = {
        "source": str(path),
        "opened": {"axes": "auto", "ndim": len(shape), "channels": "all"},
        "intensity": {"offset": [100.0] * channels, "scale": [20.0] * channels}
        | {"mean": [100.0] * channels},
    }
    return FeatureMap(features, axes, step, shape, about)


@pytest.mark.parametrize(("shape", "channels"), [((20, 30), 1), ((20, 30), 3), ((5, 20, 30), 1)])
def test_a_few_strokes_label_the_whole_image(
    tmp_path: Path, shape: tuple[int, ...], channels: int
) -> None:
    found = an_image(tmp_path, shape, channels)
    scribbles = np.zeros(shape, np.uint8)
    scribbles[..., 4:8, 3:9] = 2
    scribbles[..., 4:8, 20:26] = 7
    trained = p.train_probe(found, scribbles)
    labels = np.zeros(shape, int)
    for place, plane in p.predict_probe(found, trained):
        labels[place] = plane
    assert set(np.unique(labels)) == {2, 7}
    assert (labels[..., :13] == 2).mean() > 0.9
    assert (labels[..., 17:] == 7).mean() > 0.9


def test_prediction_is_the_linear_map_of_interpolated_features(tmp_path: Path) -> None:
    found = an_image(tmp_path, (4, 12, 14))
    random = np.random.default_rng(1)
    width = 2 + len(p.BLURS)
    trained = p.Probe(
        np.array([1, 2, 3]),
        random.normal(size=(3, width)).astype(np.float32),
        random.normal(size=3).astype(np.float32),
    )
    image = found.open_source()
    for place, plane in p.predict_probe(found, trained):
        points = np.argwhere(np.ones((12, 14)))
        whole = np.concatenate([np.repeat([place], len(points), 0), points], axis=1)
        texture = p.texture(found, image, place).reshape(len(p.BLURS), -1).T
        columns = np.concatenate([found.at(whole), texture], axis=1)
        scores = columns @ trained.weights.T + trained.bias
        np.testing.assert_array_equal(plane.ravel(), 1 + scores.argmax(axis=1))


def test_the_fit_is_at_the_optimum() -> None:
    random = np.random.default_rng(0)
    classes = random.integers(0, 3, 200)
    columns = random.normal(size=(200, 4)) + classes[:, None] * [1, 0, -1, 0]
    weights, bias = p.fit_logistic(columns, classes, 3)
    moved, there = p.fit_logistic(columns + 5, classes, 3)
    np.testing.assert_allclose(moved, weights, atol=1e-5)
    np.testing.assert_allclose(there + 5 * moved.sum(axis=1), bias, atol=1e-4)
    scores = columns @ weights.T + bias
    likelihood = np.exp(scores - scores.max(1, keepdims=True))
    likelihood /= likelihood.sum(1, keepdims=True)
    share = 1 / (3 * np.bincount(classes))[classes]
    gradient = ((likelihood - np.eye(3)[classes]) * share[:, None]).T @ columns + p.RIDGE * weights
    assert np.abs(gradient).max() < 1e-4


def test_classes_weigh_the_same_however_much_is_painted() -> None:
    random = np.random.default_rng(0)
    classes = np.repeat([0, 1], [2000, 20])
    columns = random.normal(size=(2020, 1)) + classes[:, None] * 3
    weights, bias = p.fit_logistic(columns, classes, 2)
    border = -(bias[1] - bias[0]) / (weights[1, 0] - weights[0, 0])
    assert 1 < border < 2


def test_many_painted_pixels_are_thinned_evenly() -> None:
    scribbles = np.ones((300, 300), np.uint8)
    scribbles[:150] = 2
    places, classes, values = p.painted(scribbles)
    assert list(values) == [1, 2]
    assert np.bincount(classes).max() <= p.MOST_PIXELS
    assert places[classes == 0].min(axis=0)[0] == 150
    assert places[classes == 0].max(axis=0)[0] > 270


@pytest.mark.parametrize(("label", "said"), [(0, "holds no label"), (4, "only the label 4")])
def test_too_few_labels_are_named(label: int, said: str) -> None:
    with pytest.raises(DataError, match=said):
        p.painted(np.full((4, 4), label, np.uint8))
