"""The same image of several runs as layers: side by side in one row, linked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.experimental import link_layers, unlink_layers
from napari.layers import Image as ImageLayer

from napari_ssl_pretrain.gui.layer_source import OWN
from napari_ssl_pretrain.gui.result_layers import (
    add_quietly,
    agreeing_units,
    image_pieces,
    renew,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari.components import ViewerModel

    from napari_ssl_pretrain.gui.run_files import Panel

GAP = 0.04
"""Space between two images, as a part of their width."""

LINKED = ("contrast_limits", "gamma", "visible")
LINKED_COLOURS = ("visible",)


def compared_layers(viewer: ViewerModel) -> list[ImageLayer]:
    """Return the layers that compare runs."""
    layers = [layer for layer in viewer.layers if isinstance(layer, ImageLayer)]
    return [layer for layer in layers if "compared" in layer.metadata.get(OWN, {})]


def show_panels(
    viewer: ViewerModel, panels: Sequence[Panel], *, side_by_side: bool
) -> Iterator[ImageLayer]:
    """Show what is compared, a layer whenever the next is asked for; then older ones go.

    They go last: where the only layer is removed and another added at once, the canvas of some
    versions of napari draws what is not there any more, and the program ends.
    """
    old = compared_layers(viewer)
    if old:
        unlink_layers(old)
    columns: list[list[ImageLayer]] = []
    for number, panel in enumerate(panels):
        columns.append([])
        for channel, piece in enumerate(image_pieces(panel.name, panel.picture)):
            about = panel.about | {"compared": number, "channel": channel}
            columns[-1].append(_put(viewer, piece, about))
            yield columns[-1][-1]
    shown = [layer for layers in columns for layer in layers]
    for layer in old:
        if layer not in shown and layer in viewer.layers:
            viewer.layers.remove(layer)
    for layers in zip(*columns, strict=False):
        link(layers)
    spread(viewer, side_by_side=side_by_side)


def _put(viewer: ViewerModel, piece: dict[str, Any], about: dict[str, Any]) -> ImageLayer:
    """Give a layer of this name new pixels, or add one."""
    name = piece["name"]
    old = next((layer for layer in compared_layers(viewer) if layer.name == name), None)
    if old is not None:
        if tuple(old.data.shape) == tuple(piece["data"].shape) and old.rgb == piece["rgb"]:
            old.visible = True
            return renew(old, piece, about)
        old.name = f"{name} (older)"
    units = agreeing_units(viewer, piece["units"])
    layer = ImageLayer(**piece | {"units": units}, metadata={OWN: about})
    add_quietly(viewer, layer)
    return layer


def link(layers: Sequence[ImageLayer]) -> None:
    """Show the layers of one channel alike from now on."""
    if layers[0].rgb:
        link_layers(layers, LINKED_COLOURS)
        return
    for layer in layers[1:]:
        layer.contrast_limits = layers[0].contrast_limits
    link_layers(layers, LINKED)


def spread(viewer: ViewerModel, *, side_by_side: bool) -> None:
    """Put the compared layers into a row, or on each other; their scale stays."""
    layers = compared_layers(viewer)
    width = max((_width(layer) for layer in layers), default=0.0)
    for layer in layers:
        place = [0.0] * layer.ndim
        place[_x_axis(layer)] = layer.metadata[OWN]["compared"] * width * (1 + GAP) * side_by_side
        layer.translate = place


def _x_axis(layer: ImageLayer) -> int:
    labels = tuple(layer.axis_labels)
    return labels.index("x") if "x" in labels else layer.ndim - 1


def _width(layer: ImageLayer) -> float:
    axis = _x_axis(layer)
    return float(layer.data.shape[axis] * layer.scale[axis])
