"""Training and validation share no voxel, and both are there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_samples import memory_image

from napari_ssl_pretrain.data.regions import all_regions, split_regions


def images_of(shapes, axes="YX", ndim=2):
    return [memory_image(np.zeros(s, np.uint8), axes, ndim, f"{n}") for n, s in enumerate(shapes)]


def painted(images, regions):
    """Count how often each voxel of each frame lies in a region."""
    counts = {
        (i, f): np.zeros(im.spatial, int) for i, im in enumerate(images) for f in range(im.frames)
    }
    for region in regions:
        counts[region.image, region.frame][region.slices] += 1
    return counts


def test_all_regions_are_the_frames():
    images = images_of([(3, 8, 9), (2, 5, 5)], "TYX")
    regions = all_regions(images)
    assert [(r.image, r.frame) for r in regions] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert {r.shape for r in regions} == {(8, 9), (5, 5)}
    assert all((count == 1).all() for count in painted(images, regions).values())


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.99])
def test_whole_images_are_kept_where_there_are_enough(fraction):
    images = images_of([(8, 8)] * 20)
    train, kept = split_regions(images, fraction, (4, 4), 0)
    assert {r.image for r in train} | {r.image for r in kept} == set(range(20))
    assert not {r.image for r in train} & {r.image for r in kept}
    assert len(kept) == min(19, max(1, round(20 * fraction)))


def test_choice_depends_on_the_seed_alone():
    images = images_of([(8, 8)] * 20)
    assert split_regions(images, 0.2, (4, 4), 3) == split_regions(images, 0.2, (4, 4), 3)
    assert (
        len({tuple(r.image for r in split_regions(images, 0.2, (4, 4), s)[1]) for s in range(9)})
        > 3
    )


def test_nothing_is_kept_for_a_fraction_of_zero():
    images = images_of([(8, 8)] * 20)
    assert split_regions(images, 0, (4, 4), 0) == (all_regions(images), [])


def test_few_images_are_cut_across_the_axis_of_most_patches():
    (volume,) = images_of([(100, 250, 250)], "ZYX", 3)
    train, kept = split_regions([volume], 0.1, (20, 128, 128), 0)
    assert (train[0].start, train[0].stop) == ((0, 0, 0), (80, 250, 250))
    assert (kept[0].start, kept[0].stop) == ((80, 0, 0), (100, 250, 250))
    (plane,) = images_of([(100, 400)])
    train, kept = split_regions([plane], 0.1, (32, 32), 0)
    assert kept[0].shape == (100, 40)


def test_training_keeps_something_of_every_frame():
    train, kept = split_regions(images_of([(1, 2), (1, 9)]), 0.99, (4, 4), 0)
    assert [r.shape for r in train] == [(1, 1), (1, 1)]
    assert [r.shape for r in kept] == [(1, 1), (1, 8)]


def test_one_voxel_cannot_be_shared():
    images = images_of([(1, 1)])
    assert split_regions(images, 0.5, (4, 4), 0) == (all_regions(images), [])


@given(
    shapes=st.lists(st.tuples(*[st.integers(1, 40)] * 2), min_size=1, max_size=8),
    patch=st.tuples(*[st.integers(1, 50)] * 2),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
)
def test_train_and_validation_are_disjoint_and_cover_all(shapes, patch, fraction, seed):
    images = images_of(shapes)
    train, kept = split_regions(images, fraction, patch, seed)
    counts = painted(images, [*train, *kept])
    assert all((count == 1).all() for count in counts.values())
    assert train
    assert all(min(r.shape) >= 1 for r in [*train, *kept])
    assert kept or all(max(s) == 1 for s in shapes)
