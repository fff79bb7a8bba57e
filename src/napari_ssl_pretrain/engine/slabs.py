"""How a frame of any size is put together from tiles that overlap, in memory that is bounded.

A frame is cut into columns along all axes but the first, and a column is gone through in slabs of
rows of tiles. What the tiles of a slab add up to is kept until no later tile reaches it. A tile
that two columns share is made for each of them; a frame that fits is one column and one slab.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_ssl_pretrain.data.boxes import Box, cut
from napari_ssl_pretrain.data.tiling import blend_weight, tile_starts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SLAB_BYTES = 1 << 28
"""Memory of what the tiles of a slab add up to, single precision; that of a tile is the least."""

PIECE_VALUES = 1 << 23
"""Values of a finished box, unless what it is aligned to is more."""

ALIGN = {2: (1024, 1024), 3: (64, 128, 128)}
"""Finished boxes begin and columns end at multiples of these, as chunks of OME-Zarr do."""


@dataclass(frozen=True)
class Slab:
    """Rows of tiles of one column.

    Attributes
    ----------
    box
        What the tiles cover, on all axes.
    tiles
        Where they lie, in the frame.
    ready
        What is finished after them: rows of the column, cut to the frame.
    """

    box: Box
    tiles: tuple[Box, ...]
    ready: Box


class Layout:
    """The tiles of a frame and the order in which they are made.

    Parameters
    ----------
    spatial
        Voxels of the frame on each axis.
    size
        Those of the frame filled up to whole tokens and a tile.
    tile, overlap, multiple
        See :func:`~napari_ssl_pretrain.data.tiling.tile_starts`.
    channels
        Channels of the frame.
    """

    def __init__(
        self,
        spatial: Sequence[int],
        size: Sequence[int],
        tile: Sequence[int],
        overlap: Sequence[int],
        multiple: Sequence[int],
        channels: int,
    ) -> None:
        self.spatial, self.tile = tuple(spatial), tuple(tile)
        self._channels = channels
        self._values = SLAB_BYTES // (4 * channels)
        self._align = ALIGN[len(self.spatial)]
        self.starts = [
            tile_starts(*each) for each in zip(size, tile, overlap, multiple, strict=True)
        ]
        self._sums = [
            _weight_sum(n, t, starts)
            for n, t, starts in zip(size, tile, self.starts, strict=True)
        ]  # fmt: skip
        self._columns = self._cut_columns()

    @property
    def count(self) -> int:
        """Tiles in all, those that columns share counted for each of them."""
        return sum(
            len(self.starts[0]) * math.prod(map(len, self._starts_of(column)))
            for column in self._columns
        )

    def slabs(self) -> Iterator[Slab]:
        """Return the slabs, column by column."""
        for column in self._columns:
            across = self._starts_of(column)
            sides = [
                slice(starts[0], starts[-1] + t)
                for starts, t in zip(across, self.tile[1:], strict=True)
            ]
            rows, done = self.starts[0], 0
            for first, last in self._groups(math.prod(s.stop - s.start for s in sides)):
                final = last == len(rows)
                end = self.spatial[0] if final else rows[last] // self._align[0] * self._align[0]
                end = max(done, min(end, self.spatial[0]))
                places = itertools.product(rows[first:last], *across)
                yield Slab(
                    (slice(rows[first], rows[last - 1] + self.tile[0]), *sides),
                    tuple(self._tile_at(place) for place in places),
                    (slice(done, end), *column),
                )
                done = end

    def pieces(self, box: Box) -> Iterator[Box]:
        """Cut what is finished, which may be nothing, into boxes that are easy to work on."""
        shape = [b.stop - b.start for b in box]
        for part in cut(shape, PIECE_VALUES // self._channels, self._align):
            yield tuple(
                slice(b.start + p.start, b.start + p.stop) for b, p in zip(box, part, strict=True)
            )

    def share(self, box: Box) -> np.ndarray:
        """Return one over the summed weights of all tiles, in a box."""
        total = np.ones((), np.float32)
        for part, sums in zip(box, self._sums, strict=True):
            total = total[..., None] * sums[part]
        return np.asarray(1 / total, np.float32)

    def _tile_at(self, place: Sequence[int]) -> Box:
        return tuple(slice(a, a + t) for a, t in zip(place, self.tile, strict=True))

    def _starts_of(self, column: Box) -> list[list[int]]:
        """Return where the tiles that touch a column begin, on each axis but the first."""
        return [
            [a for a in starts if a < part.stop and a + t > part.start]
            for starts, t, part in zip(self.starts[1:], self.tile[1:], column, strict=True)
        ]

    def _cut_columns(self) -> list[Box]:
        """Cut all axes but the first so that a row of tiles, with what waits for it, fits."""
        depth = min(self.tile[0] + self._align[0], max(self.spatial[0], self.tile[0]))
        lengths, steps = self.spatial[1:], self._align[1:]
        pieces = [1] * len(lengths)

        def size() -> list[int]:
            each = zip(lengths, pieces, steps, strict=True)
            return [min(n, -(-n // (p * s)) * s) for n, p, s in each]

        while math.prod(size()) > self._values // depth:
            cuttable = [k for k, (n, s) in enumerate(zip(size(), steps, strict=True)) if n > s]
            if not cuttable:
                break
            pieces[max(cuttable, key=lambda k: size()[k])] += 1
        axes = [
            [slice(first, min(first + s, n)) for first in range(0, n, s)]
            for n, s in zip(lengths, size(), strict=True)
        ]
        return list(itertools.product(*axes))

    def _groups(self, area: int) -> Iterator[tuple[int, int]]:
        """Gather rows of tiles to slabs, as many as fit beside what waits for them."""
        rows, first = self.starts[0], 0
        deep = max(1, self._values // area - self._align[0])
        while first < len(rows):
            last = first + 1
            while last < len(rows) and rows[last] + self.tile[0] - rows[first] <= deep:
                last += 1
            yield first, last
            first = last


class Sums:
    """What tiles add up to until it is finished.

    Parameters
    ----------
    layout
        The tiles.
    channels
        Channels of the frame.
    """

    def __init__(self, layout: Layout, channels: int) -> None:
        self._layout, self._channels = layout, channels
        self._weight = blend_weight(layout.tile)
        self._values = np.zeros((channels, 0, *(0,) * (len(layout.tile) - 1)), np.float32)
        self._first = 0

    def open(self, slab: Slab) -> None:
        """Make room for the tiles of a slab; what waits from the slab before is kept."""
        begin, end = slab.ready[0].start, slab.box[0].stop
        sides = tuple(s.stop - s.start for s in slab.box[1:])
        column_begins = slab.box[0].start == 0
        kept = slice(0, 0) if column_begins else slice(begin - self._first, None)
        # a copy, so that the slab before is gone when room is made for this one
        self._values = waiting = self._values[:, kept].copy()
        self._values = np.zeros((self._channels, end - begin, *sides), np.float32)
        if waiting.size:
            self._values[:, : waiting.shape[1]] = waiting
        self._first = begin
        self._corner = (begin, *(s.start for s in slab.box[1:]))

    def add(self, tile: Box, image: np.ndarray) -> None:
        """Add what the network made of a tile."""
        image = image * self._weight
        places = [
            slice(t.start - c, t.stop - c) for t, c in zip(tile, self._corner, strict=True)
        ]  # fmt: skip
        self._values[(slice(None), *places)] += image

    def ready(self, box: Box) -> np.ndarray:
        """Return the blended image of a box that is finished."""
        inside = tuple(
            slice(b.start - c, b.stop - c) for b, c in zip(box, self._corner, strict=True)
        )
        blended: np.ndarray = self._values[(slice(None), *inside)] * self._layout.share(box)
        return blended


def _weight_sum(size: int, tile: int, starts: Sequence[int]) -> np.ndarray:
    """Return the summed weights of all tiles along one axis."""
    total, weight = np.zeros(max(size, starts[-1] + tile)), blend_weight((tile,))
    for start in starts:
        total[start : start + tile] += weight
    return total.astype(np.float32)
