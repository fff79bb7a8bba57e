"""Results on their way into the viewer: one layer at a time, for napari takes 50 ms for each."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_ssl_pretrain.gui.result_layers import ResultLayers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari.layers import Image as ImageLayer

    from napari_ssl_pretrain.gui.results import Result
    from napari_ssl_pretrain.spec.run_dir import RunDir

PAUSE_MS = 100


class LayerQueue(QObject):
    """Shows results in order, and lets the viewer breathe between two layers.

    Parameters
    ----------
    viewer
        Where results go.
    parent
        The widget with which this ends.
    """

    drained = Signal()

    def __init__(self, viewer: Any, parent: QObject) -> None:
        super().__init__(parent)
        self._layers = ResultLayers(viewer)
        self._waiting: dict[str, tuple[Result, RunDir]] = {}
        self._adding: Iterator[ImageLayer] | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(PAUSE_MS)
        self._timer.timeout.connect(self._one)

    def put(self, result: Result, run: RunDir) -> None:
        """Show a result soon; one of the same file that still waits is left out."""
        self._waiting[result.path] = (result, run)
        if not self._timer.isActive():
            self._timer.start()

    def _one(self) -> None:
        if self._adding is None:
            if not self._waiting:
                self._timer.stop()
                self.drained.emit()
                return
            result, run = self._waiting.pop(next(iter(self._waiting)))
            self._adding = self._layers.add(result, run)
        with collection_postponed():
            layer = next(self._adding, None)
        if layer is None:
            self._adding = None
            self._one()


@contextmanager
def collection_postponed() -> Iterator[None]:
    """Let Python collect garbage in another turn: in a viewer that takes as long again."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()
