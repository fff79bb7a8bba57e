"""Variations keep image and classes together, and leave some samples as they are."""

import pytest
import torch

from napari_ssl_pretrain.engine.random import TorchRandom
from napari_ssl_pretrain.engine.transfer import vary as va

SHAPES = {2: (24, 24, 32), 3: (24, 5, 24, 32)}


def random(batch, seed=0):
    return TorchRandom([(seed, i) for i in range(batch)], torch.device("cpu"))


def blobs(ndim):
    """Bright rectangles on a dark ground, and where they are."""
    classes = torch.zeros(SHAPES[ndim], dtype=torch.int64)
    classes[..., 6:15, 8:22] = 1
    classes[..., 9:12, 12:16] = 2
    return classes[:, None].float() * 2 - 1, classes


@pytest.mark.parametrize("ndim", [2, 3])
def test_image_and_classes_stay_together(ndim):
    images, classes = blobs(ndim)
    moved, chosen = va.turn_and_zoom(images, classes, random(24))
    assert moved.shape == images.shape
    assert chosen.shape == classes.shape
    assert set(chosen.unique().tolist()) <= {0, 1, 2}
    agree = ((moved[:, 0] + 1) / 2).round() == chosen
    assert agree.float().mean() > 0.97
    same = torch.tensor([torch.equal(a, b) for a, b in zip(moved, images, strict=True)])
    assert 0.1 < same.float().mean() < 0.7  # 0.36 are expected


def test_a_turn_keeps_areas_and_shapes_of_oblong_patches(monkeypatch):
    monkeypatch.setattr(va, "ZOOM", (1.0, 1.0))
    images, classes = blobs(2)
    classes = (classes > 0).long()
    _, chosen = va.turn_and_zoom(images, classes, random(24))
    area = chosen.sum(dim=(1, 2)).float()
    assert (area / classes[0].sum() - 1).abs().max() < 0.15


def test_zoom_makes_larger_and_smaller(monkeypatch):
    images, classes = blobs(2)
    areas = []
    for zoom in (0.7, 1.4):
        monkeypatch.setattr(va, "ZOOM", (zoom, zoom))
        monkeypatch.setattr(va, "SHARE", 2.0)
        areas.append(va.turn_and_zoom(images, classes, random(24))[1].bool().sum())
    # fourfold, but for what is mirrored in, and turned out of the patch
    assert 2 < areas[1] / areas[0] < 4.5


@pytest.mark.parametrize("ndim", [2, 3])
def test_brightness_is_varied_within_bounds(ndim):
    images, _ = blobs(ndim)
    made = va.vary_brightness(images, random(24))
    assert made.shape == images.shape
    assert torch.isfinite(made).all()
    low = -1 - va.SHIFT - 5 * va.NOISE - 2 * (va.CONTRAST[1] - 1)
    assert low < made.min() < made.max() < 3 + va.SHIFT + 5 * va.NOISE + 4 * (va.CONTRAST[1] - 1)
    same = torch.tensor([torch.allclose(a, b) for a, b in zip(made, images, strict=True)])
    assert same.sum() < 12
    flat = va.vary_brightness(torch.zeros(4, 1, 8, 8), random(4))
    assert torch.isfinite(flat).all()


def test_numbers_depend_on_the_key_alone():
    images, classes = blobs(2)
    for a, b in zip(
        va.vary(images, classes, random(24)), va.vary(images, classes, random(24)), strict=True
    ):
        assert torch.equal(a, b)
    assert not torch.equal(
        va.vary(images, classes, random(24))[0], va.vary(images, classes, random(24, 1))[0]
    )
