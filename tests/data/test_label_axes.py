"""Axes that are given hold for images and, without channels, for their label images."""

from __future__ import annotations

import numpy as np
import pytest

from napari_ssl_pretrain.data.labels import find_scheme, open_labelled, read_pair
from napari_ssl_pretrain.errors import ConfigError


@pytest.fixture
def folders(tmp_path):
    """One square image stored as X Y C, its label as X Y."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 99, (20, 20, 3)).astype(np.uint8)
    label = (rng.random((20, 20)) > 0.5).astype(np.uint8)
    for name, array in (("x", image), ("y", label)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", array)
    return str(tmp_path / "x"), str(tmp_path / "y"), image, label


def test_labels_lie_as_their_images(folders):
    images, labels, image, label = folders
    found = open_labelled(images, labels, axes="XYC", ndim=2)
    (pair,) = found.images
    assert (pair.image.info.axes, pair.label.info.axes) == ("XYC", "XY")
    ((pixels, classes),) = read_pair(pair, find_scheme([found]))
    assert np.array_equal(pixels, image.transpose(2, 1, 0))
    assert np.array_equal(classes, label.T)


def test_axes_that_cannot_be_are_refused(folders):
    with pytest.raises(ConfigError, match=r"^--axes: YX: a.npy: names 2 axes, but there are 3"):
        open_labelled(*folders[:2], axes="YX", ndim=2)


def test_axes_of_the_pretraining_may_not_fit(folders):
    found = open_labelled(*folders[:2], axes="YX", strict=False, ndim=2)
    assert found.images[0].image.info.axes == "YXC"
    assert any("cannot have the axes YX of the pretraining" in note for note in found.notes)
    assert any("set --axes if that is wrong" in note for note in found.notes)
