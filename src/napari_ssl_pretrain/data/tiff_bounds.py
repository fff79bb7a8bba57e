"""How far into a TIFF file its own tables reach: finds truncation without decoding anything."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from napari_ssl_pretrain.data.header import RefusedError

if TYPE_CHECKING:
    from pathlib import Path

_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8, 18: 8}
_INTEGERS = {3: "u2", 4: "u4", 16: "u8", 18: "u8"}
_NUMBERS = {2: "H", 4: "I", 8: "Q"}
_DESCRIPTION = 270
_OFFSETS = (273, 324)
_COUNTS = (279, 325)
_NO_DATA = 42113
"""By this tag GDAL names the value of strips and tiles that are left out on purpose."""
_BIG = 43
_SLACK = 1 << 16


class CutError(ValueError):
    """The file ends before what its tables point to; the argument is the byte they reach."""


class Claimed(NamedTuple):
    """What the tables of a file claim.

    Attributes
    ----------
    end
        The byte up to which directories, descriptions and pixels reach.
    pixels
        Where the pixels of a file of one page begin and end; None where there are more pages,
        or something else lies among the pixels.
    """

    end: int
    pixels: tuple[int, int] | None


def claimed(path: Path) -> Claimed:
    """Return how far directories, descriptions and pixels reach, and where the pixels lie.

    Parameters
    ----------
    path
        A TIFF or BigTIFF file.

    Raises
    ------
    CutError
        A directory or a table lies beyond the end of the file.
    RefusedError
        Its directories lie on top of each other or lead in a circle, or strips or tiles of a
        page were never written.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = len(head) > 4 and struct.unpack(order + "H", head[2:4])[0] == _BIG  # noqa: PLR2004
        tables = _Tables(file, size, order, big=big)
        start = slice(8, 16) if big else slice(4, 8)
        offset, end = tables.number(head[start]), 0
        pixels: tuple[int, int] | None = None
        seen: set[int] = set()
        while offset:
            if offset in seen:
                raise RefusedError(
                    "is damaged: its pages lead in a circle", "Copy or export it again."
                )
            seen.add(offset)
            reach, offset, pixels = tables.directory(offset)
            end = max(end, reach)
    return Claimed(end, pixels if len(seen) == 1 else None)


class _Tables:
    """The directories of one file, in its byte order and width."""

    def __init__(self, file: BinaryIO, size: int, order: str, *, big: bool) -> None:
        self.file = file
        self.size = size
        self.taken = 0
        self.order = order
        self.count_width = 8 if big else 2
        self.width = 8 if big else 4
        self.entry = 4 + 2 * self.width
        self._entries = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))

    def number(self, data: bytes) -> int:
        """Return the unsigned integer of 2, 4 or 8 bytes.

        Raises
        ------
        CutError
            There are fewer bytes.
        """
        if len(data) not in _NUMBERS:
            raise CutError(self.size + 1)
        return int(struct.unpack(self.order + _NUMBERS[len(data)], data)[0])

    def take(self, offset: int, length: int) -> bytes:
        """Read bytes that have to be there.

        Raises
        ------
        CutError
            They are not.
        RefusedError
            More was taken than a file of this size can hold: tables that overlap could keep a
            reader busy for days.
        """
        if offset + length > self.size:
            raise CutError(offset + length)
        self.taken += length
        if self.taken > 2 * self.size + _SLACK:
            raise RefusedError("is damaged: its directories overlap", "Export it again.")
        self.file.seek(offset)
        return self.file.read(length)

    def directory(self, offset: int) -> tuple[int, int, tuple[int, int] | None]:
        """Return how far one page reaches, where the next directory is, and where its pixels are.

        Raises
        ------
        RefusedError
            Strips or tiles were never written: they would be read as zeros.
        """
        count = self.number(self.take(offset, self.count_width))
        offset += self.count_width
        table = self.take(offset, count * self.entry + self.width)
        end = offset + len(table)
        offsets = counts = np.zeros(0, np.int64)
        sparse, begin, elsewhere = False, offset, []
        for tag, kind, length, inside in self._entries.iter_unpack(table[: -self.width]):
            size = length * _BYTES.get(kind, 1)
            if size > self.width:
                elsewhere.append((self.number(inside), size))
            if tag == _DESCRIPTION:
                self.values(kind, length, inside)
            elif tag in _OFFSETS:
                offsets = self.values(kind, length, inside)
            elif tag in _COUNTS:
                counts = self.values(kind, length, inside)
            sparse = sparse or tag == _NO_DATA
        if not sparse and not (offsets.all() and counts.all()):
            raise RefusedError(
                "is incomplete: strips or tiles of it were never written",
                "Copy or export it again.",
            )
        if len(offsets) == len(counts):
            end = max(end, int((offsets + counts)[counts > 0].max(initial=0)))
        elsewhere.append((begin, len(table)))
        return end, self.number(table[-self.width :]), _apart(offsets, counts, elsewhere)

    def values(self, kind: int, length: int, inside: bytes) -> np.ndarray:
        """Return the integers of an entry, wherever they are; none where it holds no integers."""
        size = length * _BYTES.get(kind, 1)
        data = inside[:size] if size <= self.width else self.take(self.number(inside), size)
        if kind not in _INTEGERS:
            return np.zeros(0, np.int64)
        return np.frombuffer(data, self.order + _INTEGERS[kind]).astype(np.int64)


def _apart(
    offsets: np.ndarray, counts: np.ndarray, others: list[tuple[int, int]]
) -> tuple[int, int] | None:
    """Return where pixels begin and end if they are in one piece with nothing else in it."""
    if not len(offsets) or len(offsets) != len(counts):
        return None
    if not np.array_equal(offsets[:-1] + counts[:-1], offsets[1:]):
        return None
    first, last = int(offsets[0]), int(offsets[-1] + counts[-1])
    clear = all(place + size <= first or place >= last for place, size in others)
    return (first, last) if clear else None
