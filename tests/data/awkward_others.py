"""Pictures, NPY and Zarr of every sort."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zlib

import imagecodecs
import numpy as np
import zarr
from awkward_files import Awkward, image, tiff_bytes, written
from PIL import Image as Picture


def picture(make, mode="", axes="YX", told="", **options):
    """A file written by Pillow; Pillow says what has to be read."""

    def write(path):
        made = make() if callable(make) else Picture.fromarray(make)
        made.save(path, **options)
        back = Picture.open(path)
        return np.asarray(back.convert(mode) if mode else back)

    return Awkward(write, axes, told)


def of_pictures():
    """PNG and JPEG of every sort."""
    grey, colour, deep = image("YX"), image("YXS"), image("YX", "uint16") * 500
    opaque, rich = image("YXS", S=4), image("YXS", "uint16") * 500

    def table(colors):
        return lambda: Picture.fromarray(colour).quantize(colors)

    def encoded(array, axes):
        return written(lambda: imagecodecs.png_encode(array), array, axes)

    exif = Picture.Exif()
    exif[0x0112] = 6
    return {
        "grey.png": picture(grey),
        "bits-1.png": picture(grey > 60, "L", told="1 bit"),
        "bits-16.png": encoded(deep, "YX"),
        "colour.png": picture(colour, axes="YXS"),
        "colour-16.png": encoded(rich, "YXS"),
        "opacity.png": picture(opaque, axes="YXS", told="opacity"),
        "grey-opacity.png": picture(lambda: Picture.fromarray(image("YXS", S=2), "LA"), axes="YXS"),
        "palette.png": picture(table(16), "RGB", "YXS", "colour table"),
        "palette-2.png": picture(table(2), "RGB", "YXS"),
        "palette-clear.png": picture(table(16), "RGBA", "YXS", "opacity", transparency=3),
        "key-colour.png": picture(colour, "RGBA", "YXS", transparency=(1, 2, 3)),
        "text.png": picture(grey, pnginfo=None, dpi=(72, 72)),
        "interlaced.png": written(interlaced(grey), grey, "YX"),
        "moving.png": picture(
            grey, save_all=True, append_images=[Picture.fromarray(grey[::-1].copy())]
        ),
        "one.png": picture(grey[:1, :1]),
        "GREY.PNG": picture(grey),
        "grey.jpg": picture(grey),
        "colour.jpg": picture(colour, axes="YXS"),
        "progressive.jpeg": picture(colour, axes="YXS", progressive=True),
        "cmyk.jpg": picture(
            lambda: Picture.fromarray(opaque, "CMYK"), axes="YXS", told="4 samples"
        ),
        "turned.jpg": picture(colour, axes="YXS", exif=exif),
        "subsampled.jpg": picture(colour, axes="YXS", subsampling=2, quality=30),
        "png-called.tif": Awkward(
            lambda p: (p.write_bytes(imagecodecs.png_encode(grey)), grey)[1], "YX", "in spite of"
        ),
        "tif-called.png": written(lambda: tiff_bytes(grey), grey, "YX", "in spite of"),
        "no-ending": written(lambda: tiff_bytes(grey), grey, "YX"),
    }


def interlaced(array):
    """A grey PNG of Adam7, each pass a small image of its own."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
              (1, 0, 2, 1)]  # fmt: skip
    parts = [array[y::dy, x::dx] for y, x, dy, dx in passes]
    lines = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)
    head = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 8, 0, 0, 0, 1)
    return png(head, lines)


def png(head, lines, end=True):
    """Bytes of a PNG."""

    def chunk(name, content):
        checked = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checked

    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines))
    return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IEND", b"") * end


def npy(array, axes="", told="", **options):
    """An NPY file."""

    def make(path):
        with path.open("wb") as file:
            np.save(file, array, **options)
        return array

    return Awkward(make, axes, told)


def of_arrays():
    """NPY and NPZ."""
    volume = image("ZYX", "uint16")
    future = np.zeros((4, 4), [("a", "u1")])
    return {
        "plain.npy": npy(image("YX"), "YX"),
        "volume.npy": npy(volume, "ZYX", "assumed"),
        "fortran.npy": npy(np.asfortranarray(volume), "ZYX"),
        "big-endian.npy": npy(volume.astype(">u2"), "ZYX"),
        "half.npy": npy(image("YX", "float16"), "YX"),
        "bool.npy": npy(image("YX", bool), "YX"),
        "view.npy": npy(volume[::2, ::-1, ::3], "CYX", "assumed"),
        "zero-d.npy": npy(np.float32(3), told="has no pixels"),
        "one-d.npy": npy(np.arange(9), told="has 1 axes"),
        "six-d.npy": npy(np.zeros((2,) * 6), told="has 6 axes"),
        "object.npy": npy(np.array([[{}]], object), told="holds object", allow_pickle=True),
        "complex.npy": npy(np.zeros((9, 9), "c8"), told="holds complex64"),
        "record.npy": npy(future, told="holds void8"),
        "dates.npy": npy(np.zeros((9, 9), "M8[s]"), told="holds datetime64"),
        "text.npy": npy(np.full((9, 9), "a"), told="holds str"),
        "quad.npy": npy(np.zeros((9, 9), np.longdouble), told="holds float128|at most 64"),
        "empty.npy": npy(np.zeros((0, 9)), told="has no pixels"),
        "archive.npz": Awkward(lambda p: np.savez(p, a=volume), told="NPZ"),
        "archive.npy": written(lambda: saved_npz(volume), told="NPY"),
    }


def saved_npz(array):
    """Bytes of an archive of arrays."""
    file = io.BytesIO()
    np.savez(file, array)
    return file.getvalue()


def zarr_array(array, axes, told="", **options):
    """A plain Zarr array."""

    def make(path):
        given = {"chunks": tuple(min(16, n) for n in array.shape)} | options
        made = zarr.create_array(path, shape=array.shape, dtype=array.dtype, **given)
        made[:] = array
        return array

    return Awkward(make, axes, told)


def ome_zarr(array, axes, version, change=None, told="", found=None, **options):
    """An OME-Zarr image of one level; ``change`` edits its folder and metadata."""

    def make(path):
        group = zarr.open_group(path, mode="w", zarr_format=version)
        given = {"chunks": tuple(min(16, n) for n in array.shape)} | options
        group.create_array("0", shape=array.shape, dtype=array.dtype, **given)[:] = array
        kinds = {"T": "time", "C": "channel"}
        named = [{"name": a.lower(), "type": kinds.get(a, "space")} for a in axes]
        entry = [{"axes": named, "datasets": [{"path": "0", "coordinateTransformations": []}]}]
        if version == 2:
            group.attrs["multiscales"] = entry
        else:
            group.attrs["ome"] = {"version": "0.5", "multiscales": entry}
        if change is not None:
            change(path)
        return array

    return Awkward(make, axes if found is None else found, told)


def attributes(path, edit):
    """Edit the attributes of a format 2 group."""
    told = json.loads((path / ".zattrs").read_text())
    edit(told)
    (path / ".zattrs").write_text(json.dumps(told))


def of_zarr():
    """Zarr of formats 2 and 3."""
    volume = image("ZYX", "uint16")

    table = {
        f"ome-{axes}-{version}.zarr": ome_zarr(image(axes, "uint16"), axes, version)
        for axes in ("YX", "CYX", "TCZYX")
        for version in (2, 3)
    }
    return table | {
        "plain-2.zarr": zarr_array(volume, "ZYX", zarr_format=2),
        "plain-3.zarr": zarr_array(volume, "ZYX", zarr_format=3),
        "big-endian.zarr": zarr_array(volume.astype(">u2"), "ZYX", zarr_format=2),
        "float16.zarr": zarr_array(image("YX", "float16"), "YX"),
        "bool.zarr": zarr_array(image("YX", bool), "YX"),
        "fortran.zarr": zarr_array(volume, "ZYX", zarr_format=2, order="F"),
        "raw.zarr": zarr_array(volume, "ZYX", compressors=None),
        "shards.zarr": zarr_array(volume, "ZYX", chunks=(2, 10, 10), shards=(6, 40, 50)),
        "slash.zarr": zarr_array(
            volume, "ZYX", zarr_format=2, chunk_key_encoding={"name": "v2", "separator": "/"}
        ),
        "named.zarr": zarr_array(volume, "ZYX", dimension_names=["z", "y", "x"]),
        "one-chunk.zarr": zarr_array(volume, "ZYX", chunks=volume.shape),
        "complex.zarr": zarr_array(np.zeros((9, 9), "c8") + 1, "", "holds complex64"),
        "text.zarr": zarr_array(np.full((9, 9), "abc"), "", "holds str", zarr_format=2),
    }


def of_damaged_zarr():
    """Zarr whose metadata or chunks are wrong or missing."""
    volume, flat = image("ZYX", "uint16"), image("YX")

    def bad(edit, told):
        return ome_zarr(volume, "ZYX", 2, lambda p: attributes(p, edit), told, found="")

    def first(told):
        return told["multiscales"][0]

    return {
        "no-axes.zarr": bad(lambda t: first(t).pop("axes"), "names the axes TCZYX"),
        "wrong-axes.zarr": bad(lambda t: first(t)["axes"].pop(), "names the axes ZY"),
        "same-axes.zarr": bad(lambda t: first(t).update(axes=["y", "y", "x"]), "has the axes YYX"),
        "no-level.zarr": bad(lambda t: first(t)["datasets"][0].update(path="9"), "."),
        "no-datasets.zarr": bad(lambda t: first(t).pop("datasets"), "."),
        "empty-list.zarr": bad(lambda t: t.update(multiscales=[]), "."),
        "number.zarr": bad(lambda t: t.update(multiscales=7), "."),
        "scale-zero.zarr": ome_zarr(flat, "YX", 2, lambda p: attributes(p, zero_scale)),
        "plate.zarr": bad(lambda t: t.update(plate={"wells": []}), "is a plate"),
        "well.zarr": bad(lambda t: (t.clear(), t.update(well={"images": []})), "well|without"),
        "half-zarray.zarr": ome_zarr(
            volume, "ZYX", 2, lambda p: halve(p / "0" / ".zarray"), ".", found=""
        ),
        "half-zarr-json.zarr": ome_zarr(
            volume, "ZYX", 3, lambda p: halve(p / "zarr.json"), "cannot be read", found=""
        ),
        "no-pixels.zarr": ome_zarr(
            volume, "ZYX", 3, lambda p: shutil.rmtree(p / "0" / "c"), "no pixels", found=""
        ),
        "codec-unknown.zarr": ome_zarr(
            volume, "ZYX", 2, lambda p: unknown_codec(p / "0" / ".zarray"), ".", found=""
        ),
        "torn-raw.zarr": torn(compressors=None),
        "torn-blosc.zarr": torn(compressors=zarr.codecs.BloscCodec()),
        "torn-zstd.zarr": torn(compressors=zarr.codecs.ZstdCodec()),
        "torn-gzip.zarr": torn(compressors=zarr.codecs.GzipCodec()),
        "torn-shard.zarr": torn(chunks=(2, 10, 10), shards=(6, 40, 50)),
        "torn-2.zarr": torn(zarr_format=2),
        "zero-byte-chunk.zarr": torn(0.0),
        "lost-chunk.zarr": Awkward(lost_chunk, "CYX", "lacks 1 of 12 chunks, which are read as 0"),
    }


def zero_scale(told):
    """Say that pixels have no size."""
    scale = [{"type": "scale", "scale": [0, float("nan")]}]
    told["multiscales"][0]["datasets"][0]["coordinateTransformations"] = scale


def unknown_codec(path):
    """Name a codec that nobody has."""
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"compressor": {"id": "secret"}}))


def halve(path, share=0.5):
    """Lose the end of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def torn(share=0.6, **options):
    """A Zarr array of which the last chunk was not copied to its end."""

    def make(path):
        zarr_array(image("ZYX", "uint16"), "", **options).make(path)
        chunks = [
            p for p in path.rglob("*") if p.is_file() and not p.name.startswith((".z", "zarr"))
        ]
        halve(max(chunks), share)

    return Awkward(make, "", "cannot be decoded|truncated|damaged|empty")


def lost_chunk(path):
    """Zarr leaves out chunks of zeros; whether a copy lost one cannot be told, so it is noted."""
    array = image("ZYX", "uint16", Z=3).copy()
    zarr_array(array, "", zarr_format=2).make(path)
    (path / "0.1.1").unlink()
    array[:, 16:32, 16:32] = 0
    return array


OTHERS = {**of_pictures(), **of_arrays(), **of_zarr(), **of_damaged_zarr()}
