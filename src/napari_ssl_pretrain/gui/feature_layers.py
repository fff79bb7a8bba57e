"""Where features, similarity and the probe go: layers in the place and scale of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels as LabelsLayer

from napari_ssl_pretrain.gui.encoding import Encoded, to_axes
from napari_ssl_pretrain.gui.layer_source import OWN, STROKES
from napari_ssl_pretrain.gui.result_layers import add_quietly

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_ssl_pretrain.data.similarity import Likeness


class FeatureLayers:
    """Puts what was made of an encoded layer beside it; layers that are there get new pixels.

    Parameters
    ----------
    viewer
        The viewer.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer

    def features(self, host: ImageLayer, found: Encoded) -> ImageLayer:
        """Show the first three principal components in colours."""
        colours = to_axes(found.colours, found.map.axes, found.axes, _lengths(host))
        look = {"rgb": True, "blending": "translucent"}
        return self._put(ImageLayer, f"{host.name} features", host, colours, look)

    def similarity(self, host: ImageLayer, found: Encoded, likeness: Likeness) -> ImageLayer:
        """Show similarity, on its own coarse grid, where it belongs."""
        axes = found.map.axes
        values = to_axes(likeness.values, axes, found.axes, _lengths(host))
        step = dict(zip(axes, likeness.step, strict=True))
        start = dict(zip(axes, likeness.start, strict=True))
        own = np.asarray(host.scale)
        scale = own * [step.get(a, 1.0) for a in found.axes]
        translate = np.asarray(host.translate) + own * [start.get(a, 0.0) for a in found.axes]
        look = {
            "scale": scale,
            "translate": translate,
            "colormap": "inferno",
            "contrast_limits": (0.0, 1.0),
            "interpolation2d": "linear",
            "blending": "translucent",
            "opacity": 0.7,
        }
        return self._put(ImageLayer, f"{host.name} similarity", host, values, look)

    def show(self, host: ImageLayer, **kinds: bool) -> None:
        """Show or hide what was made of a layer; what is not there stays away."""
        for kind, visible in kinds.items():
            name = f"{host.name} {kind}"
            for layer in self.viewer.layers:
                if layer.name == name and OWN in layer.metadata:
                    layer.visible = visible

    def probe(
        self, host: ImageLayer, found: Encoded, labels: np.ndarray, below: LabelsLayer
    ) -> LabelsLayer:
        """Show what the probe predicts, below the strokes: more may follow."""
        values = to_axes(labels, found.map.axes, found.axes, _lengths(host))
        layer = self._put(LabelsLayer, f"{host.name} probe", host, values, {"opacity": 0.5})
        layers = self.viewer.layers
        if below in layers and layers.index(below) < layers.index(layer):
            layers.move(layers.index(layer), layers.index(below))
        return cast("LabelsLayer", layer)

    def scribbles(self, host: ImageLayer, found: Encoded) -> LabelsLayer:
        """Add an empty layer to paint on, ready to paint."""
        shape = [1 if a == "C" else n for a, n in zip(found.axes, host.data.shape, strict=False)]
        about = _place(host) | {"metadata": {STROKES: host.name}}
        layer = LabelsLayer(np.zeros(shape, np.uint8), name=f"{host.name} scribbles", **about)
        self.viewer.layers.append(layer)
        layer.brush_size = max(3, min(host.data.shape[-3 if host.rgb else -2 :][:2]) // 60)
        layer.mode = "paint"
        return layer

    def _put(self, kind: Any, name: str, host: ImageLayer, data: Any, look: dict[str, Any]) -> Any:
        about = _place(host) | look
        old = next((layer for layer in self.viewer.layers if layer.name == name), None)
        if isinstance(old, kind) and OWN in old.metadata and old.ndim == len(host.scale):
            old.data = data
            for field in ("scale", "translate"):
                if not np.array_equal(getattr(old, field), about[field]):
                    setattr(old, field, about[field])
            return old
        layer = kind(data, name=name, metadata={OWN: {"features": host.name}}, **about)
        add_quietly(self.viewer, layer)
        return layer


def _place(host: ImageLayer) -> dict[str, Any]:
    return {
        "scale": host.scale,
        "translate": host.translate,
        "units": host.units,
        "axis_labels": host.axis_labels,
    }


def _lengths(host: ImageLayer) -> tuple[int, ...]:
    shape = tuple(host.data.shape)
    return shape[:-1] if host.rgb else shape
