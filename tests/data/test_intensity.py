"""Normalisation equals its formula; every number is finite whatever the pixels are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from image_samples import as_frames, memory_image, sample

from napari_ssl_pretrain.data import boxes
from napari_ssl_pretrain.data import intensity as intensity_module
from napari_ssl_pretrain.data.intensity import (
    PERCENTILES,
    finite,
    measure,
    measure_array,
    training_set_statistics,
)

DTYPES = ["uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64"]
NORMALIZATIONS = ["zscore", "percentile", "minmax", "divide", "custom"]
CUSTOM = (np.array([3.0, 4.0]), np.array([5.0, 6.0]))


def formula(channels, normalization, dtype):
    """Return offset and scale of flat channels by numpy alone."""
    if normalization == "zscore":
        return channels.mean(1), channels.std(1)
    if normalization == "minmax":
        return channels.min(1), np.ptp(channels, axis=1)
    if normalization == "percentile":
        low, high = np.percentile(channels, PERCENTILES, axis=1)
        return low, high - low
    if normalization == "custom":
        return CUSTOM
    full = {"uint8": 255, "int8": 127, "uint16": 65535, "int16": 32767}
    return np.zeros(len(channels)), np.full(len(channels), full.get(dtype, abs(channels).max()))


@pytest.fixture(params=["whole", "in blocks"])
def block_size(request, monkeypatch):
    if request.param == "in blocks":
        monkeypatch.setattr(intensity_module, "_BLOCK_BYTES", 500)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("block_size")
def test_parity_with_the_formula(dtype, normalization):
    array = sample("TZCYX", dtype)
    if np.dtype(dtype).kind != "u":
        array = (array - array.dtype.type(50)).astype(dtype)
    for ndim in (2, 3):
        image = memory_image(array, "TZCYX", ndim)
        found = measure(image, normalization, CUSTOM)
        channels = array.astype(float).transpose(2, 0, 1, 3, 4).reshape(2, -1)
        offset, scale = formula(channels, normalization, dtype)
        np.testing.assert_allclose(found.offset, offset, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.scale, scale, rtol=1e-9)
        np.testing.assert_allclose(found.mean, channels.mean(1), rtol=1e-9)
        assert found.low == min(0, channels.min())
        assert found.high == channels.max()
        assert found.nonfinite == 0


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_array_and_image_are_measured_alike(normalization):
    array = sample("CZYX", "float32")
    one = measure(memory_image(array, "CZYX", 3), normalization, CUSTOM)
    other = measure_array(as_frames(array, "CZYX", 3)[0], normalization, CUSTOM)
    np.testing.assert_allclose(one.offset, other.offset)
    np.testing.assert_allclose(one.scale, other.scale)
    assert (one.low, one.high) == (other.low, other.high)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@given(
    array=arrays.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int32, np.float32, np.float64, np.float16]),
        st.tuples(st.just(2), st.integers(1, 4), st.integers(1, 4)),
    )
)
def test_every_number_is_finite_and_scales_are_positive(normalization, array):
    found = measure_array(array, normalization, CUSTOM)
    with np.errstate(over="ignore"):
        for values in (found.offset, found.scale, found.mean):
            assert (
                np.isfinite(values).all()
                or np.abs(array.astype(float))[np.isfinite(array)].max() > 1e150
            )
    assert (found.scale > 0).all()
    assert found.low <= 0
    assert found.high >= found.low or found.high < 0


def test_values_that_are_not_finite_do_not_count():
    array = sample("CYX", "float32")
    good = array.copy()
    array[0, 0, :3] = [np.nan, np.inf, -np.inf]
    array[1] = np.nan
    found = measure_array(array, "zscore")
    rest = good[0].ravel()[3:].astype(float)
    np.testing.assert_allclose(found.offset, [rest.mean(), 0], rtol=1e-6)
    np.testing.assert_allclose(found.scale, [rest.std(), 1], rtol=1e-6)
    assert found.nonfinite == 3 + array[1].size
    filled = finite(array, found.mean)
    assert filled.dtype == np.float32
    np.testing.assert_allclose(filled[0, 0, :3], found.mean[0], rtol=1e-6)
    np.testing.assert_array_equal(filled[0, 1:], array[0, 1:])
    assert (filled[1] == 0).all()


def test_constant_images_are_not_divided_by_zero():
    for normalization in ("zscore", "minmax", "percentile"):
        found = measure_array(np.full((1, 5, 5), 7, np.uint8), normalization)
        assert (found.offset[0], found.scale[0]) == (7, 1)


def test_large_offset_loses_no_digits():
    array = (1e8 + np.random.default_rng(0).normal(size=(1, 100, 100))).astype(np.float64)
    np.testing.assert_allclose(measure_array(array, "zscore").scale, array.std(), rtol=1e-9)


def test_percentiles_of_more_than_the_memory_are_sampled(monkeypatch):
    monkeypatch.setattr(intensity_module, "_SAMPLE", 2000)
    array = np.random.default_rng(0).random((1, 200, 200)).astype(np.float32)
    found = measure(memory_image(array, "CYX"), "percentile", memory_gb=1e-6)
    np.testing.assert_allclose(found.offset, 0.01, atol=0.01)
    np.testing.assert_allclose(found.scale, 0.988, atol=0.02)


def test_training_set_statistics_are_those_of_all_voxels():
    small, large = sample("CYX"), sample("TCYX", "uint16", seed=1)
    images = [memory_image(small, "CYX"), memory_image(large, "TCYX")]
    mean, std = training_set_statistics(images)
    for channel in range(2):
        values = np.concatenate([small[channel].ravel(), large[:, channel].ravel()]).astype(float)
        np.testing.assert_allclose(mean[channel], values.mean())
        np.testing.assert_allclose(std[channel], values.std())


def test_custom_needs_statistics():
    with pytest.raises(ValueError, match="statistics of the training set"):
        measure_array(sample("CYX"), "custom")


def test_float_images_beyond_one_are_divided_by_their_largest():
    array = sample("CYX", "float32")
    assert (measure_array(array / 1000, "divide").scale == 1).all()
    np.testing.assert_allclose(measure_array(array, "divide").scale, array.max())


def test_how_many_pixels_are_read_is_told(monkeypatch):
    array = np.arange(6 * 40 * 50, dtype=np.uint16).reshape(6, 40, 50)
    image, told = memory_image(array, "ZYX", 3), []
    measure(image, "zscore", progress=lambda *n: told.append(n))
    assert told[-1] == (array.size, array.size)
    monkeypatch.setattr(boxes, "EXACT_BYTES", 100)
    measure(image, "zscore", progress=lambda *n: told.append(n))
    assert told[-1][0] == told[-1][1]
