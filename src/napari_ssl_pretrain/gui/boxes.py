"""A box that offers the open layers of a kind by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QComboBox, QSizePolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class LayerBox(QComboBox):
    """Follows the list of layers; what was chosen stays chosen.

    Parameters
    ----------
    name
        Its object name.
    layers
        Returns the layers to offer.
    first
        What stands in front of them; empty for nothing.
    """

    def __init__(self, name: str, layers: Callable[[], Iterable[Any]], first: str = "") -> None:
        super().__init__()
        self._layers, self._first = layers, first
        self.setObjectName(name)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.refresh()

    def refresh(self) -> None:
        """Offer the layers that are open now."""
        names = [self._first] * bool(self._first) + [layer.name for layer in self._layers()]
        if names == [self.itemText(k) for k in range(self.count())]:
            return
        chosen = self.currentText()
        self.blockSignals(True)  # noqa: FBT003 - Qt's
        self.clear()
        self.addItems(names)
        self.setCurrentIndex(max(0, names.index(chosen) if chosen in names else 0))
        self.blockSignals(False)  # noqa: FBT003 - Qt's
        if self.currentText() != chosen:
            self.currentTextChanged.emit(self.currentText())

    def showPopup(self) -> None:
        """Look again before the list drops down: layers may have been renamed."""
        self.refresh()
        super().showPopup()

    def choose(self, name: str) -> None:
        """Choose a layer."""
        self.refresh()
        self.setCurrentText(name)

    def layer(self) -> Any:
        """Return the chosen layer, or None."""
        name = self.currentText()
        return next((layer for layer in self._layers() if layer.name == name), None)
