"""Make the pictures of the user guide from the real program: ``python docs/make_screenshots.py``.

A real training runs for about two minutes on parts of an image that scikit-image carries, and a
real comparison for about eight. ``pretrain``, ``runs`` or ``transfer`` behind it makes those pictures alone.
Without a screen: ``xvfb-run -a -s "-screen 0 1600x1000x24" python docs/make_screenshots.py``.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import napari
import numpy as np
import skimage
from qtpy.QtCore import QSettings, Qt
from qtpy.QtWidgets import QApplication
from skimage.color import rgb2hed
from skimage.filters import gaussian, threshold_otsu

from napari_ssl_pretrain import PretrainConfig, pretrain
from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.gui.docks import open_features, open_pretrain, open_runs, open_transfer
from napari_ssl_pretrain.spec.run_dir import RunDir

IMAGES = Path(__file__).parent / "images"
SIZE = (1360, 860)
DOCK_WIDTH = 400
NUCLEUS = (137, 102)
STROKES = {
    1: [(60, 72), (104, 31), (137, 102), (170, 120), (146, 154), (50, 218), (196, 132)],
    2: [(140, 15), (30, 240), (175, 45), (25, 100), (160, 75), (75, 225)],
    3: [(8, 66), (222, 77), (247, 235), (30, 148)],
}


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
        for part in sys.argv[1:] or PARTS:
            viewer.layers.clear()
            PARTS[part](viewer)
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
    widen(viewer, dock)
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
    viewer.open("tissue/test/tissue_1.tif", plugin="napari")
    features(viewer, RunDir(Path("exp_results"), "tissue").checkpoint("best"))


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
    """Show the list of runs, and two of them compared; the second is made with more noise."""
    fields = {"data": {"train": "tissue/train", "test": "tissue/test", "patch_size": [64, 64]}}
    for run_id, noise in ((1, 0.2), (2, 0.5)):
        if not RunDir(Path("exp_results"), "tissue", run_id).events.exists():
            config = fields | {
                "name": "tissue",
                "run_id": run_id,
                "pretext": {"task": "crappify", "noise": noise},
                "backbone": {"size": "tiny"},
                "training": {"max_minutes": 1, "steps_per_epoch": 10},
            }
            pretrain(PretrainConfig(**config))
    dock = open_runs(viewer)
    widen(viewer, dock)
    dock.folder.set("exp_results")
    until(lambda: dock.table.rowCount() == 2)
    dock.table.selectRow(1)
    dock.buttons["open_results"].native.click()
    until(lambda: "tissue_1 restored" in viewer.layers)
    wait(1)
    viewer.reset_view()
    wait(0.5)
    take(viewer, "runs")

    viewer.layers.clear()
    dock.table.selectAll()
    dock.buttons["compare"].native.click()
    until(lambda: dock.comparison.show_images.isEnabled())
    dock.comparison.show_images.click()
    until(lambda: len(viewer.layers) == 3)
    wait(2)
    take(viewer, "compare")
    viewer.layers.clear()
    dock.table.clearSelection()
    dock.tabs.setCurrentIndex(0)


def transfer(viewer: Any) -> None:
    """Compare on labelled parts of the tissue; take a picture of the form and of the verdict."""
    make_labelled(Path("labelled"))
    checkpoint = Path("exp_results/tissue/checkpoints/tissue_1-checkpoint-best.pth")
    if not checkpoint.exists():
        pretrain(
            PretrainConfig(
                name="tissue",
                data={"train": "tissue/train", "patch_size": [64, 64]},
                pretext={"task": "crappify"},
                backbone={"size": "tiny"},
                training={"max_minutes": 2},
            )
        )
    dock = open_transfer(viewer)
    widen(viewer, dock)
    fields = {
        "checkpoint": str(checkpoint),
        "images": "labelled/images",
        "labels": "labelled/labels",
        "n_labels": (1, 2, 4),
        "minutes": 0.25,
        "output": "does_it_help",
    }
    for path, value in fields.items():
        dock.form.set(path, value)
    viewer.open("labelled/images/part_06.tif", plugin="napari")
    viewer.reset_view()
    wait(0.5)
    take(viewer, "transfer")
    dock.buttons["start"].native.click()
    until(lambda: not dock.control.active, 900)
    dock.buttons["open_cases"].native.click()
    until(lambda: "median case image" in viewer.layers)
    wait(1)
    take(viewer, "verdict")


def make_labelled(folder: Path) -> None:
    """Cut the tissue image into 16; its brown parts are the labels."""
    pixels = iio.imread(Path(skimage.__file__).parent / "data" / "ihc.png")
    brown = gaussian(rgb2hed(pixels)[..., 2], 1)
    labels = (brown > threshold_otsu(brown)).astype(np.uint8)
    for number in range(16):
        y, x = (128 * n for n in divmod(number, 4))
        for name, axes, whole in (("images", "YXS", pixels), ("labels", "YX", labels)):
            part = whole[y : y + 128, x : x + 128]
            place = folder / name / f"part_{number + 1:02d}.tif"
            write_array(place, part, axes, pixel_size={"Y": 0.5, "X": 0.5}, unit="\u00b5m")


def widen(viewer: Any, dock: Any) -> None:
    """Give a dock the width of the pictures."""
    window: Any = viewer.window._qt_window  # napari has no public way to set a width
    window.resizeDocks([dock.parent()], [DOCK_WIDTH], Qt.Orientation.Horizontal)


def features(viewer: Any, checkpoint: Path) -> None:
    """Show the features of the image, similarity to a point, and the probe."""
    viewer.layers[:] = [layer for layer in viewer.layers if layer.name == "tissue_1"]
    viewer.layers["tissue_1"].visible = True
    dock = open_features(viewer)
    dock.checkpoint.set(str(checkpoint))
    dock.layer.choose("tissue_1")
    dock.buttons["encode"].native.click()
    until(lambda: "tissue_1 features" in viewer.layers and dock.buttons["encode"].enabled)
    viewer.reset_view()
    wait(1)
    take(viewer, "features")

    dock.similarity.setChecked(True)
    dock.hover.point(viewer.layers["tissue_1"].data_to_world(NUCLEUS))
    until(lambda: "tissue_1 similarity" in viewer.layers)
    wait(0.5)
    take(viewer, "similarity")

    dock.buttons["probe"].native.click()
    scribbles = viewer.layers["tissue_1 scribbles"]
    for label, strokes in STROKES.items():
        for place in strokes:
            scribbles.paint(place, label)
    dock.buttons["probe"].native.click()
    until(lambda: "tissue_1 probe" in viewer.layers)
    wait(0.5)
    take(viewer, "probe")


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


PARTS = {"pretrain": take_all, "runs": runs, "transfer": transfer}


if __name__ == "__main__":
    main()
