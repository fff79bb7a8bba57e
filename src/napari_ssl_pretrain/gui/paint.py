"""What the network will be shown, drawn on a crop of a layer. For a worker: no Qt, no viewer.

The arithmetic is that of the training itself (:mod:`napari_ssl_pretrain.pretext`), on at most
512² pixels or 32 x 256 x 256 voxels around the middle of the view.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_ssl_pretrain.data.intensity import ImageIntensity, finite, measure_array
from napari_ssl_pretrain.data.writers import to_dtype
from napari_ssl_pretrain.errors import ConfigError, UserError
from napari_ssl_pretrain.gui.problem import Problem
from napari_ssl_pretrain.pretext import Crappify, Intensity, Masking, NumpyRandom
from napari_ssl_pretrain.spec import geometry

if TYPE_CHECKING:
    from napari_ssl_pretrain.gui.layer_source import LayerSource
    from napari_ssl_pretrain.spec.config import PretextConfig

LARGEST = {2: (512, 512), 3: (32, 256, 256)}
"""Largest crop that is drawn, by dimensions."""

MEASURED_VOXELS = 1 << 25
SUFFIX = {"crappify": "worsened", "masking": "masked"}


@dataclass(frozen=True)
class Request:
    """What to draw.

    Attributes
    ----------
    source
        The layer.
    middle
        Index of the middle of the view on each axis of the layer's pixels.
    pretext
        The settings of the form.
    ndim
        2, 3 or ``auto``.
    """

    source: LayerSource
    middle: tuple[int, ...]
    pretext: PretextConfig
    ndim: Any


@dataclass(frozen=True)
class Drawn:
    """A drawn crop: pixels with the layer's axes, and where on each of them it begins."""

    layer: str
    name: str
    data: np.ndarray
    start: tuple[int, ...]


class Box(NamedTuple):
    """A crop of a layer: a slice for each stored axis; ``spatial`` names those drawn in."""

    slices: tuple[slice, ...]
    axes: str
    spatial: str


class Painter:
    """Draws requests, one at a time; remembers the brightness of the last layer."""

    def __init__(self) -> None:
        self._measured: tuple[Any, ImageIntensity] | None = None

    def draw(self, request: Request) -> Drawn | Problem:
        """Draw what the network would be shown."""
        try:
            return self._draw(request)
        except UserError as error:
            return Problem(error)

    def _draw(self, request: Request) -> Drawn:
        source = request.source
        axes = source.axes()
        ndim = request.ndim if request.ndim != "auto" else 3 if _depth(source, axes) > 1 else 2
        spacing = _spacing(source, axes, ndim)
        task = make_task(request.pretext, spacing)
        box = crop(source.shape, axes, request.middle, task, ndim)
        stored = np.asarray(source.data[box.slices])
        measured = self._measure(source, axes)
        image = to_spatial(stored, box)
        drawn = apply(task, finite(image, measured.mean), measured)
        data = to_dtype(from_spatial(drawn, stored.shape, box), _native(stored.dtype))
        start = tuple(s.start for s in box.slices)
        return Drawn(source.name, f"{source.name} {SUFFIX[request.pretext.task]}", data, start)

    def _measure(self, source: LayerSource, axes: str) -> ImageIntensity:
        if self._measured is None or self._measured[0] is not source.data:
            every = max(1, math.ceil((math.prod(source.shape) / MEASURED_VOXELS) ** 0.5))
            index = tuple(slice(None, None, every if a in "YX" else 1) for a in axes)
            stored = np.asarray(source.data[index])
            order = [axes.index(a) for a in "CS" if a in axes]
            flat = np.moveaxis(stored, order, range(len(order)))
            channels = math.prod(flat.shape[: len(order)])
            self._measured = source.data, measure_array(flat.reshape(channels, -1), "zscore")
        return self._measured[1]


def make_task(pretext: PretextConfig, spacing: tuple[float, ...]) -> Crappify | Masking:
    """Return the pretext task of the form's settings.

    Raises
    ------
    ConfigError
        The tokens do not have as many sides as the image.
    """
    if pretext.task == "crappify":
        factors = geometry.crappify_factors(pretext.resizing_factor, spacing)
        return Crappify(noise=pretext.noise, axis_factors=factors)
    asked = pretext.token_size
    token = geometry.token_size(spacing) if asked == "auto" else asked
    token = (token,) * len(spacing) if isinstance(token, int) else token
    if len(token) != len(spacing):
        raise ConfigError(
            "pretext.token_size",
            f"needs {len(spacing)} numbers for {len(spacing)}D images",
            value=list(token),
            remedy="Give one number, or one an axis.",
        )
    return Masking(mask_ratio=pretext.mask_ratio, mask_type=pretext.mask_type, token_size=token)


def crop(
    shape: tuple[int, ...], axes: str, middle: tuple[int, ...], task: Crappify | Masking, ndim: int
) -> Box:
    """Return the part of a layer that is drawn: whole tokens around the middle of the view.

    Raises
    ------
    ConfigError
        The layer is smaller than a token.
    """
    spatial = "ZYX"[-ndim:]
    tokens = task.token_size if isinstance(task, Masking) else (1,) * ndim
    largest = dict(zip(spatial, LARGEST[ndim], strict=True))
    token = dict(zip(spatial, tokens, strict=True))
    slices = []
    for axis, length, at in zip(axes, shape, middle, strict=True):
        if axis in spatial:
            size = min(length, max(largest[axis], token[axis])) // token[axis] * token[axis]
            if size == 0:
                raise ConfigError(
                    "pretext.token_size",
                    f"is larger than the layer along {axis} ({length} pixels)",
                    value=list(tokens),
                    remedy="Use a smaller token.",
                )
            start = min(max(0, at - size // 2), length - size)
            slices.append(slice(start, start + size))
        elif axis in "CS":
            slices.append(slice(0, length))
        else:
            slices.append(slice(min(max(0, at), length - 1), min(max(0, at), length - 1) + 1))
    return Box(tuple(slices), axes, spatial)


def to_spatial(stored: np.ndarray, box: Box) -> np.ndarray:
    """Bring a crop from stored axes to ``C *spatial``."""
    order = _order(box)
    moved = stored.transpose([box.axes.index(a) for a in order])
    return moved.reshape(-1, *moved.shape[-len(box.spatial) :])


def from_spatial(image: np.ndarray, shape: tuple[int, ...], box: Box) -> np.ndarray:
    """Bring ``C *spatial`` back to the stored axes."""
    order = _order(box)
    moved = image.reshape([shape[box.axes.index(a)] for a in order])
    return moved.transpose([order.index(a) for a in box.axes])


def _order(box: Box) -> str:
    rest = "".join(a for a in box.axes if a not in box.spatial and a not in "CS")
    return rest + "".join(a for a in "CS" if a in box.axes) + box.spatial


def apply(task: Crappify | Masking, image: np.ndarray, measured: ImageIntensity) -> np.ndarray:
    """Worsen or mask ``C *spatial``; hidden parts are shown at the image's mean."""
    batch = np.asarray(image, np.float32)[None]
    intensity = Intensity(
        np.asarray(measured.offset, np.float32)[None],
        np.asarray(measured.scale, np.float32)[None],
        np.array([measured.low], np.float32),
        np.array([measured.high], np.float32),
    )
    random = NumpyRandom([(0, 0, 0)])  # the same at every move of a slider: nothing flickers
    if isinstance(task, Crappify):
        worse: np.ndarray = task.worsen(batch, intensity, random)[0]
        return worse
    hidden = task.draw_hidden(1, task.token_grid(batch.shape[2:]), random)
    mean = np.asarray(measured.mean, np.float32).reshape(1, -1, *(1,) * (batch.ndim - 2))
    masked: np.ndarray = np.where(task.to_pixels(hidden), mean, batch)[0]
    return masked


def _depth(source: LayerSource, axes: str) -> int:
    return source.shape[axes.index("Z")] if "Z" in axes else 1


def _spacing(source: LayerSource, axes: str, ndim: int) -> tuple[float, ...]:
    sizes, _ = source.pixel_size(axes)
    if ndim == 3 and "Z" not in axes:  # noqa: PLR2004
        raise ConfigError(
            "data.ndim",
            f"needs images with depth; layer {source.name} is flat",
            value=3,
            remedy="Set it to 2 or auto.",
        )
    voxel = tuple(sizes.get(a, 1.0) for a in "ZYX"[-ndim:])
    return geometry.relative_spacing(voxel if sizes else None, ndim)


def _native(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype
