"""Label images: pairing, what their numbers mean, and what is refused before training."""

# ruff: noqa: TID251

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Picture
from skimage.segmentation import find_boundaries

from napari_ssl_pretrain.data import labels as lab
from napari_ssl_pretrain.errors import ConfigError, DataError


def discs(seed=0, size=48, count=6, radius=5):
    """Return an instance label image: numbered discs on a grid, as uint16."""
    out = np.zeros((size, size), np.uint16)
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    places = [(16 * a + 8, 16 * b + 8) for a in range(3) for b in range(3)]
    for number, k in enumerate(rng.permutation(9)[:count], start=1):
        out[(y - places[k][0]) ** 2 + (x - places[k][1]) ** 2 <= radius**2] = number
    return out


def write(path, array, axes=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".png":
        Picture.fromarray(array).save(path)
    elif path.suffix == ".zarr":
        zarr.save(str(path), array)
    else:
        told = {"axes": axes} if axes else None
        tifffile.imwrite(path, array, photometric="minisblack", metadata=told)
    return path


@pytest.fixture
def place(tmp_path):
    """Return a function that writes pairs and opens them."""

    def make(label_arrays, ending=".tif", image_axes="YX", label_axes=None, images=None, **how):
        for number, label in enumerate(label_arrays):
            shape = label.shape if images is None else images[number]
            rng = np.random.default_rng(number)
            image = rng.integers(0, 255, shape).astype(np.uint8)
            write(tmp_path / "x" / f"im{number}.tif", image, image_axes)
            write(tmp_path / "y" / f"im{number}{ending}", label, label_axes)
        return lab.open_labelled(str(tmp_path / "x"), str(tmp_path / "y"), **how)

    return make


@pytest.mark.parametrize("ending", [".tif", ".png", ".npy", ".zarr"])
def test_formats_may_differ_from_those_of_the_images(place, ending):
    found = place([(discs(n) > 0).astype(np.uint8) for n in range(3)], ending)
    assert [pair.name for pair in found.images] == ["im0", "im1", "im2"]
    scheme = lab.find_scheme([found])
    assert (scheme.kind, scheme.count) == ("binary", 2)
    ((image, classes),) = lab.read_pair(found.images[1], scheme)
    assert image.shape == (1, 48, 48)
    assert classes.dtype == np.uint8
    np.testing.assert_array_equal(classes, discs(1) > 0)


@pytest.mark.parametrize(
    ("convert", "ending"),
    [
        (lambda a: a.astype(np.uint8), ".tif"),
        (lambda a: a.astype(np.uint8) * 255, ".tif"),
        (lambda a: a.astype(np.uint8) + 1, ".tif"),
        (lambda a: a, ".npy"),
        (lambda a: a.astype(np.float32), ".tif"),
        (lambda a: a.astype(np.float64) * 255, ".npy"),
        (lambda a: a.astype(np.uint16) * 65535, ".tif"),
        (lambda a: np.stack([a.astype(np.uint8) * 255] * 3, -1), ".png"),
    ],
    ids=["0-1", "0-255", "1-2", "bool", "float", "double 255", "uint16", "grey RGB"],
)
def test_two_numbers_are_two_classes(place, convert, ending):
    truth = [discs(n) > 0 for n in range(2)]
    found = place([convert(t) for t in truth], ending, images=[(48, 48)] * 2)
    scheme = lab.find_scheme([found])
    assert (scheme.kind, scheme.names) == ("binary", ("background", "foreground"))
    assert ("float" in scheme.note) == (convert(truth[0]).dtype.kind == "f")
    np.testing.assert_array_equal(lab.read_pair(found.images[0], scheme)[0][1], truth[0])


def test_masks_of_1_in_one_file_and_255_in_another_are_two_classes(place):
    found = place([(discs(n) > 0).astype(np.uint8) * v for n, v in enumerate((1, 255))])
    scheme = lab.find_scheme([found])
    assert scheme.kind == "binary"
    assert "1 and 255" in scheme.note
    assert all(lab.read_pair(p, scheme)[0][1].max() == 1 for p in found.images)


def test_few_numbers_in_many_pieces_are_classes(place):
    arrays = [(discs(n) % 3 * 7).astype(np.uint16) for n in range(2)]
    found = place(arrays)
    scheme = lab.find_scheme([found])
    assert (scheme.kind, scheme.values) == ("classes", (0, 7, 14))
    assert scheme.names == ("background", "class 7", "class 14")
    np.testing.assert_array_equal(lab.read_pair(found.images[0], scheme)[0][1], arrays[0] // 7)


def test_ilastik_counts_classes_from_one(place):
    found = place([(discs(n) % 3 + 1).astype(np.uint8) for n in range(2)])
    scheme = lab.find_scheme([found])
    assert (scheme.kind, scheme.values) == ("classes", (1, 2, 3))
    assert "1 is taken for background" in scheme.note


@pytest.mark.parametrize(
    ("counts", "dtype"),
    [((6, 6), np.uint16), ((9, 9), np.uint8), ((3, 6), np.uint8)],
    ids=["wide", "many", "bytes with unlike numbers"],
)
def test_objects_become_foreground_and_boundary(place, counts, dtype):
    arrays = [discs(n, count=c).astype(dtype) for n, c in enumerate(counts)]
    found = place(arrays)
    scheme = lab.find_scheme([found])
    assert (scheme.kind, scheme.names[1:]) == ("instances", ("foreground", "boundary"))
    assert "instances" in scheme.note
    assert "boundary" in scheme.note
    classes = lab.read_pair(found.images[0], scheme)[0][1]
    np.testing.assert_array_equal(classes > 0, arrays[0] > 0)
    rim = find_boundaries(arrays[0], mode="inner")
    assert (classes[rim] == 2).all()
    assert set(np.unique(classes)) == {0, 1, 2}


def test_the_same_few_numbers_in_bytes_are_classes(place):
    """A nucleus (2) in a cell (1), one of each an image: classes, not objects."""
    arrays = []
    for n in range(3):
        whole = np.pad(np.ones((20 + n, 20), np.uint8), 5)
        whole[10:15, 10:15] = 2
        arrays.append(whole)
    assert lab.find_scheme([place(arrays)]).kind == "classes"


def test_touching_objects_stay_apart(place):
    cells = np.zeros((30, 48), np.uint16)
    for k in range(3):
        cells[5:25, 12 * k + 2 : 12 * k + 14] = k + 1
    found = place([cells, np.roll(cells, 3, 0)])
    scheme = lab.find_scheme([found])
    classes = lab.read_pair(found.images[0], scheme)[0][1]
    meeting = (cells[:, :-1] != cells[:, 1:]) & (cells[:, :-1] > 0) & (cells[:, 1:] > 0)
    assert (classes[:, :-1][meeting] == 2).all()
    assert (classes[:, 1:][meeting] == 2).all()


def test_objects_without_background_are_learnt_by_their_borders(place):
    rng = np.random.default_rng(0)
    blocks = [np.kron(rng.permutation(36).reshape(6, 6) + 1, np.ones((8, 8))) for _ in range(2)]
    found = place([b.astype(np.uint16) for b in blocks])
    scheme = lab.find_scheme([found])
    assert (scheme.kind, scheme.names, scheme.dense) == (
        "instances",
        ("background", "boundary"),
        True,
    )
    expected = find_boundaries(blocks[0].astype(int), mode="thick")
    np.testing.assert_array_equal(lab.read_pair(found.images[0], scheme)[0][1], expected)


def test_volumes_and_their_planes(place):
    volume = np.stack([discs()] * 6)
    three = place([volume, volume], image_axes="ZYX", ndim=3)
    assert (three.ndim, three.images[0].label.spatial) == (3, (6, 48, 48))
    scheme = lab.find_scheme([three])
    ((image, classes),) = lab.read_pair(three.images[0], scheme)
    assert image.shape == (1, 6, 48, 48)
    assert classes.shape == (6, 48, 48)
    two = place([volume, volume], image_axes="ZYX", ndim=2)
    assert len(lab.read_pair(two.images[0], scheme)) == 6


@pytest.mark.parametrize("label_axes", [None, "YXC", "QQQ"])
def test_a_label_image_without_a_word_about_axes_takes_those_of_its_image(place, label_axes):
    """Three planes look like three channels: the image knows better."""
    volume = np.stack([discs(n) for n in range(3)])
    ending = ".npy" if label_axes is None else ".tif"
    found = place([volume], ending, image_axes="ZYX", label_axes=label_axes, ndim=2)
    assert found.images[0].label.frames == 3
    for frame in range(3):
        np.testing.assert_array_equal(lab.read_label(found.images[0].label, frame), volume[frame])


def test_channels_of_the_image_are_no_axis_of_the_label(place):
    found = place([discs()], image_axes="CYX", images=[(2, 48, 48)], channels=(1,))
    assert found.in_channels == 1
    every = place([discs()], image_axes="CYX", images=[(2, 48, 48)])
    assert every.in_channels == 2


def test_endings_of_label_names_are_understood(tmp_path):
    write(tmp_path / "x" / "a.tif", np.zeros((9, 9), np.uint8))
    write(tmp_path / "y" / "a_masks.png", np.eye(9, dtype=np.uint8))
    assert len(lab.open_labelled(str(tmp_path / "x"), str(tmp_path / "y")).images) == 1


def test_what_is_left_out_is_named(place, tmp_path):
    write(tmp_path / "x" / "lonely.tif", np.zeros((9, 9), np.uint8))
    write(tmp_path / "y" / "orphan.tif", np.zeros((9, 9), np.uint8))
    (tmp_path / "x" / "im9.tif").write_bytes(b"no image")
    write(tmp_path / "y" / "im9.tif", discs())
    found = place([discs()])
    said = " | ".join(found.skipped)
    assert "lonely.tif: has no label image" in said
    assert "orphan.tif: is a label image without an image" in said
    assert "im9.tif: is a text file, not a TIFF file" in said
    assert len(found.images) == 1


def test_a_flat_image_among_volumes_is_left_out(place, tmp_path):
    write(tmp_path / "x" / "flat.tif", np.zeros((48, 48), np.uint8))
    write(tmp_path / "y" / "flat.tif", discs())
    found = place([np.stack([discs()] * 5)], image_axes="ZYX", ndim=3)
    assert [pair.name for pair in found.images] == ["im0"]
    assert "flat.tif: is flat" in found.skipped[0]


def test_only_background_in_some_images_is_said(place):
    found = place([discs(), np.zeros((48, 48), np.uint16), discs(1)])
    assert "im1 holds background only" in lab.find_scheme([found]).note


NAN = np.full((48, 48), np.nan, np.float32)
BAD_LABELS = {
    "probabilities": (discs() / 7.0, "a label image holds whole numbers"),
    "nan": (NAN, "im0.npy: nan: a label image holds whole numbers"),
    "too large": (np.full((48, 48), 1e30), "whole numbers"),
    "negative": (discs().astype(np.int16) - 1, "im0.npy: -1: a label image holds numbers of 0"),
    "background only": (np.zeros((48, 48), np.uint8), "--labels: every pixel of all its label"),
    "all the same": (np.full((48, 48), 255, np.uint8), "is the same (255)"),
    "colour": (
        np.random.default_rng(0).integers(0, 9, (48, 48, 3)).astype(np.uint8),
        "im0.npy: has 3 channels that differ",
    ),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_what_holds_no_labels_is_refused_by_name(place, case):
    label, text = BAD_LABELS[case]
    found = place([label], ".npy", images=[(48, 48)])
    with pytest.raises(DataError) as caught:
        lab.find_scheme([found])
    assert text in str(caught.value)


def test_background_only_in_the_test_images_names_them(place, tmp_path):
    train = place([discs(), discs(1)])
    write(tmp_path / "tx" / "a.tif", np.zeros((9, 9), np.uint8))
    write(tmp_path / "ty" / "a.tif", np.zeros((9, 9), np.uint8))
    names = ("--test_images", "--test_labels")
    test = lab.open_labelled(str(tmp_path / "tx"), str(tmp_path / "ty"), field=names)
    with pytest.raises(DataError, match=r"--test_labels: every pixel"):
        lab.find_scheme([train, test])


def test_another_shape_is_refused_by_name(place):
    with pytest.raises(DataError, match=r"im0.tif: has the shape 48 x 48, .* im0.tif has 40 x 48"):
        place([discs()], images=[(40, 48)])
    with pytest.raises(DataError, match=r"has the shape 48 x 48"):
        place([discs()], images=[(5, 48, 48)], image_axes="ZYX", ndim=3)


def test_folders_that_cannot_be_used(tmp_path, place):
    place([discs()])
    x, y = str(tmp_path / "x"), str(tmp_path / "y")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"--labels: .* is the same as --images"):
        lab.open_labelled(x, x + "/")
    with pytest.raises(ConfigError, match=r"--labels: .* holds no image"):
        lab.open_labelled(x, str(tmp_path / "empty"))
    with pytest.raises(ConfigError, match=r"--images: .* does not exist"):
        lab.open_labelled(str(tmp_path / "no"), y)
    write(tmp_path / "z" / "other.tif", discs())
    with pytest.raises(DataError, match=r"no label image for any of 1 images; im0.tif needs one"):
        lab.open_labelled(x, str(tmp_path / "z"))
    with pytest.raises(DataError, match=r"none of the labelled images can be used; im0.tif: is fl"):
        lab.open_labelled(x, y, ndim=3)
    write(tmp_path / "y" / "im0.png", discs().astype(np.uint8))
    with pytest.raises(DataError, match=r"both are called im0"):
        lab.open_labelled(x, y)


def test_the_same_image_in_train_and_test_is_refused(place, tmp_path):
    train = place([discs(n) for n in range(3)])
    pixels = tifffile.imread(tmp_path / "x" / "im2.tif")
    write(tmp_path / "tx" / "copy.png", pixels)
    write(tmp_path / "tx" / "other.png", pixels[::-1].copy())
    for name in ("copy", "other"):
        write(tmp_path / "ty" / f"{name}.tif", discs(2))
    names = ("--test_images", "--test_labels")
    test = lab.open_labelled(str(tmp_path / "tx"), str(tmp_path / "ty"), field=names)
    with pytest.raises(DataError, match=r"copy.png: is also in --images \(as im2.tif\)"):
        lab.refuse_shared(train, test)
    (tmp_path / "tx" / "copy.png").unlink()
    lab.refuse_shared(
        train, lab.open_labelled(str(tmp_path / "tx"), str(tmp_path / "ty"), field=names)
    )
    with pytest.raises(DataError, match=r"im0.tif: is also in --images: a score"):
        lab.refuse_shared(train, train)


def test_images_are_held_back(place):
    found = place([discs(n) for n in range(7)])
    train, test, note = lab.hold_out(found)
    assert (len(train.images), len(test.images)) == (5, 2)
    assert {p.name for p in train.images} | {p.name for p in test.images} == {
        p.name for p in found.images
    }
    assert "2 of the 7 labelled images are held back" in note
    assert [p.name for p in lab.hold_out(found)[1].images] == [p.name for p in test.images]


def test_one_image_cannot_be_held_back(place):
    with pytest.raises(DataError, match=r"cannot be learnt from and scored on"):
        lab.hold_out(place([discs()]))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 40))
def test_counts_never_exceed_what_there_is(asked, available):
    counts, note = lab.usable_counts(asked, available)
    assert counts == tuple(sorted(set(counts)))
    assert max(counts) == min(max(asked), available)
    assert bool(note) == (max(asked) > available)


@given(seed=st.integers(0, 99), values=st.lists(st.integers(0, 255), min_size=2, max_size=9))
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_classes_are_the_ranks_of_the_numbers(seed, values):
    values = sorted(set(values))
    names = tuple(map(str, values))
    scheme = lab.LabelScheme("classes", tuple(values), names, "")
    label = np.random.default_rng(seed).choice(values, (5, 6))
    assert [values[c] for c in scheme.classes(label).ravel()] == label.ravel().tolist()
