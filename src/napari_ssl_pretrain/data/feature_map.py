"""Dense features of an image on a coarse grid: places, enlargement, similarity, colours. Numpy.

Cell ``k`` of an axis with step ``s`` covers pixels ``k s`` to ``k s + s - 1``; its centre lies at
pixel ``k s + (s - 1) / 2``.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_ssl_pretrain.data.images import first_line
from napari_ssl_pretrain.data.opening import open_image
from napari_ssl_pretrain.data.writers import write_text
from napari_ssl_pretrain.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_ssl_pretrain.data.images import Image

FORMAT = 1
BAND = 64
SAMPLE = 1 << 16
RGB_PERCENTILES = (1.0, 99.0)
HALF = 0.5
"""A pixel reaches from half before its place to half behind it."""

_SMALLEST = 1e-12


@dataclass(frozen=True)
class FeatureMap:
    """Features of one image.

    Attributes
    ----------
    features
        ``C *grid``, centred on zero; perhaps a memory map.
    axes
        A letter for each axis of the grid: what is looped over (T, or Z of planes), then space.
    step
        Pixels of a cell on each axis.
    shape
        Pixels of the image on each axis.
    about
        What else the file says: ``image``, ``source``, ``checkpoint``, ``opened`` and so on.
    """

    features: np.ndarray
    axes: str
    step: tuple[int, ...]
    shape: tuple[int, ...]
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def grid(self) -> tuple[int, ...]:
        """Cells on each axis."""
        return tuple(self.features.shape[1:])

    def cell(self, point: Sequence[float]) -> tuple[int, ...]:
        """Return the cell that holds a point in pixels, the nearest one where it lies outside."""
        places = zip(point, self.step, self.grid, strict=True)
        return tuple(min(max(0, math.floor((p + HALF) / s)), n - 1) for p, s, n in places)

    def holds(self, point: Sequence[float]) -> bool:
        """Whether a point in pixels lies in the image."""
        return all(0 <= p + HALF <= n for p, n in zip(point, self.shape, strict=True))

    def at(self, points: np.ndarray) -> np.ndarray:
        """Return the features at pixels ``N ndim``, float32 ``N C``, interpolated linearly."""
        taps = [
            cell_taps(points[:, axis], step, cells)
            for axis, (step, cells) in enumerate(zip(self.step, self.grid, strict=True))
        ]
        found = np.zeros((len(points), len(self.features)), np.float32)
        for corner in itertools.product((0, 1), repeat=len(taps)):
            weight = np.ones(len(points), np.float32)
            for side, (_, _, share) in zip(corner, taps, strict=True):
                weight = weight * (share if side else 1 - share)
            used = np.flatnonzero(weight)
            index = tuple(tap[side][used] for side, tap in zip(corner, taps, strict=True))
            values: Any = self.features
            found[used] += values[:, *index].T * weight[used, None]
        return found

    def plane(self, place: Sequence[int], channels: slice = slice(None)) -> np.ndarray:
        """Return the features of one plane, float32 ``C y x`` on the grid.

        Parameters
        ----------
        place
            Its pixel on each axis but the last two; cells are interpolated linearly.
        channels
            Which features.
        """
        block = self.features[channels]
        for pixel, step in zip(place, self.step, strict=False):
            left, right, share = cell_taps(np.array([pixel]), step, block.shape[1])
            first = np.asarray(block[:, int(left[0])], np.float32)
            weight = float(share[0])
            if weight:
                first = first + (block[:, int(right[0])] - first) * np.float32(weight)
            block = first
        return np.asarray(block, np.float32)

    def enlarge(self, plane: np.ndarray) -> np.ndarray:
        """Enlarge ``… y x`` on the grid to the pixels of a plane, linearly."""
        return enlarge(plane, self.step[-2:], self.shape[-2:])

    def likeness(self, place: Sequence[int], vector: np.ndarray) -> np.ndarray:
        """Return the cosine of each pixel ``y x`` of a plane with a vector, in bands of rows."""
        plane, (step, side), (rows, width) = self.plane(place), self.step[-2:], self.shape[-2:]
        bands = []
        for first in range(0, rows, BAND):
            pixels = np.arange(first, min(first + BAND, rows))
            above, below, share = cell_taps(pixels, step, plane.shape[1])
            band = plane[:, above] + (plane[:, below] - plane[:, above]) * share[:, None]
            bands.append(cosine(enlarge(band, (1, side), (len(pixels), width)), vector))
        return np.concatenate(bands)

    def spread(self) -> float:
        """Return the standard deviation of the feature that varies most, from a sample of cells."""
        by = max(1, math.ceil((math.prod(self.grid) / SAMPLE) ** (1 / len(self.grid))))
        sample = np.asarray(
            self.features[(slice(None), *(slice(None, None, by),) * len(self.grid))]
        )
        axes = tuple(range(1, sample.ndim))
        return max(float(sample.astype(np.float32).std(axis=axes).max()), _SMALLEST)

    def planes(self) -> list[tuple[int, ...]]:
        """Return the place of each plane of the image: a pixel on each axis but the last two."""
        return list(itertools.product(*(range(n) for n in self.shape[:-2])))

    def open_source(self) -> Image:
        """Open the image as it was encoded.

        Raises
        ------
        DataError
            The image is no longer there.
        """
        opened = self.about["opened"]
        return open_image(self.about["source"], opened["axes"], opened["ndim"], opened["channels"])


def cell_taps(
    pixels: np.ndarray, step: int, cells: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two cells around each pixel, and the share of the second; the border holds."""
    centre = np.clip((np.asarray(pixels, np.float64) + 0.5) / step - 0.5, 0, cells - 1)
    left = np.floor(centre).astype(np.int64)
    share = (centre - left).astype(np.float32)
    return left, np.minimum(left + 1, cells - 1), share


def enlarge(array: np.ndarray, step: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Enlarge the last two axes from cells to pixels by linear interpolation."""
    for axis, (side, length) in zip((-2, -1), zip(step, shape, strict=True), strict=True):
        if side == 1:
            continue
        left, right, share = cell_taps(np.arange(length), side, array.shape[axis])
        weight = share.reshape(-1, *(1,) * (-axis - 1))
        first = np.take(array, left, axis=axis)
        array = first + (np.take(array, right, axis=axis) - first) * weight
    return array


def units(features: np.ndarray) -> np.ndarray:
    """Return vectors ``… C`` at length one, float32; those of length zero stay."""
    vectors = np.asarray(features, np.float32)
    lengths = np.sqrt(np.einsum("...c,...c->...", vectors, vectors))
    unit: np.ndarray = vectors / np.maximum(lengths, _SMALLEST)[..., None].astype(np.float32)
    return unit


def cosine(features: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return the cosine of each vector ``C *grid`` with one, -1 to 1; zero where either is."""
    return np.asarray(units(np.moveaxis(features, 0, -1)) @ units(vector))


def to_rgb(components: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Turn ``3 …`` into uint8 colours ``… 3``; ``limits`` holds low and high of each, ``3 2``."""
    low, high = (limits[:, k].reshape(-1, *(1,) * (components.ndim - 1)) for k in (0, 1))
    share = (components - low) / np.maximum(high - low, _SMALLEST)
    return np.moveaxis(np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8), 0, -1)


def rgb_limits(components: np.ndarray) -> np.ndarray:
    """Return the range of colours of each component ``3 N``, without the rarest hundredths."""
    limits: np.ndarray = np.percentile(components, RGB_PERCENTILES, axis=1).T
    return limits


def principal_axes(sample: np.ndarray, count: int) -> np.ndarray:
    """Return the first principal axes ``K D`` of centred vectors ``N D``, largest first.

    The sign of each makes its largest entry positive, so that colours do not flip from one
    encoding to the next.
    """
    import scipy.linalg  # noqa: PLC0415 - slow import

    values = np.asarray(sample, np.float64)
    size = values.shape[1]
    count = min(count, size)
    covariance = values.T @ values / max(1, len(values))
    _, vectors = scipy.linalg.eigh(covariance, subset_by_index=[size - count, size - 1])
    axes = vectors.T[::-1]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    return np.asarray(axes * np.where(largest < 0, -1.0, 1.0), np.float32)


def write_about(path: Path, found: FeatureMap) -> None:
    """Write what a ``.npy`` of features is, as JSON beside it.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """
    fields = {
        "format_version": FORMAT,
        "features": path.with_suffix(".npy").name,
        "axes": f"C{found.axes}",
        "step": list(found.step),
        "shape": list(found.shape),
        "grid": list(found.grid),
        "channels": len(found.features),
        **found.about,
    }
    write_text(path, json.dumps(fields, indent=2, allow_nan=False) + "\n")


def read_map(path: Path, mode: Literal["r"] | None = "r") -> FeatureMap:
    """Read features by their JSON; the numbers stay on disk unless ``mode`` is None.

    Raises
    ------
    DataError
        The files are missing or damaged.
    """
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        features = np.load(path.with_name(about["features"]), mmap_mode=mode, allow_pickle=False)
        step, shape, axes = tuple(about["step"]), tuple(about["shape"]), about["axes"][1:]
    except (OSError, ValueError, LookupError, TypeError) as error:
        rule = f"cannot be read as features ({first_line(error)})"
        raise DataError(path, rule, remedy="Encode the image again.") from None
    if not len(step) == len(shape) == len(axes) == features.ndim - 1:
        raise DataError(path, "does not fit its numbers", remedy="Encode the image again.")
    return FeatureMap(features, axes, step, shape, about)
