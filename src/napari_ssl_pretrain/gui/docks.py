"""Opening the docks from menus and from each other."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any
from weakref import WeakSet

import napari.viewer  # noqa: TC002 - napari reads the annotations of commands

from napari_ssl_pretrain.gui import remember

PLUGIN = "napari-ssl-pretrain"
_OPEN: WeakSet[Any] = WeakSet()


def register(dock: Any) -> None:
    """Note down an open dock widget, so that the others find it."""
    _OPEN.add(dock)


def find(kind: str, viewer: Any) -> Any:
    """Return the open dock widget of a class in a viewer, or None."""
    for dock in list(_OPEN):
        if type(dock).__name__ == kind and dock.viewer == viewer and _alive(dock):
            return dock
    return None


def open_pretrain(viewer: napari.viewer.Viewer) -> Any:
    """Show the dock *Pretrain* and return its widget."""
    return _show("pretrain", "Pretrain", viewer)


def open_runs(viewer: napari.viewer.Viewer) -> Any:
    """Show the dock *Runs* and return its widget."""
    return _show("runs", "Runs", viewer)


def open_features(viewer: napari.viewer.Viewer) -> Any:
    """Show the dock *Features* and return its widget."""
    return _show("features", "Features", viewer)


def open_transfer(viewer: napari.viewer.Viewer) -> Any:
    """Show the dock *Transfer* and return its widget."""
    return _show("transfer", "Transfer", viewer)


def menu_pretrain(viewer: napari.viewer.Viewer) -> None:
    """Show the dock *Pretrain*, from a menu."""
    open_pretrain(viewer)


def menu_runs(viewer: napari.viewer.Viewer) -> None:
    """Show the dock *Runs*, from a menu."""
    open_runs(viewer)


def menu_features(viewer: napari.viewer.Viewer) -> None:
    """Show the dock *Features*, from a menu."""
    open_features(viewer)


def menu_transfer(viewer: napari.viewer.Viewer) -> None:
    """Show the dock *Transfer*, from a menu."""
    open_transfer(viewer)


def run_folders(viewer: Any) -> list[Path]:
    """Return the folders in which the user's runs lie, as far as the docks know."""
    last, _ = remember.load_run()
    known = [remember.load("form").get("result_dir"), last.result_dir if last else None]
    runs = find("Runs", viewer)
    known.append(runs.folder.get() if runs else None)
    return [Path(str(root)).expanduser() for root in known if root]


def _show(module: str, name: str, viewer: Any) -> Any:
    # by name, for the docks open each other and imports must not go in circles
    kind = getattr(import_module(f"napari_ssl_pretrain.gui.{module}"), name)
    viewer = getattr(viewer, "__wrapped__", viewer)
    dock = find(kind.__name__, viewer)
    if dock is None:
        dock = _open(kind, name, viewer)
    parent = dock.parent()
    if parent is not None:
        parent.show()
        parent.raise_()
    return dock


def _open(kind: Any, name: str, viewer: Any) -> Any:
    """Open a dock as the *Plugins* menu does, or by hand where the plugin is not registered."""
    try:
        _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, name, tabify=True)
    except (KeyError, ValueError):
        dock = kind(viewer)
        viewer.window.add_dock_widget(dock, name=f"{name} ({PLUGIN})", area="right", tabify=True)
    return dock


def _alive(dock: Any) -> bool:
    try:
        dock.objectName()
    except RuntimeError:  # its C++ half was deleted with its window
        return False
    return True
