"""Result images as layers: in the place and scale of the loaded image, so that they overlay.

All that was made of an image lies exactly on it: the eye of a layer compares it with what is
below; *side by side* spreads the layers on napari's grid instead. A layer that is there is
given new pixels, so that an image comes into focus while the network learns.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.experimental import link_layers
from napari.layers import Image as ImageLayer

from napari_ssl_pretrain.gui.layer_source import FILE, OWN, PIXEL, UNITS, grid_of, users_layers
from napari_ssl_pretrain.gui.results import KINDS, Picture, Result

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari.components import ViewerModel

    from napari_ssl_pretrain.spec.run_dir import RunDir

ORDER = list(KINDS)


class ResultLayers:
    """Puts results into the viewer and keeps them current.

    Parameters
    ----------
    viewer
        The viewer.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer

    def show(self, result: Result, run: RunDir) -> list[ImageLayer]:
        """Add a result, or give its layers new pixels; return its layers."""
        return list(dict.fromkeys(self.add(result, run)))

    def add(self, result: Result, run: RunDir) -> Iterator[ImageLayer]:
        """Add a result step by step, whenever the next is asked for.

        A layer is added hidden and shown in the step after: adding it and drawing it for the
        first time take the viewer about 50 ms each.
        """
        about = {
            "run": run.run_name,
            "result_dir": str(run.result_dir),
            "file": result.path,
            "source": result.source,
            "image": result.image,
            "kind": result.kind,
            "step": result.step,
        }
        first = self._is_first(result)
        for number, piece in enumerate(self._pieces(result, self._host(result))):
            there = set(self.viewer.layers)
            layer = self._put(piece, about | {"channel": number})
            yield layer
            if layer not in there and (first or grid_of(self.viewer).enabled):
                layer.visible = True
                yield layer

    def _host(self, result: Result) -> ImageLayer | None:
        """Return the open layer that a result was made from, if its pixels lie on each other."""
        for layer in users_layers(self.viewer):
            path = layer.source.path or layer.metadata.get(FILE)
            same_file = bool(path and result.source) and Path(path) == Path(result.source)
            if (same_file or layer.name == result.image) and not layer.multiscale:
                shape = layer.data.shape
                if tuple(shape) == tuple(result.data.shape) and layer.rgb == result.rgb:
                    return layer
        return None

    def _pieces(self, result: Result, host: ImageLayer | None) -> list[dict[str, Any]]:
        """Return the arguments of each layer: one, or one a channel."""
        if host is None:
            return image_pieces(result.name, result)
        piece = {
            "name": result.name,
            "data": result.data,
            "rgb": result.rgb,
            "scale": host.scale,
            "translate": host.translate,
            "units": host.units,
            "axis_labels": host.axis_labels,
        }
        if not result.rgb:
            piece["colormap"] = host.colormap
            piece["contrast_limits"] = tuple(host.contrast_limits)
        return [piece]

    def _is_first(self, result: Result) -> bool:
        """Whether no other image of this run's has layers yet: later ones come in hidden."""
        return all(about["image"] == result.image for about in self._own_layers().values())

    def _own_layers(self) -> dict[ImageLayer, dict[str, Any]]:
        found = {}
        for layer in self.viewer.layers:
            about = layer.metadata.get(OWN)
            if isinstance(layer, ImageLayer) and about and "run" in about:
                found[layer] = about
        return found

    def _put(self, piece: dict[str, Any], about: dict[str, Any]) -> ImageLayer:
        name = piece["name"]
        old = next((layer for layer in self.viewer.layers if layer.name == name), None)
        if isinstance(old, ImageLayer) and OWN in old.metadata:
            if tuple(old.data.shape) == tuple(piece["data"].shape) and old.rgb == piece["rgb"]:
                return renew(old, piece, about)
            self.viewer.layers.remove(old)
        units = agreeing_units(self.viewer, piece["units"])
        layer = ImageLayer(**piece | {"units": units}, metadata={OWN: about}, visible=False)
        add_quietly(self.viewer, layer)
        self._arrange(layer, about)
        return layer

    def _arrange(self, layer: ImageLayer, about: dict[str, Any]) -> None:
        """Link a new layer's contrast with its siblings, and keep the kinds in order."""
        siblings = {
            other: theirs
            for other, theirs in self._own_layers().items()
            if other is not layer
            and (theirs["image"], theirs["result_dir"]) == (about["image"], about["result_dir"])
        }
        same = [o for o, theirs in siblings.items() if theirs["channel"] == about["channel"]]
        if same and not layer.rgb:
            link_layers([*same, layer], ("contrast_limits", "gamma"))
        rank = _rank(about)
        place = self.viewer.layers.index
        above = [place(other) for other, theirs in siblings.items() if _rank(theirs) > rank]
        if above:
            self.viewer.layers.move(self.viewer.layers.index(layer), min(above))


def add_quietly(viewer: ViewerModel, layer: ImageLayer) -> None:
    """Add a layer and leave selected what was selected: the user may be painting."""
    selection = viewer.layers.selection
    selected, active = list(selection), selection.active
    if not selected:
        viewer.layers.append(layer)
        return
    # nobody need be told of a selection that ends as it began: the controls would be built anew
    with selection.events.blocker_all():
        viewer.layers.append(layer)
        viewer.layers.selection = selected
        selection.active = active


def agreeing_units(viewer: ViewerModel, units: Sequence[Any]) -> tuple[str, ...]:
    """Return a new layer's units; pixels where other layers have other ones, as napari asks."""
    asked = tuple(str(unit) for unit in units)
    for layer in viewer.layers:
        common = min(len(asked), layer.ndim)
        theirs = tuple(str(unit) for unit in layer.units)[-common:]
        if [pint_name(u) for u in asked[-common:]] != [pint_name(u) for u in theirs]:
            return (PIXEL,) * len(asked)
    return asked


def pint_name(unit: str) -> str:
    """Return the name that layers use for a unit of files."""
    return next((name for name, short in UNITS.items() if short == unit), unit)


def image_pieces(name: str, image: Picture) -> list[dict[str, Any]]:
    """Return the arguments of an image's layers, in its own scale: one, or one a channel."""
    axes = image.axes.removesuffix("S")
    place = axes.find("C") if not image.rgb else -1
    kept = axes.replace("C", "") if place >= 0 else axes
    common: dict[str, Any] = {
        "name": name,
        "data": image.data,
        "rgb": image.rgb,
        "scale": [image.pixel_size.get(a, 1.0) for a in kept],
        "units": [image.unit or PIXEL if a in image.pixel_size else PIXEL for a in kept],
        "axis_labels": tuple(kept.lower()),
    }
    if image.rgb:
        return [common]
    if place < 0:
        return [common | {"contrast_limits": image.limits[0]}]
    colors = COLORS if len(image.limits) > 1 else ["gray"]
    return [
        common
        | {
            "data": image.data[(slice(None),) * place + (channel,)],
            "name": name + (f" [{channel}]" if channel else ""),
            "contrast_limits": limits,
            "colormap": colors[channel % len(colors)],
            "blending": "additive" if channel else "translucent_no_depth",
        }
        for channel, limits in enumerate(image.limits)
    ]


COLORS = ["magenta", "green", "cyan", "yellow", "red", "blue"]


def _rank(about: dict[str, Any]) -> tuple[int, int]:
    return ORDER.index(about["kind"]), about["channel"]


def renew(layer: ImageLayer, piece: dict[str, Any], about: dict[str, Any]) -> ImageLayer:
    """Give a layer new pixels; what the user changed of its look stays."""
    layer.data = piece["data"]
    layer.scale = piece["scale"]
    layer.translate = piece.get("translate", (0.0,) * layer.ndim)
    layer.metadata = layer.metadata | {OWN: about}
    return layer
