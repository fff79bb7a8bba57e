"""Damaged files: never a traceback, never a stack taken for a flat image, never a bomb."""

# ruff: noqa: TID251

from __future__ import annotations

import io
import re
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from image_samples import pixels, sample

from napari_ssl_pretrain.data.opening import open_image
from napari_ssl_pretrain.errors import ConfigError, DataError

STACKS = {
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "imagej-zlib": {"imagej": True, "metadata": {"axes": "ZYX"}, "compression": "zlib"},
    "ome": {"ome": True, "metadata": {"axes": "ZYX"}, "compression": "zlib"},
    "tifffile": {"metadata": {"axes": "ZYX"}},
    "pages": {"metadata": None},
    "pages-zlib": {"metadata": None, "compression": "zlib"},
    "bigtiff-tiles": {"metadata": {"axes": "ZYX"}, "bigtiff": True, "tile": (16, 16)},
}


def encoded(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, photometric="minisblack", **options)
    return file.getvalue()


@pytest.mark.parametrize("sort", STACKS)
def test_truncated_stack_is_refused_wherever_it_is_cut(tmp_path, sort):
    array = sample("ZYX")
    data = encoded(array, **STACKS[sort])
    path = tmp_path / "a.tif"
    rules = []
    cuts = [*range(8, len(data) - 1, len(data) // 60), len(data) - 1]
    for cut in cuts:
        path.write_bytes(data[:cut])
        try:
            image = open_image(path)
        except DataError as error:
            rules.append(error.rule)
        else:  # only bytes behind the last pixel and its tables are gone
            assert image.info.shape == array.shape
            np.testing.assert_array_equal(image.read(0)[0], array)
    assert len(rules) >= len(cuts) - 2
    assert all("is truncated" in rule for rule in rules)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_truncated_flat_image_is_refused(tmp_path, compression):
    data = encoded(sample("YX"), compression=compression)
    (tmp_path / "a.tif").write_bytes(data[:-1])
    with pytest.raises(DataError, match=f"holds {len(data) - 1} bytes, fewer than the {len(data)}"):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize("sort", ["imagej", "ome", "tifffile"])
def test_stack_whose_pages_are_lost_is_no_flat_image(tmp_path, sort):
    """The chain of pages ends after the first, though the description counts six."""
    data = bytearray(encoded(sample("ZYX"), **STACKS[sort] | {"compression": "zlib"}))
    count = struct.unpack("<H", data[8:10])[0]
    data[10 + 12 * count : 14 + 12 * count] = bytes(4)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(DataError, match=r"6 planes and has 1|truncated and lacks planes"):
        open_image(tmp_path / "a.tif")


def test_imagej_stack_that_lists_one_page_is_read_whole(tmp_path):
    """ImageJ lists only the first page of stacks beyond 4 GB; the planes follow in one piece."""
    array = sample("ZYX")
    data = bytearray(encoded(array, imagej=True, metadata={"axes": "ZYX"}))
    count = struct.unpack("<H", data[8:10])[0]
    data[10 + 12 * count : 14 + 12 * count] = bytes(4)
    (tmp_path / "a.tif").write_bytes(data)
    image = open_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.read(0)[0], array)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        end = tif.series[0].dataoffset + array.nbytes
    (tmp_path / "a.tif").write_bytes(data[: end - 1])
    with pytest.raises(DataError, match="is truncated"):
        open_image(tmp_path / "a.tif")


def test_ome_set_of_several_files_is_read_whole_once(tmp_path):
    array = sample("ZYX", Z=3)
    first = io.BytesIO()
    tifffile.imwrite(first, array, ome=True, metadata={"axes": "ZYX"}, photometric="minisblack")
    first.seek(0)
    xml = tifffile.TiffFile(first).ome_metadata
    uuid = "urn:uuid:00000000-0000-0000-0000-00000000000"
    parts = "".join(
        f'<TiffData IFD="0" FirstZ="{z}" PlaneCount="1">'
        f'<UUID FileName="{z}.tif">{uuid}{z}</UUID></TiffData>'
        for z in range(3)
    )
    start, end = xml.index("<TiffData"), xml.index("</Pixels>")
    xml = xml[:start] + parts + xml[end:]
    for z in range(3):
        own = re.sub(r'UUID="[^"]*"', f'UUID="{uuid}{z}"', xml, count=1)
        tifffile.imwrite(tmp_path / f"{z}.tif", array[z], description=own, metadata=None)
    image = open_image(tmp_path / "0.tif")
    assert image.info.axes == "ZYX"
    np.testing.assert_array_equal(image.read(0)[0], array)
    with pytest.raises(DataError, match=r"is a part of 0.tif, which is read whole"):
        open_image(tmp_path / "1.tif")
    (tmp_path / "2.tif").unlink()
    with pytest.raises(DataError, match="first of several files, of which some are missing"):
        open_image(tmp_path / "0.tif")


@pytest.mark.parametrize(
    ("name", "data", "rule"),
    [
        ("a.tif", b"", "is empty (0 bytes)"),
        ("a.tif", b"II*\x00", "is truncated"),
        ("a.tif", b"hello, world", "is a text file, not a TIFF file as its name says"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "is truncated"),
        ("a.jpg", b"\xff\xd8\xff\xe0" + bytes(99), "has no frame header"),
        ("a.tif", bytes(99), "is no TIFF file, though its name says so"),
        ("a.npy", b"\x93NUMPY\x01\x00", "cannot be read"),
        ("notes.txt", b"hello", "is a text file"),
        ("notes", b"\1\2\3", "is none of TIFF, PNG, JPEG, OME-Zarr and NPY"),
    ],
)
def test_stumps_and_strangers(tmp_path, name, data, rule):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as caught:
        open_image(tmp_path / name)
    assert caught.value.rule.startswith(rule)
    assert caught.value.subject == str(tmp_path / name)
    assert caught.value.remedy.endswith(".")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        open_image(tmp_path / "a.tif")
    with pytest.raises(DataError, match="is a folder, not an image"):
        open_image(tmp_path)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_truncated_png_jpeg_npy(tmp_path, share):
    file = io.BytesIO()
    np.save(file, sample("YX"))
    whole = {
        "a.png": imagecodecs.png_encode(sample("YX")),
        "a.jpg": imagecodecs.jpeg_encode(sample("YX")),
        "a.npy": file.getvalue(),
    }
    for name, data in whole.items():
        (tmp_path / name).write_bytes(data)
        open_image(tmp_path / name)
        (tmp_path / name).write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DataError, match=r"truncated|cannot be read \(EOF"):
            open_image(tmp_path / name)


def chunk(name, content):
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def test_more_pixels_than_the_file_can_hold_are_refused(tmp_path):
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    with pytest.raises(DataError, match="60000 x 60000 pixels, more than"):
        open_image(tmp_path / "a.png")
    for options, rule in (
        ({"compression": "zlib", "rowsperstrip": 9999}, "bytes of pixels, more than"),
        ({"compression": "zlib"}, "strips or tiles are needed"),
        ({}, "."),
    ):
        data = bytearray(encoded(pixels((64, 64)), metadata=None, **options))
        count = struct.unpack("<H", data[8:10])[0]
        for entry in range(10, 10 + 12 * count, 12):
            tag = struct.unpack_from("<H", data, entry)[0]
            if tag in (256, 257, 278) and (tag != 278 or "rowsperstrip" in options):
                struct.pack_into("<HIHH", data, entry + 2, 3, 1, 65000, 0)
        (tmp_path / "a.tif").write_bytes(data)
        with pytest.raises(DataError, match=rule):
            open_image(tmp_path / "a.tif")


def test_pixels_that_do_not_decode_name_the_file(tmp_path):
    data = bytearray(encoded(sample("YX"), compression="zlib", metadata=None))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as tif:
        offset = tif.pages.first.dataoffsets[0]
    data[offset + 20 : offset + 60] = bytes(40)
    (tmp_path / "a.tif").write_bytes(data)
    image = open_image(tmp_path / "a.tif")
    with pytest.raises(DataError) as caught:
        image.read(0)
    assert str(caught.value).startswith(f"{tmp_path / 'a.tif'}: cannot be decoded (")
    assert "\n" not in str(caught.value)


def test_file_that_shrinks_after_the_survey_names_itself(tmp_path):
    for options in ({}, {"compression": "zlib"}):
        data = encoded(sample("ZYX"), metadata={"axes": "ZYX"}, **options)
        (tmp_path / "a.tif").write_bytes(data)
        image = open_image(tmp_path / "a.tif")
        (tmp_path / "a.tif").write_bytes(data[:700])
        with pytest.raises(DataError, match=r"is truncated|cannot be"):
            image.read(0)
        (tmp_path / "a.tif").unlink()
        with pytest.raises(DataError, match="is gone"):
            image.read(0)


@pytest.mark.parametrize("sort", ["tif", "tif-zlib", "ome", "imagej", "png", "jpg", "npy"])
def test_random_damage_never_escapes(tmp_path, sort):
    """Bytes changed at random: an image, or one sentence that names the file."""
    file = io.BytesIO()
    np.save(file, sample("YX"))
    data = {
        "tif": lambda: encoded(sample("ZYX"), metadata={"axes": "ZYX"}),
        "tif-zlib": lambda: encoded(sample("ZYX"), compression="zlib", metadata={"axes": "ZYX"}),
        "ome": lambda: encoded(sample("ZYX"), ome=True, metadata={"axes": "ZYX"}),
        "imagej": lambda: encoded(sample("ZYX"), imagej=True, metadata={"axes": "ZYX"}),
        "png": lambda: imagecodecs.png_encode(sample("YXS")),
        "jpg": lambda: imagecodecs.jpeg_encode(sample("YXS")),
        "npy": file.getvalue,
    }[sort]()
    rng = np.random.default_rng(len(data))
    path = tmp_path / f"a.{sort[:3]}"
    told = []
    for _ in range(150):
        broken = np.frombuffer(data, np.uint8).copy()
        where = rng.integers(0, min(len(data), 600), rng.integers(1, 6))
        broken[where] = rng.integers(0, 256, len(where))
        path.write_bytes(broken.tobytes())
        try:
            image = open_image(path)
            if np.prod(image.info.shape, dtype=float) < 1e7:
                image.read(0)
        except (DataError, ConfigError) as error:
            told.append(str(error))
    assert told
    assert all(path.name in text and "\n" not in text for text in told)
