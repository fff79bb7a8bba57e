"""How far into a TIFF file its own tables reach: finds truncation without decoding anything."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_INTEGERS = {3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_OFFSETS, _COUNTS = (273, 324), (279, 325)


class CutError(ValueError):
    """The file ends before what its tables point to; the argument is the byte they reach."""


def claimed_end(path: Path) -> int:
    """Return the byte up to which directories and pixels reach.

    Parameters
    ----------
    path
        A TIFF or BigTIFF file.

    Raises
    ------
    CutError
        A directory lies beyond the end of the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = struct.unpack(order + "H", head[2:4])[0] == 43  # noqa: PLR2004
        offset = struct.unpack(order + ("Q" if big else "I"), head[8:16] if big else head[4:8])[0]
        end, seen = 0, set()
        while offset and offset not in seen:
            seen.add(offset)
            if offset + 8 > size:
                raise CutError(offset + 8)
            reach, offset = _directory(file, offset, order, big=big)
            end = max(end, reach)
    return end


def _directory(file: BinaryIO, offset: int, order: str, *, big: bool) -> tuple[int, int]:
    """Return how far one page reaches, and where the next directory is."""
    count_code, entry, inline = ("Q", 20, 8) if big else ("H", 12, 4)
    file.seek(offset)
    count = struct.unpack(order + count_code, file.read(struct.calcsize(count_code)))[0]
    table = file.read(count * entry)
    following = file.read(inline)
    end = offset + struct.calcsize(count_code) + count * entry + inline
    if len(following) < inline:
        raise CutError(end)
    places: dict[str, np.ndarray] = {}
    for start in range(0, len(table), entry):
        tag, kind = struct.unpack_from(order + "HH", table, start)
        number = struct.unpack_from(order + ("Q" if big else "I"), table, start + 4)[0]
        which = "offsets" if tag in _OFFSETS else "counts" if tag in _COUNTS else ""
        length = _SIZES.get(kind, 1) * number
        value = table[start + entry - inline : start + entry]
        where = struct.unpack(order + ("Q" if big else "I"), value)[0]
        if length > inline:
            end = max(end, where + length)
        if which and kind in _INTEGERS:
            if length > inline:
                file.seek(where)
                value = file.read(length)
                if len(value) < length:
                    raise CutError(where + length)
            places[which] = np.frombuffer(value[:length], order + _INTEGERS[kind]).astype(np.int64)
    offsets, counts = places.get("offsets"), places.get("counts")
    if offsets is not None and counts is not None and len(offsets) == len(counts) and len(offsets):
        end = max(end, int((offsets + counts)[counts > 0].max(initial=0)))
    return end, struct.unpack(order + ("Q" if big else "I"), following)[0]
