"""The dock *Pretrain* in a real viewer: real clicks, a stand-in process behind them."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QLabel, QProgressBar, QTableWidget, QWidget

from napari_ssl_pretrain import runner
from napari_ssl_pretrain.data.survey import open_image
from napari_ssl_pretrain.gui import remember
from napari_ssl_pretrain.gui.layer_source import grid_of
from napari_ssl_pretrain.gui.pretrain import Pretrain
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.run_dir import RunDir

FAKE = [sys.executable, str(Path(__file__).parent / "fake_run.py")]
Make = Callable[..., Pretrain]
Click = Callable[[QWidget, str], None]


def status(dock: QWidget) -> str:
    label = dock.findChild(QLabel, "status")
    assert label is not None
    return str(label.text())


def names(viewer: Any) -> list[str]:
    return [layer.name for layer in viewer.layers]


def idle(dock: Pretrain) -> bool:
    return not dock.control.active and not dock._checking


def test_the_dock_opens_without_what_is_slow_to_import() -> None:
    code = (
        "import sys, napari; from qtpy.QtWidgets import QApplication;"
        "app = QApplication([]); from napari.components import ViewerModel;"
        "import napari.qt.threading, napari.layers;"
        "before = set(sys.modules);"
        "from napari_ssl_pretrain.gui.pretrain import Pretrain;"
        "from napari_ssl_pretrain.gui.runs import Runs;"
        "dock = Pretrain(ViewerModel()); dock.show(); app.processEvents();"
        "slow = {'torch', 'accelerate', 'monai', 'tensorboard', 'matplotlib'};"
        "print(*(slow & set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == ""


def test_check_shows_what_would_be_trained_on(
    make_pretrain: Make, click: Click, qtbot: Any, images: Path
) -> None:
    (images / "broken.tif").write_bytes(b"II*\x00 no image")
    dock = make_pretrain(data__train=(str(images),))
    click(dock, "check")
    table = dock.findChild(QTableWidget, "images")
    assert table is not None
    qtbot.waitUntil(lambda: table.rowCount() == 4 and idle(dock), timeout=10_000)
    texts = [
        [item.text() if (item := table.item(r, c)) else "" for c in range(table.columnCount())]
        for r in range(4)
    ]
    assert texts[0][:2] == ["broken.tif", "skipped"]
    assert "export it again" in texts[0][2]
    assert texts[1][:6] == ["a.tif", "train", "YX", "96 x 80", "uint16", "1"]
    assert texts[1][7] == "0.5 x 0.25 nm"
    plan = dock.findChild(QLabel, "plan")
    assert plan is not None
    assert "64 x 80" in plan.text()
    assert "3 train images" in status(dock)
    assert not (Path(dock.value().result_dir)).exists(), "check writes nothing"


def test_an_error_is_one_sentence_at_its_field(
    make_pretrain: Make, click: Click, qtbot: Any, tmp_path: Path
) -> None:
    dock = make_pretrain()
    click(dock, "check")
    error = dock.form.rows["data.train"].error
    assert error.isVisible()
    assert "Images to learn from" in error.text()

    dock.form.set("data.train", (str(tmp_path / "nowhere"),))
    assert not error.isVisible()
    click(dock, "check")
    qtbot.waitUntil(error.isVisible, timeout=10_000)
    assert "nowhere" in error.text()
    assert "Traceback" not in status(dock)
    qtbot.waitUntil(lambda: idle(dock), timeout=20_000)


def test_a_refusal_of_the_process_is_shown_at_its_field(
    make_pretrain: Make, click: Click, qtbot: Any, images: Path
) -> None:
    dock = make_pretrain(data__train=(str(images),), name="usage")
    click(dock, "start")
    error = dock.form.rows["compute.device"].error
    qtbot.waitUntil(error.isVisible, timeout=10_000)
    assert "is not on this machine" in error.text()
    assert dock.tabs.currentWidget() is dock.form
    qtbot.waitUntil(lambda: idle(dock), timeout=20_000)


def test_start_watch_stop_resume_done(
    make_pretrain: Make, click: Click, qtbot: Any, images: Path, viewer: Any
) -> None:
    dock = make_pretrain(data__train=(str(images),), pretext__task="masking", name="slow")
    viewer.open(images / "a.tif", plugin="napari")
    bar = dock.findChild(QProgressBar, "progress")
    assert bar is not None

    click(dock, "start")
    stop = dock.findChild(QWidget, "stop")
    assert stop is not None
    assert stop.isEnabled()
    qtbot.waitUntil(lambda: "a reconstruction" in names(viewer), timeout=20_000)
    assert dock.control.active, "layers come in while it trains"
    qtbot.waitUntil(lambda: bar.value() > 0 and "left" in bar.format(), timeout=20_000)
    assert gc.get_freeze_count() > 0, "no pauses for garbage while it trains"
    click(dock, "stop")
    qtbot.waitUntil(lambda: "stopped at step" in status(dock), timeout=10_000)
    assert idle(dock)
    assert gc.get_freeze_count() == 0

    before = np.asarray(viewer.layers["a reconstruction"].data).copy()
    click(dock, "resume")
    qtbot.waitUntil(lambda: "finished" in status(dock) and idle(dock), timeout=20_000)
    assert "Best validation loss" in status(dock)
    assert "checkpoint-best.pth" in status(dock)
    assert names(viewer).count("a reconstruction") == 1, "layers are reused, not piled up"
    after = np.asarray(viewer.layers["a reconstruction"].data)
    assert not np.array_equal(before, after), "and come into focus"
    assert len(dock.monitor.plot.train.x) > 1
    assert len(dock.monitor.plot.validation.x) == 4


def test_results_lie_on_the_loaded_image(
    make_pretrain: Make, click: Click, qtbot: Any, images: Path, viewer: Any
) -> None:
    dock = make_pretrain(data__train=(str(images / "a.tif"),), pretext__task="masking")
    (loaded,) = viewer.open(images / "a.tif", plugin="napari")
    loaded.scale, loaded.translate, loaded.units = (3, 2), (7, 5), ("nm", "nm")
    loaded.contrast_limits = (100, 3000)
    click(dock, "start")
    qtbot.waitUntil(lambda: "finished" in status(dock) and idle(dock), timeout=20_000)
    kinds = ["original", "masked", "reconstruction"]
    shown = ["a", *(f"a {kind}" for kind in kinds)]
    qtbot.waitUntil(lambda: names(viewer) == shown, timeout=20_000)
    for kind in kinds:
        layer = viewer.layers[f"a {kind}"]
        assert tuple(layer.scale) == (3, 2)
        assert tuple(layer.translate) == (7, 5)
        assert layer.units == loaded.units
        assert layer.data.dtype == np.uint16
        assert tuple(layer.contrast_limits) == (100, 3000)
        about = layer.metadata["napari-ssl-pretrain"]
        assert about["run"] == "ssl_pretraining_1"
        assert Path(about["file"]).exists()
    viewer.layers["a masked"].contrast_limits = (0, 500)
    assert tuple(viewer.layers["a reconstruction"].contrast_limits) == (0, 500), "linked"


def test_the_users_selection_is_left_alone(
    make_pretrain: Make, click: Click, qtbot: Any, images: Path, viewer: Any
) -> None:
    labels = viewer.add_labels(np.zeros((96, 80), int))
    dock = make_pretrain(data__train=(str(images),))
    click(dock, "start")
    qtbot.waitUntil(lambda: "a restored" in names(viewer), timeout=20_000)
    assert viewer.layers.selection.active is labels


def test_a_taken_number_is_refused_and_the_next_one_offered(
    make_pretrain: Make, click: Click, qtbot: Any, images: Path
) -> None:
    dock = make_pretrain(data__train=(str(images),))
    click(dock, "start")
    qtbot.waitUntil(lambda: "finished" in status(dock) and idle(dock), timeout=20_000)
    click(dock, "start")
    error = dock.form.rows["run_id"].error
    qtbot.waitUntil(error.isVisible, timeout=20_000)
    assert "exists already" in error.text()
    error.linkActivated.emit("next")
    assert dock.form.get("run_id") == 2
    click(dock, "start")
    qtbot.waitUntil(lambda: "ssl_pretraining_2 finished" in status(dock), timeout=20_000)


def test_resume_of_nothing_is_refused(
    make_pretrain: Make, click: Click, qtbot: Any, images: Path, tmp_path: Path
) -> None:
    dock = make_pretrain(data__train=(str(images),))
    click(dock, "resume")
    error = dock.form.rows["run_id"].error
    qtbot.waitUntil(error.isVisible, timeout=20_000)
    assert "no saved state" in error.text()
    assert not (tmp_path / "results").exists()


def test_a_crash_is_called_a_crash(
    make_pretrain: Make, click: Click, qtbot: Any, images: Path
) -> None:
    dock = make_pretrain(data__train=(str(images),), name="crash")
    click(dock, "start")
    qtbot.waitUntil(lambda: "failed" in status(dock), timeout=20_000)
    assert "process ended with code -9; see run.log" in status(dock)
    assert "Resume goes on from the last saved state" in status(dock)
    assert idle(dock)


def test_a_layer_without_a_file_is_kept_with_the_results(
    make_pretrain: Make, click: Click, qtbot: Any, viewer: Any, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 40, 48), dtype=np.uint8)
    viewer.add_image(pixels, name="my cells", scale=(2, 0.5, 0.5), units=("um", "um", "um"))
    dock = make_pretrain(data__train=("layer: my cells",), name="job")
    kept = tmp_path / "results" / "job" / "layers" / "my cells.tif"
    assert dock.value().data.train == (str(kept),)
    click(dock, "check")
    qtbot.waitUntil(lambda: dock.table.table.rowCount() == 1 and idle(dock), timeout=10_000)
    image = open_image(kept)
    assert image.info.axes == "ZYX"
    assert image.info.pixel_size == pytest.approx({"Z": 2, "Y": 0.5, "X": 0.5})
    np.testing.assert_array_equal(image.read(0)[0], pixels)

    click(dock, "start")
    qtbot.waitUntil(lambda: "finished" in status(dock) and idle(dock), timeout=20_000)
    qtbot.waitUntil(lambda: "my cells restored" in viewer.layers, timeout=20_000)
    assert tuple(viewer.layers["my cells restored"].scale) == (2, 0.5, 0.5)


def test_a_layer_from_a_file_uses_that_file(make_pretrain: Make, images: Path, viewer: Any) -> None:
    viewer.open(images / "b.tif", plugin="napari")
    dock = make_pretrain()
    editor: Any = dock.form.rows["data.train"].editor
    editor.fill_menu()
    next(a for a in editor.menu.actions() if a.text() == "Layer: b").trigger()
    assert dock.value().data.train == (str(images / "b.tif"),)


def test_closing_leaves_the_run_alive_and_opening_finds_it(
    make_pretrain: Make, click: Click, qtbot: Any, images: Path, viewer: Any
) -> None:
    first = make_pretrain(data__train=(str(images),), name="slow")
    click(first, "start")
    qtbot.waitUntil(lambda: "training" in status(first), timeout=20_000)
    handle = first.control.handle
    assert handle is not None
    viewer.window.remove_dock_widget(first)
    first.close()
    first.deleteLater()
    qtbot.wait(50)
    assert gc.get_freeze_count() == 0
    assert runner.find_running(handle.run.result_dir) == [handle.run], "it goes on"

    second = make_pretrain()
    qtbot.waitUntil(lambda: second.control.handle is not None, timeout=10_000)
    qtbot.waitUntil(lambda: second.form.get("name") == "slow", timeout=10_000)
    qtbot.waitUntil(lambda: "slow_1 finished" in status(second), timeout=20_000)
    assert len(second.monitor.plot.validation.x) == 4, "the whole curve, not its end"


def test_a_run_that_ended_unseen_is_told_of(
    make_pretrain: Make, qtbot: Any, images: Path, tmp_path: Path
) -> None:
    config = PretrainConfig(
        name="unseen",
        result_dir=str(tmp_path / "results"),
        data={"train": str(images)},
        pretext={"task": "masking"},
    )
    handle = runner.start(config, command=FAKE)
    deadline = time.monotonic() + 20
    while not handle.ended and time.monotonic() < deadline:
        handle.poll()
        time.sleep(0.05)
    remember.save_run(RunDir(tmp_path / "results", "unseen", 1), watching=True)
    dock = make_pretrain()
    qtbot.waitUntil(lambda: "unseen_1 finished" in status(dock), timeout=10_000)


def test_settings_are_remembered(make_pretrain: Make, qtbot: Any, viewer: Any) -> None:
    first = make_pretrain(name="mine", pretext__task="masking", pretext__mask_ratio=0.5)
    qtbot.waitUntil(lambda: remember.load("form").get("name") == "mine", timeout=20_000)
    viewer.window.remove_dock_widget(first)
    first.deleteLater()
    second = make_pretrain()
    assert second.form.get("name") == "mine"
    assert second.form.get("pretext.mask_ratio") == 0.5


def test_value_and_set_value(make_pretrain: Make, images: Path) -> None:
    dock = make_pretrain(data__train=(str(images),))
    config = dock.value().replace(name="other", run_id=3)
    dock.setValue(config)
    assert dock.value() == config


def test_side_by_side_spreads_the_layers(make_pretrain: Make, viewer: Any) -> None:
    dock = make_pretrain()
    dock.tabs.setCurrentWidget(dock.monitor)
    dock.monitor.grid.click()
    grid = grid_of(viewer)
    assert grid.enabled
    grid.enabled = False
    assert not dock.monitor.grid.isChecked()
    viewer.theme = "light"  # the plot follows


def test_a_row_of_the_table_opens_its_image(
    make_pretrain: Make, click: Click, qtbot: Any, images: Path, viewer: Any
) -> None:
    dock = make_pretrain(data__train=(str(images),))
    click(dock, "check")
    qtbot.waitUntil(lambda: dock.table.table.rowCount() == 3, timeout=10_000)
    dock.table.table.cellDoubleClicked.emit(1, 0)
    qtbot.waitUntil(lambda: "b" in names(viewer), timeout=20_000)
    assert tuple(viewer.layers["b"].scale) == (0.5, 0.25)


def test_check_tells_the_time_once_a_run_was_seen(
    make_pretrain: Make, click: Click, qtbot: Any, images: Path
) -> None:
    dock = make_pretrain(
        data__train=(str(images),), data__patch_size="64, 64", backbone__name="unet"
    )
    plan = dock.findChild(QLabel, "plan")
    assert plan is not None
    click(dock, "check")
    qtbot.waitUntil(lambda: "after the first steps" in plan.text(), timeout=10_000)
    click(dock, "start")
    qtbot.waitUntil(lambda: "finished" in status(dock) and idle(dock), timeout=20_000)
    dock.form.set("compute.device", "cpu")
    click(dock, "check")
    qtbot.waitUntil(lambda: "at the 100 patches/s of an earlier run" in plan.text(), timeout=10_000)
