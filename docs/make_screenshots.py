"""Make the pictures of the user guide from the real program: ``python docs/make_screenshots.py``.

A real training runs for about two minutes on parts of an image that scikit-image carries.
Without a screen: ``xvfb-run -a -s "-screen 0 1600x1000x24" python docs/make_screenshots.py``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import napari
import skimage
from qtpy.QtCore import QSettings, Qt
from qtpy.QtWidgets import QApplication

from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.gui.docks import open_pretrain, open_runs

IMAGES = Path(__file__).parent / "images"
SIZE = (1360, 860)
DOCK_WIDTH = 400


def main() -> None:
    """Make all pictures."""
    work = Path(tempfile.mkdtemp(prefix="ssl_pretrain_docs_"))
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(work / "settings"))
    IMAGES.mkdir(exist_ok=True)
    make_images(work / "tissue")
    os.chdir(work)  # short paths in the pictures
    viewer = napari.Viewer(show=True, show_welcome_screen=False)
    viewer.window.resize(*SIZE)
    try:
        take_all(viewer)
    finally:
        viewer.close()
        os.chdir(IMAGES)
        shutil.rmtree(work, ignore_errors=True)


def make_images(folder: Path) -> None:
    """Cut the tissue image of scikit-image into four, at the scale of a 20x objective."""
    pixels = iio.imread(Path(skimage.__file__).parent / "data" / "ihc.png")
    for number in range(4):
        y, x = divmod(number, 2)
        part = pixels[y * 256 : y * 256 + 256, x * 256 : x * 256 + 256]
        place = folder / ("test" if number == 0 else "train") / f"tissue_{number + 1}.tif"
        write_array(place, part, "YXS", pixel_size={"Y": 0.5, "X": 0.5}, unit="\u00b5m")


def take_all(viewer: Any) -> None:
    """Go the way of a user and take a picture at each station."""
    dock = open_pretrain(viewer)
    window: Any = viewer.window._qt_window  # napari has no public way to set a width
    window.resizeDocks([dock.parent()], [DOCK_WIDTH], Qt.Orientation.Horizontal)
    form = dock.form
    form.set("result_dir", "exp_results")
    form.set("name", "tissue")
    form.set("data.train", ("tissue/train",))
    form.set("data.test", ("tissue/test",))
    dock.table.image_chosen.emit(str(Path("tissue/test/tissue_1.tif").absolute()))
    until(lambda: "tissue_1" in viewer.layers)
    viewer.reset_view()
    wait(0.5)
    take(viewer, "pretrain")

    dock.buttons["check"].native.click()
    until(lambda: dock.table.table.rowCount() == 4)
    wait(0.5)
    take(viewer, "check")

    dock.tabs.setCurrentWidget(form)
    form.set("pretext.task", "masking")
    form.set("pretext.token_size", 16)
    form.set("pretext.mask_ratio", 0.6)
    dock.buttons["preview"].native.click()
    until(lambda: "tissue_1 masked" in viewer.layers)
    wait(0.5)
    take(viewer, "preview")
    dock.preview.end()

    train(viewer, dock)
    runs(viewer)


def train(viewer: Any, dock: Any) -> None:
    """Train for two minutes; take a picture on the way and one at the end."""
    form = dock.form
    for path, value in {
        "pretext.task": "crappify",
        "pretext.token_size": "auto",
        "data.patch_size": (64, 64),
        "backbone.size": "tiny",
        "training.steps_per_epoch": 10,
        "training.max_minutes": 2.0,
    }.items():
        form.set(path, value)
    dock.buttons["start"].native.click()
    dock.monitor.grid.setChecked(True)
    until(lambda: len(dock.monitor.plot.validation.x) >= 4 and "tissue_1 restored" in viewer.layers)
    until(lambda: dock.control.handle is None or _share(dock) > 0.55)
    viewer.reset_view()
    wait(1)
    take(viewer, "training")
    until(lambda: not dock.control.active)
    wait(0.5)
    take(viewer, "finished")


def runs(viewer: Any) -> None:
    """Show the list of runs."""
    dock = open_runs(viewer)
    until(lambda: dock.table.rowCount() > 0)
    wait(1)
    take(viewer, "runs")


def _share(dock: Any) -> float:
    status = dock.control.handle.status
    return status.step / status.steps if status.steps else 0.0


def take(viewer: Any, name: str) -> None:
    """Write a picture of the window."""
    path = IMAGES / f"{name}.png"
    viewer.screenshot(str(path), canvas_only=False, flash=False)
    print(path)


def wait(seconds: float) -> None:
    """Let the program go on for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def until(ready: Callable[[], bool], seconds: float = 400) -> None:
    """Let the program go on until something is so."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError("the program did not come to the next picture")
        wait(0.05)


if __name__ == "__main__":
    main()
