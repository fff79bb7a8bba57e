"""What an open layer is as an image: its pixels, axes, scale, and the file that it came from."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image as ImageLayer

from napari_ssl_pretrain.data.axes import assume
from napari_ssl_pretrain.data.survey import open_image
from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.errors import ConfigError, DataError

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels as LabelsLayer

OWN = "napari-ssl-pretrain"
"""Key in ``layer.metadata`` of what this plugin says about its own layers."""

FILE = f"{OWN} file"
"""Key of the file that the user's own layer was opened from, or kept in, by this plugin."""

STROKES = f"{OWN} strokes"
"""Key of the layer that a probe learns from: the user paints it, but it labels no image."""

UNITS = {
    "micrometer": "µm",  # noqa: RUF001 - the sign that files use
    "nanometer": "nm",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "angstrom": "Å",
    "picometer": "pm",
    "inch": "inch",
}
"""Units of layers and how files write them."""

PIXEL = "pixel"


@dataclass(frozen=True)
class LayerSource:
    """A picture of a layer that a worker may use without touching the layer.

    Attributes
    ----------
    name
        Name of the layer.
    data
        Its pixels, as the layer holds them (perhaps lazily).
    rgb
        Whether the last axis holds colours.
    labels
        Names of its axes.
    scale, translate
        One number an axis, without that of the colours.
    units
        One unit an axis.
    file
        The file that the layer came from; empty where there is none.
    contrast
        Its contrast limits; labels have none, so 0 and 1.
    """

    name: str
    data: Any
    rgb: bool
    labels: tuple[str, ...]
    scale: tuple[float, ...]
    translate: tuple[float, ...]
    units: tuple[str, ...]
    file: str
    contrast: tuple[float, float]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(self.data.shape)

    def axes(self) -> str:
        """Return a letter for each axis: from names, from the file, or assumed. May read."""
        named = "".join(label.upper() for label in self.labels)
        single = len(named) == len(self.labels) == len(set(named))
        if single and set("YX") <= set(named) <= set("TCZYX"):
            return named + ("S" if self.rgb else "")
        return self._file_axes() or self._assumed()

    def _file_axes(self) -> str:
        if not self.file:
            return ""
        try:
            info = open_image(self.file).info
        except (DataError, ConfigError):
            return ""
        return info.axes if info.shape == self.shape else ""

    def _assumed(self) -> str:
        if not self.rgb:
            return assume(self.shape)
        return "TZYXS"[-len(self.shape) :] if len(self.shape) != 4 else "ZYXS"  # noqa: PLR2004

    def pixel_size(self, axes: str) -> tuple[dict[str, float], str | None]:
        """Return the spacing of each spatial axis and its unit; empty where the layer has none."""
        unit = next((u for u in self.units if u != PIXEL), PIXEL)
        pairs = zip(axes, self.scale, strict=False)
        sizes = {a: float(s) for a, s in pairs if a in "ZYX"}
        if unit == PIXEL and all(math.isclose(s, 1.0) for s in sizes.values()):
            return {}, None
        return sizes, UNITS.get(unit)

    def save(self, path: Path) -> None:
        """Write the pixels as a TIFF with the layer's axes and scale."""
        axes = self.axes()
        sizes, unit = self.pixel_size(axes)
        write_array(path, np.asarray(self.data), axes, pixel_size=sizes, unit=unit)


def describe(layer: ImageLayer | LabelsLayer) -> LayerSource:
    """Return what a worker needs to know of a layer."""
    data = layer.data[0] if layer.multiscale else layer.data
    path = layer.source.path or layer.metadata.get(FILE)
    low, high = getattr(layer, "contrast_limits", (0.0, 1.0))
    return LayerSource(
        layer.name,
        data,
        bool(getattr(layer, "rgb", False)),
        tuple(layer.axis_labels),
        tuple(float(s) for s in layer.scale),
        tuple(float(t) for t in layer.translate),
        tuple(str(u) for u in layer.units),
        str(path) if isinstance(path, str | Path) and Path(path).exists() else "",
        (float(low), float(high)),
    )


def users_layers(viewer: ViewerModel) -> list[ImageLayer]:
    """Return the open image layers that this plugin did not make."""
    images = (layer for layer in viewer.layers if isinstance(layer, ImageLayer))
    return [layer for layer in images if OWN not in layer.metadata]


def active_layer(viewer: ViewerModel) -> ImageLayer | None:
    """Return the selected image layer, or the topmost one; None where none is open."""
    found = users_layers(viewer)
    active = viewer.layers.selection.active
    if active in found:
        return active
    return found[-1] if found else None


def grid_of(viewer: ViewerModel) -> Any:
    """Return the viewer's grid, which newer versions of napari keep with the canvas."""
    canvas = getattr(viewer, "canvas", None)
    return viewer.grid if canvas is None else canvas.grid


def camera_of(viewer: ViewerModel) -> Any:
    """Return the viewer's camera, which newer versions of napari keep with the scene."""
    scene = getattr(viewer, "scene", None)
    return viewer.camera if scene is None else scene.camera


def layer_file(result_dir: Path, job: str, name: str) -> Path:
    """Return where the TIFF of a layer without a file is kept."""
    return result_dir / job / "layers" / f"{file_stem(name)}.tif"


def file_stem(name: str) -> str:
    """Return the name of a layer as a file may be called."""
    return re.sub(r'[\\/:*?"<>|\[\]\x00-\x1f]+', "_", name).strip(" .") or "layer"
