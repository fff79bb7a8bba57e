"""TIFF files of every sort give the numbers that tifffile gives, whole and by box."""

# ruff: noqa: TID251

from __future__ import annotations

import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from image_samples import as_frames, pixels, random_boxes, sample

from napari_ssl_pretrain.data import tiff, tiff_pixels
from napari_ssl_pretrain.data.opening import open_image
from napari_ssl_pretrain.data.tiff_bounds import claimed
from napari_ssl_pretrain.data.tiff_set import open_tiff
from napari_ssl_pretrain.data.units import MICROMETRE

AXES = ["YX", "CYX", "ZYX", "ZCYX", "TYX", "YXS", "SYX", "ZYXS"]
LAYOUTS = [
    {},
    {"byteorder": ">"},
    {"bigtiff": True},
    {"rowsperstrip": 7},
    {"compression": "zlib"},
    {"compression": "zlib", "predictor": True, "rowsperstrip": 5},
    {"compression": "lzw", "tile": (16, 32)},
    {"compression": "zstd", "byteorder": ">", "tile": (32, 16)},
    {"tile": (16, 16), "bigtiff": True},
    {"compression": "packbits"},
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
]


def save(path, array, axes, **options):
    if "S" in axes:
        planar = "separate" if axes[-1] != "S" else "contig"
        options |= {"photometric": "rgb", "planarconfig": planar}
    else:
        options |= {"photometric": "minisblack"}
    tifffile.imwrite(path, array, metadata={"axes": axes}, **options)


def check_frames(image, frames):
    assert image.frames == len(frames)
    for number, frame in enumerate(frames):
        read = image.read(number)
        np.testing.assert_array_equal(read, frame)
        assert read.dtype == frame.dtype
        assert read.dtype.isnative
        assert read.flags.c_contiguous
        for box in random_boxes(image.spatial, 3, number):
            np.testing.assert_array_equal(image.read(number, box), frame[(slice(None), *box)])


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda o: "-".join(map(str, o.values())) or "plain")
@pytest.mark.parametrize("axes", AXES)
def test_layouts(tmp_path, axes, layout):
    array = sample(axes, "uint16")
    save(tmp_path / "a.tif", array, axes, **layout)
    for ndim in (2, 3) if "Z" in axes else (2,):
        image = open_image(tmp_path / "a.tif", ndim=ndim)
        assert (image.info.axes, image.info.shape) == (axes, array.shape)
        assert image.info.note == ""
        check_frames(image, as_frames(array, axes, ndim))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(tmp_path, dtype, compression):
    array = sample("ZCYX", dtype)
    save(tmp_path / "a.tif", array, "ZCYX", compression=compression)
    image = open_image(tmp_path / "a.tif")
    assert image.info.dtype == dtype
    check_frames(image, as_frames(array, "ZCYX", 3))


@pytest.mark.parametrize("compression", ["jpeg", "jpegxl", "jpeg2000", "webp", "lzma"])
def test_picture_codecs(tmp_path, compression):
    save(tmp_path / "a.tif", sample("YXS"), "YXS", compression=compression)
    expected = tifffile.imread(tmp_path / "a.tif")  # some of them lose a little
    check_frames(open_image(tmp_path / "a.tif"), as_frames(expected, "YXS", 2))


def test_volumetric_tiles(tmp_path):
    array = sample("ZYX", Z=20)
    options = {"tile": (16, 16, 16), "volumetric": True, "photometric": "minisblack"}
    for compression in (None, "zlib"):
        tifffile.imwrite(tmp_path / "a.tif", array, compression=compression, **options)
        check_frames(open_image(tmp_path / "a.tif", "ZYX"), as_frames(array, "ZYX", 3))


def test_bits_are_read_as_0_and_1(tmp_path):
    array = sample("YX", bool)
    tifffile.imwrite(tmp_path / "a.tif", array)
    image = open_image(tmp_path / "a.tif")
    assert image.info.dtype == np.uint8
    assert image.info.note == "has 1 bit a pixel, read as 0 and 1"
    check_frames(image, [array.astype(np.uint8)[None]])


def test_notes_of_opacity_colour_table_and_series(tmp_path):
    tifffile.imwrite(tmp_path / "rgba.tif", pixels((9, 9, 4)), photometric="rgb")
    image = open_image(tmp_path / "rgba.tif")
    assert image.in_channels == 4
    assert "opacity among them; each is a channel" in image.info.note
    table = np.zeros((3, 256), np.uint16)
    tifffile.imwrite(tmp_path / "lut.tif", pixels((9, 9)), photometric="palette", colormap=table)
    assert "colour table, which is left out" in open_image(tmp_path / "lut.tif").info.note
    first = pixels((9, 9))
    with tifffile.TiffWriter(tmp_path / "two.tif") as tif:
        tif.write(first)
        tif.write(pixels((5, 5), "uint16"))
    image = open_image(tmp_path / "two.tif")
    assert image.info.note == "holds 2 series, the first is used"
    check_frames(image, [first[None]])


def test_pyramid_is_read_at_its_finest_level(tmp_path):
    array = pixels((2, 64, 64))
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        options = {"tile": (16, 16), "photometric": "minisblack"}
        tif.write(array, subifds=1, metadata={"axes": "CYX"}, **options)
        tif.write(array[:, ::2, ::2], subfiletype=1, **options)
    image = open_image(tmp_path / "a.ome.tif")
    assert image.info.name == "a"
    check_frames(image, [array])


def test_one_tile_of_many_is_decoded_for_a_small_box(tmp_path, monkeypatch):
    array = pixels((256, 256))
    save(tmp_path / "a.tif", array, "YX", tile=(32, 32), compression="zlib")
    image = open_image(tmp_path / "a.tif")
    image.read(0, (slice(0, 1), slice(0, 1)))
    touched = []
    plain = tiff_pixels.TiffPixels._segment
    monkeypatch.setattr(
        tiff_pixels.TiffPixels,
        "_segment",
        lambda self, file, page, segment: (
            touched.append(segment) or plain(self, file, page, segment)
        ),
    )
    box = (slice(40, 60), slice(70, 90))
    np.testing.assert_array_equal(image.read(0, box), array[None][(slice(None), *box)])
    assert touched == [8 + 2]


def test_plain_file_is_mapped_not_loaded(tmp_path):
    """256 MB of holes on disk: a box of it costs a hundredth of them in memory."""
    path = tmp_path / "large.tif"
    tifffile.imwrite(path, shape=(64, 1024, 4096), dtype="uint8", metadata={"axes": "ZYX"})
    image = open_image(path)
    tracemalloc.start()
    box = image.read(0, (slice(3, 5), slice(9, 12), slice(100, 104)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert box.shape == (1, 2, 3, 4)
    assert peak < 2 << 20


@pytest.mark.parametrize("axes", AXES)
def test_a_large_box_is_mapped_part_by_part(tmp_path, monkeypatch, axes):
    """What a map has been looked at counts as memory until it is closed."""
    array = sample(axes, "uint16")
    save(tmp_path / "a.tif", array, axes)
    monkeypatch.setattr(tiff_pixels, "MAPPED_BYTES", 2 * array[0, 0].nbytes)
    mapped, plain = [], np.memmap
    monkeypatch.setattr(tiff_pixels.np, "memmap", lambda *a: mapped.append(a) or plain(*a))
    image = open_image(tmp_path / "a.tif", ndim=2 + ("Z" in axes))
    frames = as_frames(array, axes, image.ndim)
    image.read(0)
    assert len(mapped) > 1
    check_frames(image, frames)


def test_threads_read_what_one_reads(tmp_path):
    array = sample("ZYX", Z=40)
    save(tmp_path / "a.tif", array, "ZYX", compression="zlib", tile=(16, 16))
    image = open_image(tmp_path / "a.tif", ndim=2)
    with ThreadPoolExecutor(8) as pool:
        frames = list(pool.map(image.read, [*range(40)] * 3))
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(frame[0], array[number % 40])


@pytest.mark.parametrize(
    ("options", "size", "unit"),
    [
        (
            {
                "imagej": True,
                "resolution": (4, 2),
                "metadata": {"axes": "ZYX", "spacing": 2.5, "unit": "um"},
            },
            {"Z": 2.5, "Y": 0.5, "X": 0.25},
            MICROMETRE,
        ),
        (
            {"imagej": True, "resolution": (4, 4), "metadata": {"axes": "ZYX", "spacing": 2.5}},
            {"Z": 2.5, "Y": 0.25, "X": 0.25},
            None,
        ),
        ({"imagej": True, "metadata": {"axes": "ZYX"}}, {}, None),
        (
            {
                "ome": True,
                "metadata": {
                    "axes": "ZYX",
                    "PhysicalSizeX": 0.5,
                    "PhysicalSizeY": 500,
                    "PhysicalSizeYUnit": "nm",
                    "PhysicalSizeZ": 2,
                },
            },
            {"Z": 2, "Y": 0.5, "X": 0.5},
            MICROMETRE,
        ),
        (
            {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER", "metadata": {"axes": "ZYX"}},
            {"Y": 0.5, "X": 0.5},
            MICROMETRE,
        ),
        ({"resolution": (72, 72), "resolutionunit": "INCH", "metadata": {"axes": "ZYX"}}, {}, None),
    ],
    ids=["imagej", "imagej-no-unit", "imagej-unset", "ome-mixed-units", "centimetres", "printer"],
)
def test_pixel_size(tmp_path, options, size, unit):
    tifffile.imwrite(tmp_path / "a.tif", sample("ZYX"), photometric="minisblack", **options)
    image = open_image(tmp_path / "a.tif")
    assert image.info.pixel_size == pytest.approx(size)
    assert image.info.unit == unit
    known = len(size) == 3
    expected = pytest.approx(tuple(size[a] for a in "ZYX")) if known else None
    assert image.voxel_size == expected


def test_headers_that_differ_in_nothing_are_read_once(tmp_path, monkeypatch):
    opened = []

    def spy(path):
        opened.append(path.name)
        return open_tiff(path)

    monkeypatch.setattr(tiff, "open_tiff", spy)
    random = np.random.default_rng(0)
    arrays = {name: random.integers(0, 255, (20, 30)).astype(np.uint8) for name in "abc"}
    for name, array in arrays.items():
        dots = (2.0, 2.0) if name == "c" else (4.0, 4.0)
        options = {"imagej": True, "resolution": dots, "metadata": {"unit": "um"}}
        tifffile.imwrite(tmp_path / f"{name}.tif", array, **options)
    images = {name: open_image(tmp_path / f"{name}.tif") for name in "abc"}
    assert opened == ["a.tif", "c.tif"]
    sizes = [images[name].info.pixel_size["X"] for name in "abc"]
    assert sizes == pytest.approx([0.25, 0.25, 0.5])
    for name, image in images.items():
        np.testing.assert_array_equal(image.read(0)[0], arrays[name])
        assert image.info.path.name == f"{name}.tif"


def test_a_description_among_the_pixels_is_no_header_that_others_have(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((20, 30), np.uint8), description="x" * 40)
    assert claimed(path).pixels is not None
    with tifffile.TiffFile(path) as tif:
        entry, pixels = tif.pages.first.tags[270].offset, tif.pages.first.dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[entry + 8 : entry + 12] = struct.pack("<I", pixels + 5)
    path.write_bytes(data)
    assert claimed(path).pixels is None
