"""The whole comparison by clicks alone, with a real study behind them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtWidgets import QLabel, QLineEdit, QWidget
from skimage.data import binary_blobs

from napari_ssl_pretrain import PretrainConfig, pretrain
from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.gui.transfer import Transfer

if TYPE_CHECKING:
    from pathlib import Path

Click = Callable[[QWidget, str], None]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Labelled images, and the checkpoint of the smallest run on them."""
    for number in range(5):
        label = binary_blobs(64, rng=number).astype(np.uint8)
        noise = np.random.default_rng(number).integers(0, 60, label.shape, dtype=np.uint8)
        write_array(tmp_path / "images" / f"{number}.tif", label * 120 + noise, "YX")
        write_array(tmp_path / "labels" / f"{number}.tif", label * 255, "YX")
    pretrain(
        PretrainConfig(
            name="cells",
            result_dir=str(tmp_path / "results"),
            data={"train": str(tmp_path / "images"), "patch_size": [32, 32]},
            pretext={"task": "crappify"},
            backbone={"name": "unet", "features_per_stage": [4, 8]},
            training={"epochs": 1, "steps_per_epoch": 2, "batch_size": 2},
            compute={"device": "cpu"},
        )
    )
    return tmp_path


@pytest.fixture
def dock(viewer: Any, qtbot: Any) -> Iterator[Transfer]:
    made = Transfer(viewer)
    viewer.window.add_dock_widget(made, name="Transfer", area="right")
    qtbot.waitUntil(made.buttons["start"].native.isVisible, timeout=20_000)
    yield made
    if made.control.handle is not None:
        made.control.handle.kill()
        qtbot.waitUntil(lambda: not made.control.active, timeout=20_000)


def fill(dock: Transfer, path: str, text: str, qtbot: Any) -> None:
    line = dock.findChild(QLineEdit, path)
    assert line is not None
    line.clear()
    qtbot.keyClicks(line, text)


@pytest.mark.process
def test_folders_start_scores_verdict(
    dock: Transfer, click: Click, qtbot: Any, place: Path, viewer: Any
) -> None:
    checkpoint = place / "results" / "cells" / "checkpoints" / "cells_1-checkpoint-best.pth"
    settings = {
        "checkpoint": str(checkpoint),
        "images": str(place / "images"),
        "labels": str(place / "nowhere"),
        "n_labels": "1, 2",
        "minutes": "0.005",
        "output": str(place / "report"),
    }
    for path, text in settings.items():
        fill(dock, path, text, qtbot)
    dock.form.set("seeds", 2)
    click(dock, "start")
    error = dock.form.rows["labels"].error
    qtbot.waitUntil(error.isVisible, timeout=20_000)

    write_array(place / "odd" / "0.tif", np.ones((8, 8), np.uint8), "YX")
    fill(dock, "labels", str(place / "odd"), qtbot)
    click(dock, "start")
    qtbot.waitUntil(error.isVisible, timeout=60_000)  # said by the process, before training
    assert "0.tif" in error.text()
    assert not (place / "report").exists()

    fill(dock, "labels", str(place / "labels"), qtbot)
    click(dock, "start")
    qtbot.waitUntil(lambda: bool(dock.view.scores.found), timeout=90_000)
    qtbot.waitUntil(lambda: not dock.control.active, timeout=120_000)
    verdict = dock.findChild(QLabel, "verdict")
    assert verdict is not None
    summary = json.loads((place / "report" / "summary.json").read_text())
    assert summary["sentence"] in verdict.text().replace("&amp;", "&")
    assert summary["n_labels"] == [1, 2]
    with (place / "report" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    for (arm, n), scores in dock.view.scores.found.items():
        for seed, shown in scores.items():
            mine = [
                float(row["iou"])
                for row in rows
                if (row["arm"], row["n_labels"], row["seed"]) == (arm, str(n), str(seed))
            ]
            assert shown == pytest.approx(np.mean(mine), abs=1e-5)
    click(dock, "open_cases")
    qtbot.waitUntil(lambda: "median case image" in viewer.layers, timeout=20_000)
    assert dock.buttons["open_report"].enabled
