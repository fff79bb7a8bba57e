"""Opening the docks from menus and from each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import napari.viewer  # noqa: TC002 - napari reads the annotations of commands

if TYPE_CHECKING:
    from napari_ssl_pretrain.gui.pretrain import Pretrain
    from napari_ssl_pretrain.gui.runs import Runs

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


def open_pretrain(viewer: napari.viewer.Viewer) -> Pretrain:
    """Show the dock *Pretrain*."""
    from napari_ssl_pretrain.gui.pretrain import Pretrain  # noqa: PLC0415 - the docks open each other

    shown: Pretrain = _show(Pretrain, "Pretrain", viewer)
    return shown


def open_runs(viewer: napari.viewer.Viewer) -> Runs:
    """Show the dock *Runs*."""
    from napari_ssl_pretrain.gui.runs import Runs  # noqa: PLC0415 - the docks open each other

    shown: Runs = _show(Runs, "Runs", viewer)
    return shown


def menu_pretrain(viewer: napari.viewer.Viewer) -> None:
    """Show the dock *Pretrain*, from a menu."""
    open_pretrain(viewer)


def menu_runs(viewer: napari.viewer.Viewer) -> None:
    """Show the dock *Runs*, from a menu."""
    open_runs(viewer)


def _show(kind: Any, name: str, viewer: Any) -> Any:
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
