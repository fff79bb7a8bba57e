"""Result images: read by a worker, ready to become layers. Nothing here touches the viewer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ssl_pretrain.data.survey import open_image
from napari_ssl_pretrain.errors import UserError
from napari_ssl_pretrain.gui.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_ssl_pretrain.data.images import Image
    from napari_ssl_pretrain.spec import events as ev

KINDS = {
    "original": "original",
    "worsened": "worsened",
    "masked": "masked",
    "reconstruction": "reconstruction",
    "reconstruction_and_visible": "reconstruction and visible",
    "restored": "restored",
}
"""Kinds of images that become layers, bottom first, and how their layers are called."""

MAX_IMAGES = 4
"""Images whose results come in by themselves; the others are opened from the list of runs."""

LAZY_BYTES = 1 << 28
SAMPLE_PIXELS = 1 << 20


@dataclass(frozen=True)
class Picture:
    """An image, read.

    Attributes
    ----------
    data
        Its pixels in stored order, in memory or lazily.
    axes
        A letter for each axis of ``data``; ``S``, when there, is last.
    pixel_size, unit
        Spacing of the spatial axes.
    limits
        Contrast limits of each channel.
    """

    data: Any
    axes: str
    pixel_size: dict[str, float]
    unit: str | None
    limits: tuple[tuple[float, float], ...]

    @property
    def rgb(self) -> bool:
        """Whether the image is shown in its own colours."""
        return self.axes.endswith("S")


@dataclass(frozen=True)
class Result(Picture):
    """What was made of an image; ``limits`` are those of the image.

    Attributes
    ----------
    image, kind
        Name of the image and what was made of it.
    path, source
        The file itself, and the user's image that it was made from.
    step
        Training step at which it was made.
    """

    image: str
    kind: str
    path: str
    source: str
    step: int

    @property
    def name(self) -> str:
        """Name of the layer."""
        return f"{self.image} {KINDS[self.kind]}"


@dataclass(frozen=True)
class Opened:
    """An image of the user's, opened for the viewer."""

    name: str
    path: str
    picture: Picture


def open_picture(path: str, axes: str = "auto") -> Opened | Problem:
    """Read one image whole, or lazily where it is large."""
    try:
        image = open_image(path, axes=axes)
        data, letters = stored_array(image)
        limits = contrast_limits(image)
    except UserError as error:
        return Problem(error)
    picture = Picture(data, letters, image.info.pixel_size, image.info.unit, limits)
    return Opened(image.info.name, path, picture)


@dataclass
class ResultReader:
    """Reads results as their events come in; belongs to one worker.

    Attributes
    ----------
    preferred
        Files that are open in the viewer: their results always come in.
    limit
        Number of other images whose results come in.
    """

    preferred: frozenset[str] = frozenset()
    limit: int = MAX_IMAGES
    _chosen: list[str] = field(default_factory=list)
    _limits: dict[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)

    def read(self, events: Iterable[ev.AnyEvent]) -> list[Result]:
        """Read the newest of each image among these events; what cannot be read is left out."""
        newest: dict[str, ev.ImageSaved] = {}
        for event in events:
            if event.kind == "image_saved" and event.image_kind in KINDS and self._wanted(event):
                newest[event.path] = event
        found = [self._read_one(event) for event in newest.values()]
        return [result for result in found if result is not None]

    def _wanted(self, event: ev.ImageSaved) -> bool:
        if event.image not in self._chosen:
            if event.source not in self.preferred and len(self._chosen) >= self.limit:
                return False
            self._chosen.append(event.image)
        return True

    def _read_one(self, event: ev.ImageSaved) -> Result | None:
        try:
            image = open_image(event.path)
            data, axes = stored_array(image)
            limits = self._limits_of(event, image)
        except (UserError, OSError, ValueError, MemoryError):  # the event may say anything
            return None
        return Result(
            data,
            axes,
            image.info.pixel_size,
            image.info.unit,
            limits,
            event.image,
            event.image_kind,
            event.path,
            event.source,
            event.step,
        )

    def _limits_of(self, event: ev.ImageSaved, image: Image) -> tuple[tuple[float, float], ...]:
        """Return the limits of the source, so that all that was made of it compares."""
        if event.image not in self._limits:
            reference = image
            if event.image_kind != "original" and Path(event.source).exists():
                opened = open_image(event.source, axes=image.info.axes)
                reference = opened if opened.in_channels == image.in_channels else image
            self._limits[event.image] = contrast_limits(reference)
        return self._limits[event.image]


def stored_array(image: Image) -> tuple[Any, str]:
    """Return all pixels in stored order with their axes; large images lazily.

    Samples of colours come last; a choice among channels times samples becomes one axis.
    """
    info = image.info
    channel = "S" if "S" in info.axes and "C" not in info.axes else "C"
    letters = image.frame_axes + channel + image.spatial_axes
    lengths = [info.length(a) for a in image.frame_axes]
    large = image.frame_bytes * image.frames > LAZY_BYTES
    frames = _lazy_frames(image) if large else _frames(image)
    array = frames.reshape((*lengths, image.in_channels, *image.spatial))
    if channel not in info.axes:
        array, letters = array[(slice(None),) * len(lengths) + (0,)], letters.replace("C", "")
    order = [a for a in info.axes if a in letters and a != "S"] + ["S"] * (channel == "S")
    array = array.transpose([letters.index(a) for a in order])
    if channel == "S" and image.in_channels not in {3, 4}:
        order[-1] = "C"
    return array, "".join(order)


def _frames(image: Image) -> np.ndarray:
    return np.stack([image.read(frame) for frame in range(image.frames)])


def _lazy_frames(image: Image) -> Any:
    """Return frames that are read plane by plane when they are looked at."""
    # imported here: it costs a second, and only large images need it
    da: Any = import_module("dask.array")
    delayed: Any = import_module("dask").delayed

    def plane(frame: int, first: int) -> Any:
        rest = tuple(slice(0, n) for n in image.spatial[1:])
        thick = 1 if image.ndim == 3 else image.spatial[0]  # noqa: PLR2004
        shape = (image.in_channels, thick, *image.spatial[1:])
        region = (slice(first, first + thick), *rest)
        return da.from_delayed(delayed(image.read)(frame, region), shape, image.info.dtype)

    firsts = range(image.spatial[0]) if image.ndim == 3 else (0,)  # noqa: PLR2004
    return da.stack(
        [da.concatenate([plane(f, z) for z in firsts], axis=1) for f in range(image.frames)]
    )


def contrast_limits(image: Image) -> tuple[tuple[float, float], ...]:
    """Return limits of each channel from a sample of the middle frame."""
    region = tuple(_middle(n, SAMPLE_PIXELS ** (1 / image.ndim)) for n in image.spatial)
    block = image.read(image.frames // 2, region)
    return tuple(limits_of(channel) for channel in block)


def limits_of(values: np.ndarray) -> tuple[float, float]:
    """Return limits that leave out the rarest thousandth at each end."""
    good = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not good.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(good, (0.1, 99.9)))
    return (low, high) if high > low else (low, low + max(1e-6, abs(low) * 1e-3))


def _middle(length: int, most: float) -> slice:
    size = min(length, max(1, math.ceil(most)))
    start = (length - size) // 2
    return slice(start, start + size)
