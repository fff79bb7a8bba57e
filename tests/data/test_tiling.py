"""Tiles cover everything, overlap as asked, and blend without a seam."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_ssl_pretrain.data.tiling import blend_weight, tile_starts, tiles

AXIS = st.tuples(st.integers(1, 200), st.integers(1, 64), st.integers(0, 63), st.integers(1, 16))


@given(AXIS)
def test_one_axis(case):
    size, tile, overlap, multiple = case
    overlap = min(overlap, tile - 1)
    starts = tile_starts(size, tile, overlap, multiple)
    assert starts[0] == 0
    assert starts[-1] == max(0, size - tile)
    assert starts == sorted(set(starts))
    steps = np.diff(starts)
    assert (steps <= tile - overlap).all()
    if multiple <= tile - overlap:
        assert all(start % multiple == 0 for start in starts[:-1])
    step = multiple if multiple <= tile - overlap else 1
    longest = (tile - overlap) // step * step
    assert len(starts) == -(-max(0, size - tile) // longest) + 1


def test_steps_are_as_long_as_whole_tokens_allow():
    assert tile_starts(512, 128, 32, 16) == [0, 96, 192, 288, 384]
    assert tile_starts(128, 32, 8, 8) == [0, 24, 48, 72, 96]


def test_tokens_stay_whole_where_they_divide_image_and_tile():
    assert all(start % 8 == 0 for start in tile_starts(8 * 37, 8 * 5, 13, 8))


def test_overlap_as_long_as_the_tile_is_refused():
    with pytest.raises(ValueError, match="overlap 8 must be"):
        tile_starts(20, 8, 8)


@given(
    st.lists(
        st.tuples(st.integers(1, 30), st.integers(1, 20), st.integers(0, 19)),
        min_size=2,
        max_size=3,
    )
)
def test_boxes_cover_all_and_weights_are_positive(axes):
    spatial, tile, overlap = (tuple(values) for values in zip(*axes, strict=True))
    overlap = tuple(min(o, t - 1, 4) for o, t in zip(overlap, tile, strict=True))
    weight = blend_weight(tile)
    assert weight.shape == tile
    assert weight.dtype == np.float32
    assert (weight > 0).all()
    total = np.zeros(spatial)
    for box in tiles(spatial, tile, overlap):
        part = tuple(slice(0, b.stop - b.start) for b in box)
        assert all(p.stop == min(t, n) for p, t, n in zip(part, tile, spatial, strict=True))
        total[box] += weight[part]
    assert (total > 0).all()


def test_blending_equal_tiles_gives_the_image_back():
    image = np.random.default_rng(0).random((70, 90))
    total, weights = np.zeros_like(image), np.zeros_like(image)
    weight = blend_weight((32, 48))
    for box in tiles(image.shape, (32, 48), (16, 24), (4, 8)):
        total[box] += image[box] * weight
        weights[box] += weight
    np.testing.assert_allclose(total / weights, image, rtol=1e-6)


def test_weights_of_half_overlapping_tiles_sum_to_one():
    weight = blend_weight((64,)).astype(float)
    np.testing.assert_allclose(weight[:32] + weight[32:], 1, atol=2e-3)
    np.testing.assert_allclose(weight, weight[::-1])
