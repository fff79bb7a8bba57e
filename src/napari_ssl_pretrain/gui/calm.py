"""No pauses for garbage while a run is watched.

A full collection looks at each of the 200 000 objects of a viewer and stops it for 50 to 130 ms.
What is there when a run begins is set aside (:func:`gc.freeze`), so that collections look at
what came later alone, and is given back when the run has ended. A layer that the user removes
is not kept waiting: its memory is freed soon after.
"""

from __future__ import annotations

import gc
from typing import Any

from qtpy.QtCore import QObject, QTimer

FREE_AFTER_MS = 1500


class Calm(QObject):
    """Sets objects aside between :meth:`begin` and :meth:`end`.

    Parameters
    ----------
    viewer
        The viewer.
    parent
        The widget with which this ends.
    """

    def __init__(self, viewer: Any, parent: QObject) -> None:
        super().__init__(parent)
        self._layers = viewer.layers
        self._on = False

    def begin(self) -> None:
        """Set aside what is there."""
        if not self._on:
            self._on = True
            self._layers.events.removed.connect(self._on_removed)
            gc.freeze()

    def end(self) -> None:
        """Give back what was set aside."""
        if self._on:
            self._on = False
            self._layers.events.removed.disconnect(self._on_removed)
            gc.unfreeze()

    def _on_removed(self, _event: Any = None) -> None:
        gc.unfreeze()
        QTimer.singleShot(FREE_AFTER_MS, self._free)

    def _free(self) -> None:
        if self._on:
            gc.collect()
            gc.freeze()
