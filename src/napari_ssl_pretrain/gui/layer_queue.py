"""Results on their way into the viewer: one layer at a time, for napari takes 50 ms for each."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from napari_ssl_pretrain.gui.result_layers import ResultLayers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
        self._waiting: dict[str, Callable[[], Iterator[ImageLayer]]] = {}
        self._adding: Iterator[ImageLayer] | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(PAUSE_MS)
        self._timer.timeout.connect(self._one)

    def put(self, result: Result, run: RunDir) -> None:
        """Show a result soon; one of the same file that still waits is left out."""
        self.put_steps(result.path, partial(self._layers.add, result, run))

    def put_steps(self, key: str, steps: Callable[[], Iterator[ImageLayer]]) -> None:
        """Take steps in the viewer soon, one at a time; older ones of the same key are left out."""
        self._waiting[key] = steps
        if not self._timer.isActive():
            self._timer.start()

    def _one(self) -> None:
        if self._adding is None:
            if not self._waiting:
                self._timer.stop()
                self.drained.emit()
                return
            self._adding = self._waiting.pop(next(iter(self._waiting)))()
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
