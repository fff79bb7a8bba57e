"""A network over whole images: tiles with blended overlap, in slabs of bounded memory."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_ssl_pretrain.data.feature_map import FeatureMap
from napari_ssl_pretrain.data.intensity import finite
from napari_ssl_pretrain.data.tiling import blend_weight, tile_starts
from napari_ssl_pretrain.engine.feature_basis import (
    DIMENSIONS,
    SAMPLE,
    Basis,
    fit_basis,
    place_parts,
    without,
)
from napari_ssl_pretrain.engine.taps import Taps, to_grid
from napari_ssl_pretrain.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from napari_ssl_pretrain.data.images import Image
    from napari_ssl_pretrain.data.intensity import ImageIntensity
    from napari_ssl_pretrain.engine.backbones import Backbone, BackboneSpec

MOST_BYTES = 1 << 29
"""Size of the features of one image; the grid of larger ones is coarser."""

FIT_TILES = 16
"""Tiles, spread over all images, from which the basis is fitted."""

PLACE_TILES = 32
"""Tiles at random places from which is learnt what the place in a tile adds."""

OVERLAP = {False: 0.25, True: 0.5}
"""Share of a tile that neighbours overlap; more where the network knows places in a tile."""

ENLARGED = {2: 2.0, 3: 1.5}
"""Sides of a tile over those of the patch: a convolution takes any, and overlaps less often."""

Box = tuple[slice, ...]
Tapped = tuple[list[torch.Tensor], list[int]]


class Layout:
    """How one image is cut into tiles, and the grid that its features lie on.

    Tiles reach beyond the frame by a margin, in which the image is mirrored.

    Parameters
    ----------
    image
        The image.
    taps
        The network.
    patch
        Size of the patches that it was trained on.
    """

    def __init__(self, image: Image, taps: Taps, patch: Sequence[int]) -> None:
        self.size = image.spatial
        self.step = _step(image, taps.step)
        units = [math.lcm(m, s) for m, s in zip(taps.multiple, self.step, strict=True)]
        larger = 1.0 if taps.positional else ENLARGED[image.ndim]
        wanted = [-(-math.ceil(p * larger) // u) * u for p, u in zip(patch, units, strict=True)]
        # the frame's border would show: convolutions see zeros there, a token the same place
        self.margin = (
            [w // 2 // u * u for w, u in zip(wanted, units, strict=True)]
            if taps.positional
            else units
        )
        ends = zip(image.spatial, self.margin, units, strict=True)
        self.padded = [-(-(n + 2 * m) // u) * u for n, m, u in ends]
        if taps.positional:  # what the place adds is known for one size of tile
            self.padded = [max(n, w) for n, w in zip(self.padded, wanted, strict=True)]
        self.tile = [min(w, n) for w, n in zip(wanted, self.padded, strict=True)]
        self.cells = [n // s for n, s in zip(self.tile, self.step, strict=True)]
        self.grid = [-(-n // s) for n, s in zip(image.spatial, self.step, strict=True)]
        self.starts = [self._starts(axis, taps) for axis in range(image.ndim)]

    def _starts(self, axis: int, taps: Taps) -> list[int]:
        size, tile, step = self.padded[axis], self.tile[axis], self.step[axis]
        starts = tile_starts(size, tile, int(tile * OVERLAP[taps.positional]), step)
        if not taps.positional or tile <= 2 * taps.multiple[axis]:
            return starts
        # tokens of neighbouring tiles lie between each other, which makes the grid finer
        token = taps.multiple[axis]
        last = len(starts) - 1
        return [s - (k * step % token if 0 < k < last else 0) for k, s in enumerate(starts)]

    @property
    def count(self) -> int:
        """Number of tiles of a frame."""
        return math.prod(map(len, self.starts))

    def box(self, corner: Sequence[int]) -> Box:
        """Return a tile in pixels of the frame, from where it begins in the padded one."""
        pairs = zip(corner, self.margin, self.tile, strict=True)
        return tuple(slice(c - m, c - m + t) for c, m, t in pairs)

    def tile_number(self, number: int) -> Box:
        """Return a tile in pixels of the frame."""
        places = np.unravel_index(number, [len(s) for s in self.starts])
        return self.box([s[int(k)] for s, k in zip(self.starts, places, strict=True)])

    def cell_box(self, box: Box) -> Box:
        """Return a tile in cells of the padded frame."""
        triples = zip(box, self.margin, self.step, strict=True)
        return tuple(slice((b.start + m) // s, (b.stop + m) // s) for b, m, s in triples)

    def anywhere(self, random: np.random.Generator) -> Box:
        """Return a tile at a random place, up to half of it beyond the frame."""
        pairs = zip(self.size, self.tile, strict=True)
        corner = [int(random.integers(-t // 2, max(n - t // 2, 1 - t // 2))) for n, t in pairs]
        return tuple(slice(c, c + t) for c, t in zip(corner, self.tile, strict=True))

    def rows(self) -> Iterator[list[Box]]:
        """Return the tiles, those that begin alike on the first axis together."""
        for first in self.starts[0]:
            yield [self.box((first, *rest)) for rest in itertools.product(*self.starts[1:])]


def _step(image: Image, finest: Sequence[int]) -> tuple[int, ...]:
    """Return a step that bounds the size of the features; coarser where voxels are finest."""
    step, spacing = list(finest), image.voxel_size or (1.0,) * image.ndim

    def size() -> int:
        cells = math.prod(-(-n // s) for n, s in zip(image.spatial, step, strict=True))
        return image.frames * cells * DIMENSIONS * 2

    while size() > MOST_BYTES and min(step) < max(image.spatial):
        sides = [s * v for s, v in zip(step, spacing, strict=True)]
        step = [
            s * 2 if side < 1.5 * min(sides) else s for s, side in zip(step, sides, strict=True)
        ]
    return tuple(step)


class Encoder:
    """Turns images into features on a grid.

    Parameters
    ----------
    model
        The trained network.
    spec
        What it was built from.
    patch
        Size of the patches that it was trained on.
    precision
        ``fp32``, ``bf16`` or ``fp16``.
    """

    def __init__(
        self, model: Backbone, spec: BackboneSpec, patch: Sequence[int], *, precision: str
    ) -> None:
        self._taps = Taps(model, spec)
        self._patch = tuple(patch)
        self._device = next(model.parameters()).device
        self._autocast = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        self._batch = 4 if spec.ndim == 2 else 1  # noqa: PLR2004
        self._basis: Basis | None = None

    def layout(self, image: Image) -> Layout:
        """Return how an image is cut."""
        return Layout(image, self._taps, self._patch)

    def work(self, image: Image) -> int:
        """Return the number of tiles of an image."""
        return image.frames * self.layout(image).count

    def fit(self, images: dict[Image, ImageIntensity], tell: Callable[[int], None]) -> None:
        """Fit the basis on tiles spread over the images; :meth:`fit_work` says on how many.

        Raises
        ------
        DataError
            None of the tiles can be read.
        """
        random = np.random.default_rng(0)
        tiles: Iterable[Tapped] = self._fit_tiles(images, random, tell)
        places: tuple[torch.Tensor, ...] = ()
        if self._taps.positional:
            tiles = list(tiles)
            places = place_parts([layers for layers, _ in tiles])
        share = max(256, SAMPLE // self.fit_work(list(images)))
        pieces: list[list[np.ndarray]] = []
        for layers, grid in tiles:
            picked = torch.from_numpy(random.permutation(math.prod(grid))[:share])
            values = [to_grid(x, grid).flatten(2)[0] for x in without(layers, places)]
            pieces = pieces or [[] for _ in values]
            for store, value in zip(pieces, values, strict=True):
                store.append(value.cpu()[:, picked].T.numpy())
        self._basis = fit_basis(pieces, places, self._device)

    def fit_work(self, images: Sequence[Image]) -> int:
        """Return the number of tiles that :meth:`fit` reads."""
        if self._taps.positional:
            return PLACE_TILES
        return min(FIT_TILES, sum(map(self.work, images)))

    def _fit_tiles(
        self,
        images: dict[Image, ImageIntensity],
        random: np.random.Generator,
        tell: Callable[[int], None],
    ) -> Iterator[Tapped]:
        """Yield the layers of tiles spread over the images, and the cells of each tile.

        Raises
        ------
        DataError
            None of the tiles can be read.
        """
        every = list(images)
        ends = np.cumsum([self.work(image) for image in every])
        failed: DataError | None = None
        for number in np.linspace(0, ends[-1] - 1, self.fit_work(every)).round().astype(int):
            owner = int(np.searchsorted(ends, number, side="right"))
            image, layout = every[owner], self.layout(every[owner])
            frame, tile = divmod(int(number - (ends[owner - 1] if owner else 0)), layout.count)
            box = layout.anywhere(random) if self._taps.positional else layout.tile_number(tile)
            try:
                pixels = _tile(image, images[image], frame, box)
            except DataError as error:
                failed = error
                continue
            yield self._layers(pixels[None]), layout.cells
            tell(1)
        if failed is not None:
            raise failed

    @property
    def basis(self) -> Basis:
        """The basis, once fitted.

        Raises
        ------
        RuntimeError
            It is not fitted yet.
        """
        if self._basis is None:
            raise RuntimeError("the basis is fitted first")
        return self._basis

    def encode(
        self,
        image: Image,
        intensity: ImageIntensity,
        make: Callable[[tuple[int, ...]], np.ndarray],
        tell: Callable[[int], None],
    ) -> FeatureMap:
        """Encode an image.

        Parameters
        ----------
        image, intensity
            The image and its normalisation.
        make
            Returns the array of a shape to write to, perhaps on disk.
        tell
            Called with the number of tiles done.

        Raises
        ------
        DataError
            The image cannot be read.
        """
        layout = self.layout(image)
        looped = [image.info.length(a) for a in image.frame_axes]
        out: Any = make((len(self.basis.bias), *looped, *layout.grid))
        for frame in range(image.frames):
            index = tuple(image.frame_index(frame)[a] for a in image.frame_axes)
            self._frame(image, intensity, frame, layout, out[:, *index], tell)
        axes = image.frame_axes + image.spatial_axes
        step, shape = (*(1,) * len(looped), *layout.step), (*looped, *image.spatial)
        return FeatureMap(out, axes, step, shape)

    def _frame(
        self,
        image: Image,
        intensity: ImageIntensity,
        frame: int,
        layout: Layout,
        out: Any,
        tell: Callable[[int], None],
    ) -> None:
        """Encode a frame slab by slab; what later tiles do not reach any more is written."""
        weight = blend_weight(layout.cells)
        rest = [n // s for n, s in zip(layout.padded[1:], layout.step[1:], strict=True)]
        total = np.zeros((len(out), layout.cells[0], *rest), np.float32)
        weights = np.zeros(total.shape[1:], np.float32)
        firsts = [s // layout.step[0] for s in layout.starts[0]]
        after = [*firsts[1:], firsts[-1] + layout.cells[0]]
        for boxes, row, until in zip(layout.rows(), firsts, after, strict=True):
            slab = _slab(image, frame, boxes[0][0])
            for k in range(0, len(boxes), self._batch):
                some = boxes[k : k + self._batch]
                tiles = [_cut(slab, intensity, box, image.spatial) for box in some]
                for box, made in zip(some, self._encoded(np.stack(tiles), layout), strict=True):
                    place = (slice(None), *layout.cell_box(box)[1:])
                    total[:, *place] += made * weight
                    weights[place] += weight
                tell(len(some))
            done = until - row
            _store(out, total[:, :done] / weights[:done], row, layout)
            total = _moved_up(total, done)
            weights = _moved_up(weights[None], done)[0]

    def _layers(self, tiles: np.ndarray) -> list[torch.Tensor]:
        images = torch.from_numpy(tiles).to(self._device)
        with torch.autocast(
            self._device.type, self._autocast or torch.bfloat16, enabled=self._autocast is not None
        ):
            return self._taps(images)

    def _encoded(self, tiles: np.ndarray, layout: Layout) -> np.ndarray:
        made = self.basis.project(self._layers(tiles), layout.cells)
        numbers: np.ndarray = made.cpu().numpy()
        return numbers


def _inside(part: slice, size: int) -> slice:
    return slice(max(0, part.start), min(part.stop, size))


def _beyond(part: slice, size: int) -> tuple[int, int]:
    return max(0, -part.start), max(0, part.stop - size)


def _slab(image: Image, frame: int, part: slice) -> np.ndarray:
    """Read a slab of a frame, whole on all axes but the first."""
    rest = (slice(None),) * (image.ndim - 1)
    return image.read(frame, (_inside(part, image.spatial[0]), *rest))


def _cut(
    slab: np.ndarray, intensity: ImageIntensity, box: Box, spatial: Sequence[int]
) -> np.ndarray:
    """Cut a tile out of the slab that it lies in."""
    rest = [_inside(b, n) for b, n in zip(box[1:], spatial[1:], strict=True)]
    ends = [_beyond(b, n) for b, n in zip(box, spatial, strict=True)]
    return _prepared(slab[(slice(None), slice(None), *rest)], intensity, ends)


def _tile(image: Image, intensity: ImageIntensity, frame: int, box: Box) -> np.ndarray:
    """Read a tile."""
    pairs = list(zip(box, image.spatial, strict=True))
    pixels = image.read(frame, tuple(_inside(b, n) for b, n in pairs))
    return _prepared(pixels, intensity, [_beyond(b, n) for b, n in pairs])


def _prepared(
    pixels: np.ndarray, intensity: ImageIntensity, ends: Sequence[tuple[int, int]]
) -> np.ndarray:
    """Normalise ``C *spatial`` and mirror it beyond its ends."""
    shape = (-1, *(1,) * len(ends))
    values = finite(pixels, intensity.mean) - intensity.offset.reshape(shape)
    values = (values / intensity.scale.reshape(shape)).astype(np.float32)
    return np.pad(values, [(0, 0), *ends], mode="symmetric")


def _store(out: Any, ready: np.ndarray, row: int, layout: Layout) -> None:
    """Write rows of the padded grid, from ``row`` on, where they lie in the frame."""
    before = [m // s for m, s in zip(layout.margin, layout.step, strict=True)]
    first = max(row, before[0])
    last = min(row + ready.shape[1], before[0] + layout.grid[0])
    if first < last:
        inside = [slice(b, b + n) for b, n in zip(before[1:], layout.grid[1:], strict=True)]
        rows = slice(first - row, last - row)
        out[:, first - before[0] : last - before[0]] = ready[(slice(None), rows, *inside)]


def _moved_up(values: np.ndarray, rows: int) -> np.ndarray:
    """Return values ``C rows …`` with the first rows gone and zeros at the end."""
    moved = np.zeros_like(values)
    moved[:, : values.shape[1] - rows] = values[:, rows:]
    return moved
