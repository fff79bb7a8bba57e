"""Patches: a function of their key alone, from inside their region, fast, the file's numbers."""

# ruff: noqa: TID251

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from image_samples import memory_image, pixels

from napari_ssl_pretrain.data.opening import open_image
from napari_ssl_pretrain.data.padding import pad_to
from napari_ssl_pretrain.data.patches import LARGEST_SHARE, PatchSource, region_weights
from napari_ssl_pretrain.data.regions import Region, all_regions, split_regions
from napari_ssl_pretrain.errors import DataError


def numbered(*shape):
    """Return an array in which every voxel has a number of its own."""
    return np.arange(np.prod(shape), dtype=np.int32).reshape(shape)


def source(images, patch=(8, 8), memory_gb=1.0, regions=None):
    return PatchSource(images, regions or all_regions(images), patch, memory_gb)


def equal(one, other):
    return (one.image, one.frame, one.start) == (other.image, other.frame, other.start) and (
        np.array_equal(one.array, other.array)
    )


def test_patch_is_the_box_it_says():
    images = [
        memory_image(numbered(3, 2, 30, 40), "TCYX"),
        memory_image(numbered(2, 20, 25), "CYX"),
    ]
    patches = source(images, (8, 9))
    seen = set()
    for index in range(200):
        patch = patches.draw(0, 0, index)
        frame = images[patch.image].read(patch.frame)
        box = tuple(slice(a, a + n) for a, n in zip(patch.start, (8, 9), strict=True))
        np.testing.assert_array_equal(patch.array, frame[(slice(None), *box)])
        assert patch.array.dtype == np.int32
        seen.add((patch.image, patch.frame))
    assert seen == {(0, 0), (0, 1), (0, 2), (1, 0)}


def test_3d_patches():
    image = memory_image(numbered(2, 10, 20, 30), "CZYX", 3)
    patch = source([image], (4, 8, 16)).draw(1, 2, 3)
    assert patch.array.shape == (2, 4, 8, 16)
    z, y, x = patch.start
    assert patch.array[1, 0, 0, 0] == ((10 + z) * 20 + y) * 30 + x


def test_draw_is_a_function_of_its_key_alone():
    images = [memory_image(pixels((64, 64), seed=s), "YX") for s in range(3)]
    one, other = source(images), source(images, memory_gb=0)
    keys = [(s, t, i) for s in range(2) for t in range(4) for i in range(8)]
    first = [one.draw(*key) for key in keys]
    for key, patch in reversed(list(zip(keys, first, strict=True))):
        assert equal(patch, other.draw(*key))
    with ThreadPoolExecutor(8) as pool:
        assert all(map(equal, first, pool.map(lambda key: one.draw(*key), keys)))
    assert len({(p.image, p.start) for p in first}) > 55


def test_patches_do_not_share_memory_with_the_cache():
    patches = source([memory_image(pixels((8, 8)), "YX")])
    patches.draw(0, 0, 0).array[:] = 0
    assert patches.draw(0, 0, 0).array.any()


@given(
    shape=st.tuples(*[st.integers(1, 30)] * 2),
    patch=st.tuples(*[st.integers(1, 40)] * 2),
    fraction=st.floats(0.05, 0.9),
    seed=st.integers(0, 99),
)
def test_no_patch_leaves_its_region(shape, patch, fraction, seed):
    image = memory_image(numbered(*shape), "YX")
    train, kept = split_regions([image], fraction, patch, 0)
    for regions in filter(None, (train, kept)):
        patches = source([image], patch, regions=regions)
        inside = image.read(0)[(slice(None), *regions[0].slices)]
        for index in range(8):
            drawn = patches.draw(seed, 0, index)
            assert drawn.array.shape == (1, *patch)
            assert np.isin(drawn.array, inside).all()


def test_every_place_is_drawn_alike():
    patches = source([memory_image(numbered(10, 1), "YX")], (4, 1))
    starts = [patches.draw(0, 0, i).start[0] for i in range(7000)]
    counts = np.bincount(starts, minlength=7)
    assert len(counts) == 7
    assert (abs(counts - 1000) < 5 * np.sqrt(1000)).all()


def test_images_are_weighted_by_their_patches_within_bounds():
    def region(image, *sides):
        return Region(image, 0, (0,) * len(sides), sides)

    same = region_weights([region(0, 80, 80), region(1, 40, 80), region(2, 1, 1)], (8, 8))
    np.testing.assert_allclose(same, [100, 50, 1])
    large = region_weights([region(0, 8000, 8000), region(1, 8, 8), region(2, 8, 8)], (8, 8))
    np.testing.assert_allclose(large, [LARGEST_SHARE, 1, 1])


def test_fixed_patches_are_the_same_and_spread():
    images = [memory_image(pixels((4, 32, 32), seed=s), "TYX") for s in range(4)]
    patches = source(images)
    fixed = patches.fixed(16, 0)
    assert all(map(equal, fixed, source(images, memory_gb=0).fixed(16, 0)))
    assert len({(p.image, p.frame) for p in fixed}) == 16
    assert not all(map(equal, fixed, patches.fixed(16, 1)))
    assert patches.fixed(0, 0) == []
    assert len(patches.fixed(100, 0)) == 100


def test_frames_are_decoded_once_within_the_memory():
    images = [memory_image(pixels((100, 100), seed=s), "YX", name=str(s)) for s in range(4)]
    patches = source(images, memory_gb=2.5e-5)
    for index in range(100):
        patches.draw(0, 0, index)
    reads = [image._pixels.reads for image in images]
    assert reads[:2] == [1, 1]
    assert min(reads[2:]) > 5


def test_threads_decode_a_frame_once():
    image = memory_image(pixels((100, 100)), "YX")
    plain = image._pixels.read

    def slow(index):
        time.sleep(0.05)
        return plain(index)

    image._pixels.read = slow
    patches = source([image])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: patches.draw(0, 0, i), range(32)))
    assert image._pixels.reads == 1


def test_nan_is_left_as_it_is():
    array = np.full((8, 8), np.nan, np.float32)
    assert np.isnan(source([memory_image(array, "YX")]).draw(0, 0, 0).array).all()


def test_undecodable_pixels_name_the_file(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", pixels((64, 64)))
    image = open_image(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_bytes(b"")
    with pytest.raises(DataError, match=r"a.tif: is empty"):
        source([image]).draw(0, 0, 0)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("wanted", [1, 4, 7, 20])
def test_padding_mirrors_on_both_sides(size, wanted):
    array = np.arange(size)[None] + 10
    padded, (inside,) = pad_to(array, (wanted,))
    assert padded.shape == (1, max(size, wanted))
    np.testing.assert_array_equal(padded[:, inside], array)
    period = [*range(size), *range(size - 2, 0, -1)] if size > 1 else [0]
    expected = [10 + period[(i - inside.start) % len(period)] for i in range(padded.shape[1])]
    assert padded[0].tolist() == expected
    assert abs(inside.start - (padded.shape[1] - inside.stop)) <= 1


def test_padding_of_volumes_with_channels():
    array = pixels((2, 3, 4, 5))
    padded, inside = pad_to(array, (6, 2, 9))
    assert padded.shape == (2, 6, 4, 9)
    np.testing.assert_array_equal(padded[(slice(None), *inside)], array)
