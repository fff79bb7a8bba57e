"""*Preview*: what the network will be shown, on the open layer, live while the sliders move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_ssl_pretrain.errors import UserError
from napari_ssl_pretrain.gui.layer_source import OWN, camera_of, describe
from napari_ssl_pretrain.gui.paint import Drawn, Painter, Request
from napari_ssl_pretrain.gui.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel

    from napari_ssl_pretrain.spec.config import PretextConfig

    Settings = Callable[[], tuple[PretextConfig, Any]]

DEBOUNCE_MS = 30


class Preview(QObject):
    """Keeps a preview layer current while the form changes.

    Parameters
    ----------
    viewer
        The viewer.
    settings
        Returns the pretext settings and ``data.ndim`` of the form; raises ``UserError`` where
        they are wrong.
    parent
        The dock, with which this ends.
    """

    failed = Signal(object)
    drawn = Signal(str)

    def __init__(self, viewer: ViewerModel, settings: Settings, parent: QObject) -> None:
        super().__init__(parent)
        self.viewer, self._settings = viewer, settings
        self._painter = Painter()
        self._host: ImageLayer | None = None
        self._middle: tuple[int, ...] = ()
        self._busy = self._again = self._failed = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(DEBOUNCE_MS)
        self._timer.timeout.connect(self._draw)
        viewer.dims.events.current_step.connect(self._on_step)

    @property
    def live(self) -> bool:
        """Whether a preview layer follows the form, or would if the form were right."""
        there = self._failed or self._layer() is not None
        return self._host in self.viewer.layers and there

    def begin(self, layer: ImageLayer) -> None:
        """Draw on a layer, around the middle of the view."""
        self._host = layer
        self._middle = _middle_of_view(self.viewer, layer)
        self._draw()

    def end(self) -> None:
        """Take the preview away."""
        for layer in [x for x in self.viewer.layers if _is_preview(x)]:
            self.viewer.layers.remove(layer)
        self._host = None

    def close(self) -> None:
        """Stop listening to the viewer; the timer has ended with the dock."""
        self._host = None
        self.viewer.dims.events.current_step.disconnect(self._on_step)

    def update(self) -> None:
        """Draw again soon, if there is a preview."""
        if self.live:
            self._timer.start()

    def _on_step(self, _event: Any = None) -> None:
        self.update()

    def _layer(self) -> ImageLayer | None:
        return next((x for x in self.viewer.layers if _is_preview(x)), None)

    def _draw(self) -> None:
        if self._host is None or self._host not in self.viewer.layers:
            return
        if self._busy:
            self._again = True
            return
        try:
            pretext, ndim = self._settings()
        except UserError as error:
            self._failed = True
            self.failed.emit(error)
            return
        request = Request(describe(self._host), self._place(self._host), pretext, ndim)
        self._busy = True
        worker: Any = create_worker(self._painter.draw, request, _start_thread=False)
        worker.returned.connect(self._on_drawn)
        worker.finished.connect(self._on_finished)
        worker.start()

    def _place(self, layer: ImageLayer) -> tuple[int, ...]:
        """Return the middle of the crop: that of the view at the click, at the planes shown now."""
        here = _middle_of_view(self.viewer, layer)
        shown = set(_displayed(self.viewer, layer))
        both = enumerate(zip(self._middle, here, strict=True))
        return tuple(then if axis in shown else now for axis, (then, now) in both)

    def _on_finished(self) -> None:
        self._busy = False
        if self._again:
            self._again = False
            self._draw()

    def _on_drawn(self, found: Drawn | Problem) -> None:
        self._failed = isinstance(found, Problem)
        if isinstance(found, Problem):
            self.failed.emit(found.error)
            return
        host = self._host
        if host is None or host not in self.viewer.layers or host.name != found.layer:
            return
        start = np.zeros(host.ndim)
        start[:] = found.start[: host.ndim]
        translate = np.asarray(host.translate) + start * np.asarray(host.scale)
        old = self._layer()
        if old is not None and _fits(old, found, host):
            old.data, old.translate = found.data, translate
        else:
            if old is not None:
                self.viewer.layers.remove(old)
            self._add(found, host, translate)
        self.drawn.emit(found.name)

    def _add(self, found: Drawn, host: ImageLayer, translate: np.ndarray) -> None:
        look: dict[str, Any] = {}
        if not host.rgb:
            look = {"colormap": host.colormap, "contrast_limits": host.contrast_limits}
        layer = ImageLayer(
            found.data,
            name=found.name,
            rgb=host.rgb,
            scale=host.scale,
            translate=translate,
            units=host.units,
            axis_labels=host.axis_labels,
            metadata={OWN: {"preview": True, "layer": host.name}},
            **look,
        )
        if found.name in self.viewer.layers and OWN in self.viewer.layers[found.name].metadata:
            self.viewer.layers.remove(found.name)
        self.viewer.layers.append(layer)
        self.viewer.layers.selection.active = host  # a second click previews the same layer


def _fits(layer: ImageLayer, found: Drawn, host: ImageLayer) -> bool:
    same = layer.name == found.name and layer.rgb == host.rgb
    alike = layer.data.shape == found.data.shape and layer.data.dtype == found.data.dtype
    return bool(same and alike)


def _is_preview(layer: Any) -> bool:
    return bool(layer.metadata.get(OWN, {}).get("preview"))


def _displayed(viewer: ViewerModel, layer: ImageLayer) -> list[int]:
    """Return the axes of a layer that the canvas shows."""
    offset = viewer.dims.ndim - layer.ndim
    return [d - offset for d in viewer.dims.displayed if d >= offset]


def _middle_of_view(viewer: ViewerModel, layer: ImageLayer) -> tuple[int, ...]:
    """Return the index, on each axis of a layer, of what is in the middle of the view."""
    world = np.array(viewer.dims.point, float)
    displayed = viewer.dims.displayed
    world[list(displayed)] = camera_of(viewer).center[-len(displayed) :]
    place = np.rint(layer.world_to_data(world[-layer.ndim :]))
    shape = layer.data.shape
    inside = [int(min(max(0, p), n - 1)) for p, n in zip(place, shape, strict=False)]
    return (*inside, *(0,) * (len(shape) - len(inside)))
