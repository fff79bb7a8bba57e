"""What the tests of the docks share: settings of their own, images, a fast stand-in for runs."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QSettings, Qt
from qtpy.QtWidgets import QWidget

from napari_ssl_pretrain import runner
from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.gui import docks
from napari_ssl_pretrain.gui.pretrain import Pretrain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FAKE = [sys.executable, str(Path(__file__).parent / "fake_run.py")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.gui)


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    place = str(tmp_path / "settings")
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, place)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three 2D images, of known scale."""
    folder = tmp_path / "images"
    random = np.random.default_rng(0)
    for name in "abc":
        pixels = random.integers(0, 4000, (96, 80), dtype=np.uint16)
        write_array(
            folder / f"{name}.tif", pixels, "YX", pixel_size={"Y": 0.5, "X": 0.25}, unit="nm"
        )
    return folder


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any]) -> Any:
    return make_napari_viewer(show=True, strict_qt="raise")


@pytest.fixture
def make_pretrain(viewer: Any, qtbot: Any, tmp_path: Path) -> Iterator[Callable[..., Pretrain]]:
    """Return what opens the dock *Pretrain*, with the stand-in behind its buttons."""
    made: list[Pretrain] = []

    def make(**fields: Any) -> Pretrain:
        dock = Pretrain(viewer, start=partial(runner.start, command=FAKE))
        viewer.window.add_dock_widget(dock, name="Pretrain", area="right")
        dock.form.set("result_dir", str(tmp_path / "results"))
        dock.form.set("pretext.task", "crappify")  # what the stand-in's images are of
        for path, value in fields.items():
            dock.form.set(path.replace("__", "."), value)
        made.append(dock)
        qtbot.waitUntil(dock.buttons["check"].native.isVisible, timeout=20_000)
        return dock

    yield make
    for dock in made:
        if docks._alive(dock) and dock.control.handle is not None:
            dock.control.handle.kill()
            qtbot.waitUntil(lambda d=dock: not d.control.active, timeout=10_000)


@pytest.fixture
def click(qtbot: Any) -> Callable[[QWidget, str], None]:
    """Return what clicks, with the mouse, the button of a name."""

    def press(dock: QWidget, name: str) -> None:
        button = dock.findChild(QWidget, name)
        assert button is not None, name
        assert button.isEnabled(), name
        assert button.isVisible(), name
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    return press
