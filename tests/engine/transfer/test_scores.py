"""Scores of segmentations, beside their formulas and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage import morphology, segmentation

from napari_ssl_pretrain.data.label_scheme import LabelScheme
from napari_ssl_pretrain.engine.transfer import scores as sc

maps = arrays(np.uint8, (7, 8), elements=st.integers(0, 3))
INSTANCES = LabelScheme("instances", (), ("background", "foreground", "boundary"), "")


def plain_overlap(predicted, truth):
    """Mean IoU and Dice by sets of pixels."""
    ious, dices = [], []
    for value in range(1, 4):
        a = set(np.flatnonzero(predicted == value))
        b = set(np.flatnonzero(truth == value))
        if a | b:
            ious.append(len(a & b) / len(a | b))
            dices.append(2 * len(a & b) / (len(a) + len(b)))
    return (np.mean(ious), np.mean(dices)) if ious else (1.0, 1.0)


def plain_boundary_f(predicted, truth, tolerance):
    """The boundary F-score by comparing every pair of contour pixels."""
    a, b = (np.argwhere(m & ~morphology.erosion(m, morphology.disk(1))) for m in (predicted, truth))
    if not len(a) or not len(b):
        return float(len(a) == len(b))
    apart = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    p, r = (apart.min(1) <= tolerance).mean(), (apart.min(0) <= tolerance).mean()
    return 2 * p * r / (p + r) if p + r else 0.0


def disc(centre, radius, size=64):
    y, x = np.mgrid[:size, :size]
    return ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2).astype(np.uint8)


@given(maps, maps)
def test_overlap_is_its_formula(predicted, truth):
    found = sc.score_units(predicted, truth)
    assert (found["iou"], found["dice"]) == pytest.approx(plain_overlap(predicted, truth))
    assert sc.score_units(truth, predicted) == pytest.approx(found)
    assert all(0 <= value <= 1 for value in found.values())


@given(maps)
def test_the_truth_scores_one(truth):
    assert sc.score_units(truth, truth) == {"iou": 1.0, "dice": 1.0, "boundary_f": 1.0}


@given(arrays(bool, (9, 11)), arrays(bool, (9, 11)), st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.0]))
@settings(max_examples=60)
def test_boundary_f_is_its_formula(predicted, truth, tolerance):
    expected = plain_boundary_f(predicted, truth, tolerance)
    assert sc.boundary_f(predicted, truth, tolerance) == pytest.approx(expected)


def test_contours_are_those_of_scikit_image_away_from_the_edge():
    blob = np.zeros((20, 20), bool)
    blob[4:12, 5:16] = True
    expected = segmentation.find_boundaries(blob, mode="inner")
    np.testing.assert_array_equal(sc.contour(blob), expected)


@pytest.mark.parametrize(("shift", "whole"), [(1, True), (2, True), (4, False)])
def test_two_pixels_are_forgiven(shift, whole):
    truth, moved = disc((30, 30), 12), disc((30, 30 + shift), 12)
    assert (sc.score_units(moved, truth)["boundary_f"] == 1.0) is whole
    assert sc.score_units(moved, truth)["iou"] < 1


def test_nothing_found_scores_zero_and_nothing_there_one():
    nothing, something = np.zeros((9, 9), np.uint8), np.eye(9, dtype=np.uint8)
    assert set(sc.score_units(nothing, something).values()) == {0.0}
    assert set(sc.score_units(nothing, nothing).values()) == {1.0}


def test_objects_grown_together_cost_boundary():
    """Two cells with a rim between them, and the same without: the outline is equal."""
    apart = np.zeros((40, 40), np.uint8)
    apart[8:32, 8:32] = 1
    apart[8:32, 19:21] = 2
    together = np.where(apart > 0, 1, 0).astype(np.uint8)
    assert sc.score_units(together, apart)["boundary_f"] == 1.0
    assert sc.score_units(together, apart, INSTANCES)["boundary_f"] < 0.9


def test_volumes_are_scored_too():
    truth = np.zeros((8, 16, 16), np.uint8)
    truth[2:6, 4:12, 4:12] = 1
    shifted = np.roll(truth, 1, 1)
    found = sc.score_units(shifted, truth)
    assert found["iou"] == pytest.approx(7 / 9)
    assert found["boundary_f"] == 1.0


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="segmentation of"):
        sc.score_units(np.zeros((3, 4), np.uint8), np.zeros((4, 3), np.uint8))
