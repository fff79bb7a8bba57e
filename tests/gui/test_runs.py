"""The dock *Runs*: what there is, and what can be done with it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QLabel, QTableWidget, QWidget

from napari_ssl_pretrain import runner
from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.gui import docks
from napari_ssl_pretrain.gui.runs import Runs
from napari_ssl_pretrain.spec.config import PretrainConfig

FAKE = [sys.executable, str(Path(__file__).parent / "fake_run.py")]
Click = Callable[[QWidget, str], None]


def finish(config: PretrainConfig, *, stop: bool = False) -> None:
    handle = runner.start(config, command=FAKE)
    deadline = time.monotonic() + 30
    while not handle.ended and time.monotonic() < deadline:
        events = handle.poll()
        if stop and any(e.kind == "epoch_finished" for e in events):
            handle.request_stop()
        time.sleep(0.05)
    assert handle.ended


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs: one that finished, and one that was stopped."""
    folder = tmp_path_factory.mktemp("runs")
    for name in "ab":
        pixels = np.random.default_rng(0).integers(0, 4000, (96, 80), dtype=np.uint16)
        sizes = {"Y": 0.5, "X": 0.25}
        write_array(folder / "images" / f"{name}.tif", pixels, "YX", pixel_size=sizes, unit="nm")
    config = PretrainConfig(
        name="job",
        result_dir=str(folder / "results"),
        data={"train": str(folder / "images")},
        pretext={"task": "masking"},
    )
    finish(config)
    finish(config.replace(name="slow", run_id=2), stop=True)
    return folder / "results"


@pytest.fixture
def runs(viewer: Any, qtbot: Any, folder: Path) -> Runs:
    dock = Runs(viewer)
    dock.folder.set(str(folder))
    viewer.window.add_dock_widget(dock, name="Runs")
    qtbot.waitUntil(lambda: dock.table.rowCount() == 2, timeout=10_000)
    return dock


def row(dock: Runs, number: int) -> list[str]:
    table = dock.findChild(QTableWidget, "runs")
    assert table is not None
    cells = [table.item(number, column) for column in range(table.columnCount())]
    return [cell.text() if cell else "" for cell in cells]


def test_runs_are_listed_newest_first(runs: Runs) -> None:
    assert row(runs, 0)[:3] == ["slow_2", "stopped", "masking"]
    assert row(runs, 1)[:5] == ["job_1", "finished", "masking", "100 %", "0.0275"]


def test_results_open_as_layers(runs: Runs, click: Click, qtbot: Any, viewer: Any) -> None:
    runs.table.selectRow(1)
    click(runs, "open_results")
    qtbot.waitUntil(lambda: "b reconstruction" in viewer.layers, timeout=10_000)
    names = [layer.name for layer in viewer.layers]
    assert names == [f"{i} {k}" for i in "ab" for k in ("original", "masked", "reconstruction")]
    layer = viewer.layers["a reconstruction"]
    assert tuple(layer.scale) == (0.5, 0.25), "the scale of the file that it was made from"
    assert [str(unit) for unit in layer.units] == ["nanometer", "nanometer"]
    assert layer.data.dtype == np.uint16
    status = runs.findChild(QLabel, "status")
    assert status is not None
    qtbot.waitUntil(lambda: "6 layers of 2 images" in status.text(), timeout=5000)


def test_settings_are_copied_into_pretrain(
    runs: Runs, click: Click, qtbot: Any, viewer: Any
) -> None:
    runs.table.selectRow(1)
    click(runs, "copy_settings")
    qtbot.waitUntil(lambda: docks.find("Pretrain", viewer) is not None, timeout=10_000)
    dock = docks.find("Pretrain", viewer)
    assert (dock.form.get("name"), dock.form.get("pretext.task")) == ("job", "masking")
    assert docks.open_pretrain(viewer) is dock


def test_only_what_ended_early_can_be_resumed(runs: Runs) -> None:
    runs.table.selectRow(0)
    assert runs.buttons["resume"].enabled
    runs.table.selectRow(1)
    assert not runs.buttons["resume"].enabled


def test_resume_goes_on_in_pretrain(
    runs: Runs, click: Click, qtbot: Any, make_pretrain: Any
) -> None:
    dock = make_pretrain()
    runs.table.selectRow(0)
    runs.parent().raise_()
    click(runs, "resume")
    status = dock.findChild(QLabel, "status")
    qtbot.waitUntil(lambda: "slow_2 finished" in status.text(), timeout=30_000)
