"""What is written reads back: axes, shape, dtype, pixel size, unit, numbers; whole or not."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from image_samples import as_frames, memory_image, pixels, sample

from napari_ssl_pretrain.data import writers
from napari_ssl_pretrain.data.opening import open_image
from napari_ssl_pretrain.data.units import MICROMETRE
from napari_ssl_pretrain.data.writers import (
    to_dtype,
    write_array,
    write_bytes,
    write_image,
    write_text,
)
from napari_ssl_pretrain.errors import ConfigError

AXES = [
    "YX",
    "YXS",
    "CYX",
    "ZYX",
    "ZCYX",
    "TZCYX",
    "TYX",
    "TCYX",
    "CZYX",
    "YXC",
    "ZYXC",
    "ZYXS",
    "SYX",
    "ZTYX",
    "XY",
]
DTYPES = [
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "bool",
]
SIZES = [
    ({}, None),
    ({"Z": 2.5, "Y": 0.31, "X": 0.17}, MICROMETRE),
    ({"Z": 4, "Y": 2, "X": 2}, None),
]


def check_round_trip(path, array, axes, pixel_size, unit):
    sizes = {a: s for a, s in pixel_size.items() if a in axes}
    write_array(path, array, axes, pixel_size=sizes, unit=unit)
    info = open_image(path).info
    stored = np.uint8 if array.dtype == bool else array.dtype
    assert (info.axes, info.shape, info.dtype, info.unit) == (axes, array.shape, stored, unit)
    assert info.pixel_size == pytest.approx(sizes, rel=1e-6)
    assert "assumed" not in info.note
    np.testing.assert_array_equal(tifffile.imread(path).squeeze(), array.squeeze())
    for ndim in (2, 3) if info.is_volume else (2,):
        image = open_image(path, ndim=ndim)
        again = path.with_name("again.tif")
        write_image(again, (image.read(f) for f in range(image.frames)), image)
        other = open_image(again).info
        assert (other.axes, other.shape, other.dtype) == (info.axes, info.shape, info.dtype)
        assert other.unit == info.unit
        assert other.pixel_size == pytest.approx(info.pixel_size, rel=1e-6)
        np.testing.assert_array_equal(tifffile.imread(again).squeeze(), array.squeeze())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axes", AXES)
def test_round_trip(tmp_path, axes, dtype):
    for number, (pixel_size, unit) in enumerate(SIZES):
        check_round_trip(tmp_path / f"{number}.tif", sample(axes, dtype), axes, pixel_size, unit)


@pytest.mark.parametrize("axes", AXES)
def test_axes_of_length_one_are_kept(tmp_path, axes):
    for axis in axes:
        array = sample(axes, "uint16", **{axis: 1})
        check_round_trip(tmp_path / "a.tif", array, axes, *SIZES[1])
    check_round_trip(tmp_path / "a.tif", sample(axes, **dict.fromkeys(axes, 1)), axes, {}, None)


@settings(deadline=None, max_examples=60)
@given(
    axes=st.sampled_from(
        ["".join(p) for n in range(4) for p in permutations("TCZYX", n + 2) if {"Y", "X"} <= set(p)]
    ),
    dtype=st.sampled_from(DTYPES),
    lengths=st.tuples(*[st.integers(1, 7)] * 5),
    size=st.sampled_from(SIZES),
)
def test_round_trip_of_any_order(tmp_path_factory, axes, dtype, lengths, size):
    array = sample(axes, dtype, **dict(zip("TCZYX", lengths, strict=True)))
    check_round_trip(tmp_path_factory.mktemp("any") / "a.tif", array, axes, *size)


def test_other_programs_see_an_imagej_hyperstack_or_ome(tmp_path):
    for axes, dtype, kind in [
        ("TZCYX", "uint16", "imagej"),
        ("ZCYX", "int32", "ome"),
        ("YXS", "uint8", "shaped"),
    ]:
        write_array(tmp_path / "a.tif", sample(axes, dtype), axes)
        with tifffile.TiffFile(tmp_path / "a.tif") as tif:
            assert (tif.series[0].kind, tif.series[0].axes) == (kind, axes)
            colour = tif.pages.first.photometric == tifffile.PHOTOMETRIC.RGB
            assert colour == (axes == "YXS")
            assert tif.pages.first.compression == tifffile.COMPRESSION.ADOBE_DEFLATE


def test_opacity_is_kept(tmp_path):
    array = pixels((9, 9, 4))
    write_array(tmp_path / "a.tif", array, "YXS")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.pages.first.extrasamples == (tifffile.EXTRASAMPLE.UNASSALPHA,)
    assert "opacity" in open_image(tmp_path / "a.tif").info.note


@pytest.mark.parametrize(
    ("axes", "channels", "kept", "shape"),
    [
        ("ZCYX", (1,), "ZCYX", (6, 1, 33, 47)),
        ("YXS", (2, 0), "YXS", (33, 47, 2)),
        ("YXS", (1,), "YXS", (33, 47, 1)),
        ("CYXS", (0, 4), "CYX", (2, 33, 47)),
        ("CYXS", None, "CYXS", (2, 33, 47, 3)),
    ],
)
def test_only_chosen_channels_are_written(tmp_path, axes, channels, kept, shape):
    array = sample(axes, "uint16")
    image = memory_image(array, axes, 2, channels=channels)
    write_image(tmp_path / "a.tif", [image.read(f) for f in range(image.frames)], image)
    found = open_image(tmp_path / "a.tif", ndim=2)
    assert (found.info.axes, found.info.shape) == (kept, shape)
    for number, frame in enumerate(as_frames(array, axes, 2)):
        expected = frame if channels is None else frame[list(channels)]
        np.testing.assert_array_equal(found.read(number), expected)


def test_float_results_are_rounded_and_clipped_into_integers(tmp_path):
    image = memory_image(pixels((1, 6)), "YX")
    values = np.array([[[-3.0, 0.49, 0.51, 254.6, 255.4, 900.0]]], np.float32)
    write_image(tmp_path / "a.tif", [values], image)
    assert open_image(tmp_path / "a.tif").read(0).tolist() == [[[0, 0, 1, 255, 255, 255]]]
    write_image(tmp_path / "b.tif", [values], image, dtype=np.dtype(np.float32))
    np.testing.assert_array_equal(open_image(tmp_path / "b.tif").read(0), values)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d[0] in "ui"])
def test_to_integers_of_every_width(dtype):
    limits = np.iinfo(dtype)
    values = np.array([-np.inf, -1e30, limits.min, 1.5, 2.5, limits.max, 1e30, np.inf, np.nan])
    found = to_dtype(values, np.dtype(dtype))
    assert found.dtype == dtype
    assert found[:3].tolist() == [limits.min] * 3
    assert found[3:5].tolist() == [2, 2]
    assert all(int(v) == pytest.approx(limits.max, rel=1e-6) for v in found[5:8])
    assert found[8] == 0
    assert to_dtype(np.array([-5, 300]), np.dtype(dtype)).tolist() == [
        max(-5, limits.min),
        min(300, limits.max),
    ]


def test_to_narrower_floats_stays_finite():
    found = to_dtype(np.array([1e9, -1e9, np.nan, np.inf]), np.dtype(np.float16))
    np.testing.assert_array_equal(found, np.array([65504, -65504, np.nan, np.inf], np.float16))


def test_wrong_number_of_frames_is_refused(tmp_path):
    image = memory_image(sample("TYX"), "TYX")
    with pytest.raises(ValueError, match="2 frames given for 3"):
        write_image(tmp_path / "a.tif", [image.read(0), image.read(1)], image)
    assert list(tmp_path.iterdir()) == []


def test_large_images_become_bigtiff(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "_LARGE", 1000)
    for axes in ("ZYX", "ZYXC"):
        check_round_trip(tmp_path / "a.tif", sample(axes), axes, *SIZES[1])
        with tifffile.TiffFile(tmp_path / "a.tif") as tif:
            assert tif.is_bigtiff


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "new" / "a.tif"
    write_array(path, sample("YX"), "YX")
    before = path.read_bytes()

    def fail(file, *_args, **_options):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writers.tifffile, "imwrite", fail)
    with pytest.raises(ConfigError, match=r"a.tif: cannot be written \(No space left on device\)"):
        write_array(path, sample("YX"), "YX")
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["a.tif"]


def test_who_reads_the_old_file_reads_it_to_its_end(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with (tmp_path / "a.txt").open() as old:
        write_text(tmp_path / "a.txt", "new")
        assert old.read() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "hello")


def test_bytes_and_text(tmp_path):
    write_bytes(tmp_path / "a" / "b.bin", b"\x00\xff")
    write_text(tmp_path / "a" / "c.txt", "\N{MICRO SIGN}m\n")
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"\x00\xff"
    assert (tmp_path / "a" / "c.txt").read_bytes() == "\N{MICRO SIGN}m\n".encode()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["b.bin", "c.txt"]
