"""Similarity to the point under the mouse, live: one comparison at a time, in a worker."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

if TYPE_CHECKING:
    import numpy as np
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_ssl_pretrain.data.similarity import Likeness
    from napari_ssl_pretrain.gui.encoding import Encoded
    from napari_ssl_pretrain.gui.feature_layers import FeatureLayers

THROTTLE_MS = 25
FLAT = 2


class Hover(QObject):
    """Follows the mouse over an encoded layer.

    Parameters
    ----------
    viewer
        The viewer.
    layers
        Where similarity is shown.
    parent
        The dock, with which this ends.
    """

    drawn = Signal()

    def __init__(self, viewer: ViewerModel, layers: FeatureLayers, parent: QObject) -> None:
        super().__init__(parent)
        self.viewer, self._layers = viewer, layers
        self._host: ImageLayer | None = None
        self._found: Encoded | None = None
        self._place: tuple[float, ...] | None = None
        self._vector: np.ndarray | None = None
        self._moved = self._busy = self._again = self._listening = False
        self.times: deque[float] = deque(maxlen=200)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(THROTTLE_MS)
        self._timer.timeout.connect(self._compare)

    def begin(self, host: ImageLayer, found: Encoded) -> None:
        """Follow the mouse over a layer from now on."""
        if self._found is not found:
            self._vector = None
        self._host, self._found = host, found
        if not self._listening:
            self._listening = True
            self.viewer.mouse_move_callbacks.append(self._on_move)
            self.viewer.dims.events.current_step.connect(self._on_step)

    def end(self) -> None:
        """Follow it no more; what was drawn stays."""
        if self._listening:
            self._listening = False
            self.viewer.mouse_move_callbacks.remove(self._on_move)
            self.viewer.dims.events.current_step.disconnect(self._on_step)
        self._host = self._found = self._place = self._vector = None

    def _on_move(self, _viewer: Any, event: Any) -> None:
        self.point(event.position)

    def point(self, position: Any) -> None:
        """Compare with a point of the world, soon."""
        if self._host is None or self.viewer.dims.ndisplay != FLAT:
            return
        self._place, self._moved = tuple(float(p) for p in position), True
        self._soon()

    def _on_step(self, _event: Any = None) -> None:
        """Show other planes beside the same point."""
        if self._vector is not None and self.viewer.dims.ndisplay == FLAT:
            self._place = tuple(float(p) for p in self.viewer.dims.point)
            self._soon()

    def _soon(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def _compare(self) -> None:
        if self._busy:
            self._again = True
            return
        host, found, place = self._host, self._found, self._place
        if host is None or found is None or place is None or host not in self.viewer.layers:
            return
        data = host.world_to_data(place[-host.ndim :])
        here = dict(zip(found.axes, (float(p) for p in data), strict=True))
        point = [here[a] for a in found.map.axes]
        moved, self._moved = self._moved, False
        if moved and not found.map.holds(point):
            return
        self._busy = True
        vector = None if moved else self._vector
        worker: Any = create_worker(compare, found, point, vector, _start_thread=False)
        worker.returned.connect(self._on_compared)
        worker.finished.connect(self._on_finished)
        worker.start()

    def _on_compared(self, answer: tuple[Encoded, np.ndarray, Likeness]) -> None:
        found, vector, likeness = answer
        if found is not self._found or self._host is None or self._host not in self.viewer.layers:
            return
        self._vector = vector
        self._layers.similarity(self._host, found, likeness)
        self.times.append(time.perf_counter())
        self.drawn.emit()

    def _on_finished(self) -> None:
        self._busy = False
        if self._again:
            self._again = False
            self._compare()


def compare(
    found: Encoded, point: list[float], vector: np.ndarray | None
) -> tuple[Encoded, np.ndarray, Likeness]:
    """Compare with the features at a point, or with those of before on other planes."""
    if vector is None:
        vector = found.similarity.vector(point)
    return found, vector, found.similarity(vector, point)
