"""The pixels of a TIFF: mapped into memory where they lie plain, else decoded by strip or tile."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from napari_ssl_pretrain.data.cache import ByteCache
from napari_ssl_pretrain.data.tiff_set import open_tiff

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_ssl_pretrain.data.images import Access, Index

_SEPARATE = 2
_SEGMENTS = ByteCache(128 << 20)
_NUMBERS = itertools.count()

MAPPED_BYTES = 64 << 20
"""Of a file that are looked at through one map, unless one row of a box's first axis is more."""


@dataclass(frozen=True)
class _Page:
    """Where the segments of one page are in which file."""

    path: Path
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    tables: bytes | None


class TiffPixels:
    """The pixels of series 0, read by segment (strip or tile), mapped where they lie plain.

    Parameters
    ----------
    path
        The file.
    shape
        Length of each stored axis.
    access
        Whether the pixels are mapped, and if not, whether the segments are small.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], access: Access = "parts") -> None:
        self.path = path
        self.access = access
        self.shape = shape
        self._number = next(_NUMBERS)
        self._lock = Lock()
        self._keyframe: Any = None
        self._decode: Any = None
        self._pages: tuple[_Page, ...] = ()
        self._mapped: tuple[np.dtype, int] | None = None

    def read(self, index: Index) -> np.ndarray:
        """Return the pixels at an integer or a slice for each stored axis."""
        with self._lock:
            if self._keyframe is None:
                self._open()
        if self._mapped is None:
            return self._read_pages(index)
        return self._read_mapped(index, *self._mapped)

    def _read_mapped(self, index: Index, dtype: np.dtype, offset: int) -> np.ndarray:
        """Copy a box, mapped in parts, for what is mapped and looked at takes memory as well.

        It is copied because a view dies with the process when somebody cuts the file short.
        """

        def copied(part: Index) -> np.ndarray:
            return np.array(np.memmap(self.path, dtype, "r", offset, self.shape)[part])

        sliced = [
            range(n)[p] for p, n in zip(index, self.shape, strict=True) if isinstance(p, slice)
        ]
        axis = next((k for k, part in enumerate(index) if isinstance(part, slice)), len(index))
        rows = max(1, MAPPED_BYTES // (dtype.itemsize * math.prod(self.shape[axis + 1 :])))
        if not sliced or len(sliced[0]) <= rows:
            return copied(index)
        out = np.empty([len(each) for each in sliced], dtype)
        for first in range(0, len(sliced[0]), rows):
            some = sliced[0][first : first + rows]
            part = slice(some.start, some.stop, some.step)
            out[first : first + rows] = copied((*index[:axis], part, *index[axis + 1 :]))
        return out

    def _open(self) -> None:
        with open_tiff(self.path) as tif, np.errstate(all="ignore"):
            series: Any = tif.series[0]
            keyframe = series.keyframe
            if series.dataoffset is not None:
                dtype = np.dtype(series.dtype).newbyteorder(tif.byteorder)
                self._mapped = (dtype, series.dataoffset)
            else:
                self._pages = tuple(
                    _Page(
                        Path(page.parent.filehandle.path),
                        page.dataoffsets,
                        page.databytecounts,
                        page.jpegtables,
                    )
                    for page in series.pages
                )
            # looked up while the file is open: choosing the decoder may read from it
            self._decode = keyframe.decode
            self._keyframe = keyframe

    def _read_pages(self, index: Index) -> np.ndarray:
        inner_shape = self._keyframe.shape
        lead = self._lead(inner_shape)
        numbers = np.arange(len(self._pages)).reshape(self.shape[:lead])[index[:lead]]
        inner = _pad_index(index[lead:], self.shape[lead:], inner_shape)
        kept = [
            len(range(*part.indices(n)))
            for part, n in zip(index[lead:], self.shape[lead:], strict=True)
            if isinstance(part, slice)
        ]
        first, *others = (int(n) for n in np.ravel(numbers))
        block = self._read_page(first, inner)
        if not others:
            return block.reshape(*np.shape(numbers), *kept)
        out = np.empty((1 + len(others), *block.shape), block.dtype)
        out[0] = block
        for place, number in enumerate(others, start=1):
            out[place] = self._read_page(number, inner)
        return out.reshape(*np.shape(numbers), *kept)

    def _lead(self, inner_shape: tuple[int, ...]) -> int:
        """Return how many stored axes run over pages.

        Raises
        ------
        ValueError
            The pages do not make up the series.
        """
        for lead in range(len(self.shape) + 1):
            if math.prod(self.shape[:lead]) == len(self._pages) and [
                n for n in self.shape[lead:] if n > 1
            ] == [n for n in inner_shape if n > 1]:
                return lead
        raise ValueError(f"pages of {inner_shape} do not make up {self.shape}")

    def _read_page(self, number: int, inner: tuple[slice, ...]) -> np.ndarray:
        """Decode the segments of one page that a box of it touches."""
        key, page = self._keyframe, self._pages[number]
        y, x = key.axes.index("Y"), key.axes.index("X")
        rows, cols = inner[y], inner[x]
        planes = key.samplesperpixel if key.planarconfig == _SEPARATE else 1
        depth = key.imagedepth
        samples = key.samplesperpixel // planes
        size = (planes, depth, rows.stop - rows.start, cols.stop - cols.start, samples)
        out = np.full(size, key.nodata, key.dtype)
        with page.path.open("rb") as file:
            for segment in self._touched(rows, cols, len(page.offsets)):
                _, start, _ = self._decode(None, segment)
                data = self._segment(file, number, segment)
                if data is not None:
                    _paste(out, data, start, rows.start, cols.start)
        box = [slice(None)] * len(key.shape)
        shape = list(key.shape)
        shape[y], shape[x] = out.shape[2], out.shape[3]
        for axis, part in enumerate(inner):
            if axis not in (y, x):
                box[axis] = part
        return out.reshape(shape)[tuple(box)]

    def _touched(self, rows: slice, cols: slice, count: int) -> Iterator[int]:
        """Return the numbers of the segments that a box touches."""
        key = self._keyframe
        height, width = (
            (key.tilelength, key.tilewidth) if key.is_tiled else (key.rowsperstrip, key.imagewidth)
        )
        high, wide = -(-key.imagelength // height), -(-key.imagewidth // width)
        for base in range(0, count, high * wide):
            for row in range(rows.start // height, -(-rows.stop // height)):
                for col in range(cols.start // width, -(-cols.stop // width)):
                    if base + row * wide + col < count:
                        yield base + row * wide + col

    def _segment(self, file: BinaryIO, number: int, segment: int) -> np.ndarray | None:
        page = self._pages[number]
        offset, count = page.offsets[segment], page.counts[segment]
        if count == 0:
            return None

        def decode() -> np.ndarray:
            file.seek(offset)
            data = file.read(count)
            if len(data) < count:
                raise ValueError(f"the file ends {count - len(data)} bytes too early")
            return np.asarray(self._decode(data, segment, jpegtables=page.tables)[0])

        return _SEGMENTS.get((self._number, number, segment), decode)


def _pad_index(
    index: Index, shape: tuple[int, ...], inner_shape: tuple[int, ...]
) -> tuple[slice, ...]:
    """Return a slice for each axis of a page; axes of length one may be in only one of both."""
    parts = [
        slice(part, part + 1) if isinstance(part, int) else slice(*part.indices(n)[:2])
        for part, n in zip(index, shape, strict=True)
        if n > 1
    ]
    return tuple(slice(0, 1) if n == 1 else parts.pop(0) for n in inner_shape)


def _paste(out: np.ndarray, data: np.ndarray, start: tuple[int, ...], row: int, col: int) -> None:
    """Copy a decoded segment (d y x s) to where it belongs in a box of its page (p d y x s)."""
    plane, depth, top, left = (int(n) for n in start[:4])
    top, left = top - row, left - col
    data = data.reshape((-1, *data.shape[-3:]))
    first_y, first_x = max(0, -top), max(0, -left)
    data = data[: out.shape[1] - depth, first_y : out.shape[2] - top, first_x : out.shape[3] - left]
    top, left = max(0, top), max(0, left)
    d, h, w, s = data.shape
    out[plane, depth : depth + d, top : top + h, left : left + w, :s] = data
