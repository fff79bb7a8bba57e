"""The whole way of a microscopist, with real clicks and a real training behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtWidgets import QLabel, QLineEdit, QTableWidget, QWidget
from skimage.data import binary_blobs

from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.gui.pretrain import Pretrain

if TYPE_CHECKING:
    from pathlib import Path

Click = Callable[[QWidget, str], None]

SETTINGS = {
    "data.patch_size": "32, 32",
    "backbone.size": "tiny",
    "training.epochs": "30",
    "training.steps_per_epoch": "4",
    "training.batch_size": "4",
    "compute.device": "cpu",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(6):
        blobs = binary_blobs(96, rng=seed).astype(np.uint8) * 150
        noise = np.random.default_rng(seed).integers(0, 60, blobs.shape, dtype=np.uint8)
        write_array(tmp_path / "images" / f"cells{seed}.tif", blobs + noise, "YX")
    return tmp_path / "images"


@pytest.fixture
def dock(viewer: Any, qtbot: Any) -> Iterator[Pretrain]:
    made = Pretrain(viewer)
    viewer.window.add_dock_widget(made, name="Pretrain", area="right")
    qtbot.waitUntil(made.buttons["check"].native.isVisible, timeout=20_000)
    yield made
    if made.control.handle is not None:
        made.control.handle.kill()
        qtbot.waitUntil(lambda: not made.control.active, timeout=20_000)


def fill(dock: Pretrain, path: str, text: str, qtbot: Any) -> None:
    """Type into a line, or choose from a box."""
    line = dock.findChild(QLineEdit, path)
    if line is None:
        dock.form.set(path, text)
        return
    line.clear()
    qtbot.keyClicks(line, text)


@pytest.mark.process
@pytest.mark.parametrize("task", ["masking", "crappify"])
def test_folder_check_preview_start_layers_stop_resume_done(
    dock: Pretrain, click: Click, qtbot: Any, folder: Path, task: str
) -> None:
    viewer = dock.viewer

    def status() -> str:
        label = dock.findChild(QLabel, "status")
        assert label is not None
        return str(label.text())

    def names() -> list[str]:
        return [layer.name for layer in viewer.layers]

    fill(dock, "data.train", str(folder), qtbot)
    fill(dock, "data.test", str(folder / "cells0.tif"), qtbot)
    fill(dock, "result_dir", str(folder.parent / "results"), qtbot)
    for path, text in SETTINGS.items():
        fill(dock, path, text, qtbot)
    dock.form.set("pretext.task", task)

    click(dock, "check")
    table = dock.findChild(QTableWidget, "images")
    assert table is not None
    qtbot.waitUntil(lambda: table.rowCount() == 7, timeout=20_000)

    click(dock, "preview")
    drawn = {"masking": "cells0 masked", "crappify": "cells0 worsened"}[task]
    qtbot.waitUntil(lambda: drawn in names(), timeout=20_000)

    click(dock, "start")
    last = {"masking": "reconstruction and visible", "crappify": "restored"}[task]
    qtbot.waitUntil(lambda: any(n.endswith(last) for n in names()), timeout=120_000)
    assert dock.control.active, "layers appear while it trains"
    click(dock, "stop")
    qtbot.waitUntil(lambda: "stopped at step" in status(), timeout=120_000)

    click(dock, "resume")
    qtbot.waitUntil(lambda: "finished" in status(), timeout=300_000)
    assert "checkpoint-best.pth" in status()
    assert f"cells0 {last}" in names(), "the test image comes in beside the loaded one"
    layer = viewer.layers[f"cells0 {last}"]
    np.testing.assert_array_equal(layer.scale, viewer.layers["cells0"].scale)
    assert layer.data.dtype == np.uint8
