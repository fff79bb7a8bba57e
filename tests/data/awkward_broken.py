"""Files of other programs, and what bad disks and broken transfers leave."""

from __future__ import annotations

import gzip
import io
import struct

import imagecodecs
import numpy as np
import tifffile
from awkward_files import Awkward, image, raw_tiff, stk, tiff_bytes, written
from awkward_others import png
from PIL import Image as Picture

STRANGERS = {
    "picture.bmp": b"BM" + bytes(99),
    "picture.gif": b"GIF89a" + bytes(99),
    "picture.webp": b"RIFF\x10\0\0\0WEBPVP8 " + bytes(99),
    "picture.jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99),
    "picture.jxl": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99),
    "picture.heic": b"\0\0\0\x18ftypheic" + bytes(99),
    "scan.czi": b"ZISRAWFILE\0\0\0\0\0\0" + bytes(99),
    "scan.lif": b"\x70\0\0\0\x10\0\0\0\x2a\x05\0\0\0" + bytes(99),
    "scan.nd2": b"\xda\xce\xbe\x0a\x10\0\0\0" + b"ND2 FILE SIGNATURE CHUNK NAME01!",
    "scan.oib": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99),
    "scan.oir": b"OLYMPUSRAWFORMAT" + bytes(99),
    "scan.ims": b"\x89HDF\r\n\x1a\n" + bytes(99),
    "scan.h5": b"\x89HDF\r\n\x1a\n" + bytes(99),
    "scan.dcm": bytes(128) + b"DICM" + bytes(99),
    "scan.nii": struct.pack("<i", 348) + bytes(340) + b"n+1\0",
    "scan.nii.gz": gzip.compress(struct.pack("<i", 348) + bytes(340) + b"n+1\0"),
    "scan.mrc": struct.pack("<4i", 4, 4, 4, 2) + bytes(192) + b"MAP DA\0\0" + bytes(900),
    "scan.nrrd": b"NRRD0004\n# written by hand\n",
    "scan.mha": b"ObjectType = Image\nNDims = 3\n",
    "scan.ics": b"\t\nics_version\t2.0\n",
    "scan.ids": bytes(99),
    "scan.dv": bytes(96) + b"\xa0\xc0" + bytes(99),
    "scan.fits": b"SIMPLE  =                    T" + bytes(99),
    "scan.mat": b"MATLAB 5.0 MAT-file" + bytes(99),
    "scan.vsi.ets": b"SIS\0" + bytes(99),
    "film.avi": b"RIFF\x10\0\0\0AVI LIST" + bytes(99),
    "film.mp4": b"\0\0\0\x18ftypmp42" + bytes(99),
    "paper.pdf": b"%PDF-1.7\n",
    "archive.zip": b"PK\x03\x04" + bytes(99),
    "archive.tif.gz": gzip.compress(b"II*\0"),
    "notes.txt": b"hello",
    "table.csv": b"a,b\n1,2\n",
    "text.tif": b"hello, this is no image at all",
    "page.png": b"<!DOCTYPE html><html>404 Not Found</html>",
    "empty.tif": b"",
    "zeros.tif": bytes(4096),
    "pointer.tif": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
}


def cut(data, where):
    """The first bytes of a file."""
    return written(data[:where], told="truncated|cannot be|no header|empty")


def lost_pages(sort):
    """A stack whose chain of pages ends after the first."""
    data = bytearray(tiff_bytes(image("ZYX"), compression="zlib", metadata={"axes": "ZYX"}, **sort))
    count = struct.unpack("<H", data[8:10])[0]
    data[10 + 12 * count : 14 + 12 * count] = bytes(4)
    return written(bytes(data), told="planes|truncated")


def tags_changed(data, **numbers):
    """A TIFF of one page with other numbers in its directory; ``t273=5`` sets tag 273."""
    data = bytearray(data)
    count = struct.unpack("<H", data[8:10])[0]
    for entry in range(10, 10 + 12 * count, 12):
        tag = struct.unpack_from("<H", data, entry)[0]
        if f"t{tag}" in numbers:
            struct.pack_into("<HII", data, entry + 2, 4, 1, numbers[f"t{tag}"])
    return bytes(data)


def of_broken():
    """What bad disks and broken transfers leave."""
    flat, volume = image("YX"), image("ZYX")
    whole = {
        "plain.tif": tiff_bytes(volume, metadata={"axes": "ZYX"}),
        "imagej.tif": tiff_bytes(volume, imagej=True, metadata={"axes": "ZYX"}),
        "ome.tif": tiff_bytes(volume, ome=True, metadata={"axes": "ZYX"}, compression="zlib"),
        "pages.tif": tiff_bytes(volume, metadata=None, compression="lzw"),
        "big.tif": tiff_bytes(volume, bigtiff=True, metadata={"axes": "ZYX"}, tile=(16, 16)),
        "flat.tif": tiff_bytes(flat),
        "stack.stk": stk(6, volume.tobytes()),
        "grey.png": imagecodecs.png_encode(flat),
        "grey.jpg": imagecodecs.jpeg_encode(flat),
    }
    table = {
        f"cut-{share}-{name}": cut(data, int(len(data) * share / 100))
        for name, data in whole.items()
        for share in (1, 30, 60, 90, 99)
    }
    one = tiff_bytes(flat, metadata=None, rowsperstrip=40)
    squeezed = tiff_bytes(flat, metadata=None, rowsperstrip=40, compression="zlib")
    return table | {
        "lost-pages.tif": lost_pages({}),
        "lost-pages-imagej.tif": lost_pages({"imagej": True}),
        "lost-pages-ome.tif": lost_pages({"ome": True}),
        "far-directory.tif": written(b"II*\0" + struct.pack("<I", 10**9) + bytes(99), told="trunc"),
        "far-strip.tif": written(tags_changed(one, t273=10**8), told="truncated"),
        "short-strip.tif": written(tags_changed(one, t279=900), flat, "YX"),
        "short-packed-strip.tif": written(tags_changed(squeezed, t279=900), told="."),
        "no-strip.tif": written(tags_changed(one, t279=0), told="."),
        "no-offset.tif": written(tags_changed(one, t273=0), told="."),
        "no-strip-packed.tif": written(tags_changed(squeezed, t279=0, t273=0), told="."),
        "no-width.tif": written(tags_changed(one, t256=0), told="."),
        "loop-of-pages.tif": written(loop_of_pages(), told="."),
        "header-alone.tif": written(b"II*\0\x08\0\0\0", told="truncated"),
        "no-pages.tif": written(b"II*\0\0\0\0\0" + bytes(99), told="."),
        "no-strips-tag.tif": written(without_strips(), told="."),
        "strange-compression.tif": written(tags_changed(squeezed, t259=60_000), told="."),
        "sparse-strips.tif": Awkward(sparse_strips, told="."),
        "lost-idat.png": written(
            png(struct.pack(">IIBBBBB", 50, 40, 8, 0, 0, 0, 0), bytes(900)), told="."
        ),
        "no-header.png": written(b"\x89PNG\r\n\x1a\n\0\0\0\0IEND\xaeB`\x82", told="no header"),
        "thumbnail-left.jpg": written(thumbnail_left(), told="."),
        "cut.npy": written(saved_npy(volume)[:-1], told="truncated"),
        "header.npy": written(saved_npy(volume)[:60], told="."),
    }


def saved_npy(array):
    """Bytes of an NPY file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def loop_of_pages():
    """A TIFF whose second directory points back to the first."""
    data = bytearray(tiff_bytes(image("ZYX", Z=2), metadata=None))
    count = struct.unpack("<H", data[8:10])[0]
    (second,) = struct.unpack_from("<I", data, 10 + 12 * count)
    count = struct.unpack_from("<H", data, second)[0]
    struct.pack_into("<I", data, second + 2 + 12 * count, 8)
    return bytes(data)


def without_strips():
    """A TIFF that does not say where its pixels are."""
    tags = [(256, 3, [50]), (257, 3, [40]), (258, 3, [8]), (259, 3, [1]), (262, 3, [1])]
    return raw_tiff(tags, bytes(2000))


def sparse_strips(path):
    """A stack of which a writer that died left the last planes without strips."""
    data = bytearray(tiff_bytes(image("ZYX"), metadata=None, compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as tif:
        places = [
            t.valueoffset for p in list(tif.pages)[3:] for t in p.tags if t.code in (273, 279)
        ]
    for place in places:
        data[place : place + 4] = bytes(4)
    path.write_bytes(data)


def thumbnail_left():
    """A photograph cut within its pixels, with a whole thumbnail in its header."""
    small = io.BytesIO()
    Picture.fromarray(image("YX", Y=20, X=20)).save(small, "jpeg")
    content = b"Exif\0\0" + small.getvalue()
    whole = io.BytesIO()
    Picture.fromarray(image("YX", Y=300, X=300)).save(whole, "jpeg", quality=90)
    data = whole.getvalue()
    with_small = data[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + data[2:]
    return with_small[: len(with_small) // 2]


FOREIGN = {name: written(data, told=".") for name, data in STRANGERS.items()}
BROKEN = of_broken()
