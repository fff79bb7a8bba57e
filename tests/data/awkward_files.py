"""Parts of a table of files as microscopes, programs and disks really leave them.

Each maker writes one file or folder and returns the array that has to be read from it, in the
order of its stored axes; None where the file has to be refused.
"""

# ruff: noqa: TID251

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from image_samples import sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZE = {"Y": 40, "X": 50}


@dataclass(frozen=True)
class Awkward:
    """One file of the table.

    Attributes
    ----------
    make
        Writes it; returns what has to be read, or None.
    axes
        The axes that have to be found.
    told
        A pattern in the rule where it is refused, or in the note where it is read.
    """

    make: Callable[[Path], np.ndarray | None]
    axes: str = ""
    told: str = ""


def image(axes="YX", dtype="uint8", **lengths):
    """Pixels with these axes."""
    return sample(axes, dtype, **(SIZE | lengths))


def tif(array, axes="", *, stored="", told="", shows=None, **options):
    """A TIFF written by tifffile; ``stored`` are the axes that have to be found."""
    named = {"metadata": {"axes": axes}} if axes and "metadata" not in options else {}

    def make(path):
        tifffile.imwrite(path, array, **{"photometric": "minisblack"} | named | options)
        return (array if shows is None else shows).squeeze() if not named else array

    return Awkward(make, stored or axes, told)


def lossy(array, axes, **options):
    """A TIFF whose codec loses a little: tifffile says what has to be read."""

    def make(path):
        tifffile.imwrite(path, array, metadata={"axes": axes}, **options)
        return tifffile.imread(path)

    return Awkward(make, axes)


def raw_tiff(tags, data, *, big=False, after=b""):
    """Bytes of a little-endian TIFF of one page; tags are (code, type, values[, count])."""
    width, letter, entry = (8, "Q", 20) if big else (4, "I", 12)
    sizes, codes = {2: 1, 3: 2, 4: 4, 5: 8, 11: 4}, {3: "H", 4: "I", 5: "I", 11: "f"}
    start = 16 if big else 8
    end = start + (8 if big else 2) + len(tags) * entry + width
    extra, table = b"", b""
    for code, kind, values, *told in sorted(tags, key=lambda t: t[0]):
        packed = (
            bytes(values) if kind == 2 else struct.pack(f"<{len(values)}{codes[kind]}", *values)
        )
        count = told[0] if told else len(packed) // sizes[kind]
        if len(packed) > width:
            place = end + len(extra)
            extra += packed + bytes(-len(packed) % 8)
            packed = struct.pack("<" + letter, place)
        table += struct.pack(f"<HH{letter}", code, kind, count) + packed.ljust(width, b"\0")
    number = struct.pack("<Q" if big else "<H", len(tags))
    head = (
        struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) if big else struct.pack("<2sHI", b"II", 42, 8)
    )
    body = number + table + bytes(width) + extra
    place = len(head) + len(body)
    whole = head + body + data + after
    # the tag of the offset was written as the marker below
    marker = struct.pack("<I", 0xFFFFFFF0)
    return whole.replace(marker, struct.pack("<I", place), 1)


def page(height, width, bits, data, **changed):
    """Bytes of a TIFF in one strip, uncompressed unless ``more`` says so."""
    photometric, samples, more = (
        changed.get("photometric", 1),
        changed.get("samples", 1),
        changed.get("more", ()),
    )
    bits = [bits] * samples if isinstance(bits, int) else bits
    tags = [
        *((256, 3, [width]), (257, 3, [height]), (258, 3, bits), (262, 3, [photometric])),
        *((273, 4, [0xFFFFFFF0]), (277, 3, [samples]), (278, 3, [height]), (279, 4, [len(data)])),
    ]
    codes = {code for code, *_ in more}
    tags = [tag for tag in tags if tag[0] not in codes] + list(more)
    if 259 not in codes:
        tags.append((259, 3, [1]))
    return raw_tiff(tags, data)


def packed(array, bits):
    """Numbers of any number of bits, each row from a whole byte."""
    rows = [
        np.packbits([(n >> b) & 1 for n in row.tolist() for b in range(bits - 1, -1, -1)])
        for row in array
    ]
    return b"".join(r.tobytes() for r in rows)


def written(data, shows=None, axes="", told=""):
    """A file of these bytes."""

    def make(path):
        path.write_bytes(data() if callable(data) else data)
        return shows

    return Awkward(make, axes, told)


def stk(planes, data):
    """A stack of MetaMorph: one directory, the planes one after the other."""
    uic2 = [1, 1, 2450000, 1000, 2450000, 1000] * planes
    more = [(33628, 5, [0] * 2 * planes), (33629, 5, uic2, planes), (33630, 5, [1] * 2 * planes)]
    return page(40, 50, 8, data, more=more)


def tiff_bytes(array, **options):
    """Bytes of a TIFF."""
    file = io.BytesIO()
    tifffile.imwrite(file, array, **{"photometric": "minisblack"} | options)
    return file.getvalue()
