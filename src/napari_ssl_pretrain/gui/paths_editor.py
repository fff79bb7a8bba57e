"""The editor of a field that names files: a line, a file dialogue, and the open layers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QMenu,
    QSizePolicy,
    QToolButton,
    QWidget,
)

from napari_ssl_pretrain.gui.plain import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtGui import QDragEnterEvent, QDropEvent

LAYER = "layer: "
"""What stands before the name of an open layer that has no file of its own."""

Kind = Literal["images", "folder", "file"]


class PathLine(QLineEdit):
    """A line that takes files dropped on it."""

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Accept files."""
        if event is not None and (data := event.mimeData()) is not None and data.hasUrls():
            event.acceptProposedAction()
        else:
            super().dragEnterEvent(event)

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Show the paths of dropped files."""
        data = event.mimeData() if event is not None else None
        if event is None or data is None or not data.hasUrls():
            super().dropEvent(event)
            return
        self.setText("; ".join(url.toLocalFile() for url in data.urls()))
        event.acceptProposedAction()


class PathsEditor(QWidget):
    """A line with paths and a button that offers dialogues and, for images, the open layers.

    Parameters
    ----------
    kind
        ``images`` takes several paths and layers; ``folder`` and ``file`` take one path.
    empty
        What an empty line stands for.
    layers
        Returns the open layers as pairs of name and file; the file is empty where a layer
        has none.
    """

    def __init__(
        self,
        kind: Kind,
        *,
        empty: Any,
        layers: Callable[[], list[tuple[str, str]]] = list,
    ) -> None:
        super().__init__()
        self.native: Any = self
        self._kind, self._empty, self._layers = kind, empty, layers
        self.line = PathLine()
        hints = {"images": "folder, files or layer", "folder": "folder", "file": "file"}
        hint = hints[kind] if empty in {"", ()} else "none" if empty is None else empty
        self.line.setPlaceholderText(hint)
        self.button = QToolButton()
        self.button.setText("Choose…")
        self.button.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        self.button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.button.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)
        self.menu = QMenu(self.button)
        self.menu.aboutToShow.connect(self.fill_menu)
        self.button.setMenu(self.menu)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(self.line, 1)
        layout.addWidget(self.button)
        self.setFocusProxy(self.line)

    def setObjectName(self, name: Any) -> None:
        """Name the editor and its line alike: whoever looks for either finds it."""
        super().setObjectName(name)
        self.line.setObjectName(name)
        self.button.setObjectName(f"{name}.choose")

    def text(self) -> str:
        """Return the text of the line."""
        return self.line.text()

    def setText(self, text: str) -> None:
        """Replace the text of the line."""
        self.line.setText(text)

    def get(self) -> Any:
        """Return the paths as a tuple, or one path as text; what ``empty`` says for none."""
        parts = tuple(part.strip().strip('"') for part in self.text().split(";") if part.strip())
        if not parts:
            return self._empty
        return parts if self._kind == "images" else self.text().strip()

    def set(self, value: Any) -> None:
        """Show paths."""
        self.setText("" if value is None else value if isinstance(value, str) else "; ".join(value))
        self.line.setCursorPosition(0)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back at every change of the text."""
        self.line.textChanged.connect(lambda _: callback())

    def fill_menu(self) -> None:
        """Offer the dialogues, and the layers that are open now."""
        self.menu.clear()
        if self._kind != "file":
            self.menu.addAction("Folder…", self.choose_folder)
        if self._kind != "folder":
            self.menu.addAction("Files…" if self._kind == "images" else "File…", self.choose_files)
        found = self._layers()
        if found:
            self.menu.addSection("Open layers")
        for name, file in found:
            action = self.menu.addAction(f"Layer: {name}", partial(self.take_layer, name, file))
            if action is not None:
                action.setToolTip(
                    plain(file or "has no file: a TIFF of it is kept with the results")
                )

    def take_layer(self, name: str, file: str) -> None:
        """Use an open layer: its file, or the layer itself where it has none."""
        self.set(file or f"{LAYER}{name}")

    def choose_folder(self) -> None:
        """Ask for a folder."""
        found = QFileDialog.getExistingDirectory(self, "Choose a folder", self._start())
        if found:
            self.set(found)

    def choose_files(self) -> None:
        """Ask for files."""
        if self._kind == "images":
            found, _ = QFileDialog.getOpenFileNames(self, "Choose images", self._start())
        else:
            one, _ = QFileDialog.getOpenFileName(self, "Choose a file", self._start())
            found = [one] if one else []
        if found:
            self.set(tuple(found))

    def _start(self) -> str:
        """Return the folder to begin at."""
        first = Path(self.text().split(";")[0].strip() or Path.home())
        return str(first if first.is_dir() else first.parent)
