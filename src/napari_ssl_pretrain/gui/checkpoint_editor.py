"""The editor of a checkpoint: a path, a file dialogue, and the best ones of the known runs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain.gui.encoding import known_checkpoints
from napari_ssl_pretrain.gui.paths_editor import PathsEditor
from napari_ssl_pretrain.gui.plain import plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_ssl_pretrain.gui.crew import Crew


class CheckpointEditor(PathsEditor):
    """A line with the path of a checkpoint; the button also offers runs.

    Parameters
    ----------
    crew
        Does the looking.
    roots
        Returns the folders in which runs are looked for.
    """

    def __init__(self, crew: Crew, roots: Callable[[], list[Path]]) -> None:
        super().__init__("file", empty="")
        self._crew, self._roots = crew, roots
        self._known: list[tuple[str, str]] = []
        self.line.setPlaceholderText("checkpoint of a run (.pth)")
        self.setObjectName("checkpoint")

    def set(self, value: Any) -> None:
        """Show a path, its end first: that is where checkpoints differ."""
        super().set(value)
        self.line.setCursorPosition(len(self.text()))
        self.line.setToolTip(plain(self.text()))

    def suggest(self, path: str) -> None:
        """Show a path where there is none, or the newest run's; the runs are looked for."""
        if path and not self.get():
            self.set(path)
        self._look()

    def fill_menu(self) -> None:
        """Offer the dialogue and the runs known by now; look for newer ones meanwhile."""
        super().fill_menu()
        if self._known:
            self.menu.addSection("Runs, newest first")
        for name, path in self._known:
            action = self.menu.addAction(name, partial(self.set, path))
            if action is not None:
                action.setToolTip(plain(path))
        self._look()

    def _look(self) -> None:
        self._crew.start(known_checkpoints, self._roots(), returned=self._on_found)

    def _on_found(self, found: list[tuple[str, str]]) -> None:
        self._known = found
        if found and not self.get():
            self.set(found[0][1])
