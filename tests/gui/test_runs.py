"""The dock *Runs*: what there is, and what can be done with it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QItemSelectionModel, Qt
from qtpy.QtWidgets import QLabel, QLineEdit, QTableView, QWidget
from run_tree import DEAD, add_image, write_run

from napari_ssl_pretrain import runner
from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.gui import docks
from napari_ssl_pretrain.gui import runs as runs_dock
from napari_ssl_pretrain.gui.runs import Runs
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.config import PretrainConfig

FAKE = [sys.executable, str(Path(__file__).parent / "fake_run.py")]
Click = Callable[[QWidget, str], None]
Open = Callable[[Path, int], Runs]


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


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_dock, "REFRESH_MS", 200)


@pytest.fixture
def open_dock(viewer: Any, qtbot: Any) -> Open:
    """Return what opens the dock on a folder and waits for a number of runs."""

    def open_on(root: Path, count: int) -> Runs:
        dock = Runs(viewer)
        dock.folder.set(str(root))
        viewer.window.add_dock_widget(dock, name="Runs")
        qtbot.waitUntil(lambda: dock.table.rowCount() == count, timeout=10_000)
        return dock

    return open_on


@pytest.fixture
def runs(open_dock: Open, folder: Path) -> Runs:
    return open_dock(folder, 2)


def names(dock: Runs) -> list[str]:
    return [dock.table.texts(row)["run"] for row in range(dock.table.rowCount())]


def select(dock: Runs, *rows: int) -> None:
    dock.table.clearSelection()
    flags = QItemSelectionModel.SelectionFlag
    for row in rows:
        index = dock.table.order.index(row, 0)
        dock.table.selectionModel().select(index, flags.Select | flags.Rows)


def said(dock: Runs, name: str = "status") -> str:
    label = dock.findChild(QLabel, name)
    assert label is not None
    return label.text()


def test_runs_are_listed_newest_first(runs: Runs) -> None:
    table = runs.findChild(QTableView, "runs")
    assert table is runs.table
    assert names(runs) == ["slow_2", "job_1"]
    row = runs.table.texts(1)
    assert row["run"] == "job_1"
    assert (row["state"], row["task"], row["best loss"]) == (
        "finished (!)",  # the stand-in writes no summary
        "masking",
        "0.0275",
    )
    assert row["data"].endswith("/images")
    assert row["note"] == "summary.json is missing"
    assert row["when"]
    assert len(runs.table.record(1).curve[0]) == 4
    select(runs, 1)
    assert "summary.json is missing" in said(runs, "details")


def test_a_click_on_a_title_sorts_and_words_filter(
    open_dock: Open, tmp_path: Path, qtbot: Any
) -> None:
    for number, rate in enumerate((0.2, 0.4, 0.1), 1):
        write_run(tmp_path, "cells", number, rate=rate, time=1.7e9 + number)
    write_run(tmp_path, "embryo", task="masking", epochs=0, time=1.6e9)
    dock = open_dock(tmp_path, 4)
    assert names(dock) == ["cells_3", "cells_2", "cells_1", "embryo_1"]
    header = dock.table.horizontalHeader()
    titles = [dock.table.order.headerData(k, Qt.Orientation.Horizontal) for k in range(9)]
    x = header.sectionViewportPosition(titles.index("best loss")) + 10
    click = (header.viewport(), Qt.MouseButton.LeftButton)
    place = header.rect().center()
    place.setX(x)
    qtbot.mouseClick(*click, pos=place)
    assert names(dock) == ["cells_2", "cells_1", "cells_3", "embryo_1"]
    qtbot.mouseClick(*click, pos=place)
    assert names(dock) == ["cells_3", "cells_1", "cells_2", "embryo_1"], "nothing comes last"
    line = dock.findChild(QLineEdit, "filter")
    qtbot.keyClicks(line, "MASK embr")
    assert names(dock) == ["embryo_1"]
    line.clear()
    qtbot.keyClicks(line, "no such run")
    assert names(dock) == []
    line.clear()
    assert len(names(dock)) == 4


def test_a_live_run_grows_in_its_row_and_stays_selected(
    open_dock: Open, tmp_path: Path, qtbot: Any
) -> None:
    write_run(tmp_path, "old")
    run = write_run(tmp_path, "live", state=None, epochs=5, time=time.time())
    dock = open_dock(tmp_path, 2)
    row = dock.table.row_of(run)
    select(dock, row)
    assert dock.table.texts(row)["state"] == "training 25 %"
    assert not dock.buttons["resume"].enabled
    assert not dock.buttons["delete"].enabled, "a run under way is not deleted"
    epoch = ev.EpochFinished(
        epoch=10, epochs=20, step=100, train_loss=0.01, validation_loss=0.001, metrics={},
        learning_rate=1, best=True,
    )  # fmt: skip
    with run.events.open("a") as file:
        file.write(epoch.to_line())
    qtbot.waitUntil(lambda: dock.table.texts(row)["state"] == "training 50 %", timeout=10_000)
    assert dock.table.texts(row)["best loss"] == "0.001"
    assert [record.run for record in dock.chosen()] == [run]
    with run.events.open("a") as file:
        file.write(ev.RunFinished(state="stopped", reason="stop").to_line())
    qtbot.waitUntil(lambda: dock.buttons["resume"].enabled, timeout=10_000)
    write_run(tmp_path, "new", time=time.time())
    qtbot.waitUntil(lambda: dock.table.rowCount() == 3, timeout=10_000)
    assert [record.run for record in dock.chosen()] == [run]


def test_broken_folders_leave_the_table_whole(open_dock: Open, tmp_path: Path) -> None:
    good = write_run(tmp_path, "good")
    write_run(tmp_path, "empty").events.write_text("")
    write_run(tmp_path, "<b>bold").summary.write_text("[]")
    write_run(tmp_path, "folder").events.unlink()
    (tmp_path / "folder" / "results" / "folder_1" / "events.jsonl").mkdir()
    write_run(tmp_path, "dead", state=None, pid=DEAD)
    dock = open_dock(tmp_path, 5)
    notes = {t["run"]: t["note"] for t in map(dock.table.texts, range(5))}
    assert notes == {
        "good_1": "",
        "empty_1": "events.jsonl is empty",
        "<b>bold_1": "summary.json holds no keys and values",
        "folder_1": "events.jsonl cannot be read: it is no plain file",
        "dead_1": f"Process {DEAD} ended without a last word. Resume goes on from the saved state.",
    }
    states = {t["run"]: t["state"] for t in map(dock.table.texts, range(5))}
    assert states["empty_1"] == states["folder_1"] == "unreadable"
    assert states["dead_1"] == "died"
    bold = next(r for r in range(5) if dock.table.texts(r)["run"] == "<b>bold_1")
    tip = dock.table.order.index(bold, 0).data(Qt.ItemDataRole.ToolTipRole)
    assert "&lt;b&gt;bold_1" in tip, "a name is no markup"
    select(dock, dock.table.row_of(good))
    assert dock.buttons["open_results"].enabled


def test_hundreds_of_runs_come_in_without_holding_up_the_viewer(
    open_dock: Open, tmp_path: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 81):
        write_run(tmp_path, run_id=number, epochs=2)
    slow = runs_dock.RunScanner.scan

    def dawdle(self: Any) -> Any:
        for found in slow(self):
            time.sleep(0.1)  # a network folder
            yield found

    monkeypatch.setattr(runs_dock.RunScanner, "scan", dawdle)
    monkeypatch.setattr("napari_ssl_pretrain.spec.run_record.YIELD_SECONDS", 0.1)
    dock = open_dock(tmp_path, 0)
    turns = []
    while dock.table.rowCount() < 80:
        began = time.thread_time()  # not by the clock, which runs on while others work
        qtbot.wait(5)
        turns.append(time.thread_time() - began)
        assert len(turns) < 6000
    assert len(turns) > 10, "the viewer goes on while the folder is read"
    assert sorted(turns)[-2] < 0.2, "the first turn draws the dock"
    dock.folder.set(str(tmp_path / "job" / "results" / "job_7"))
    qtbot.waitUntil(lambda: names(dock) == ["job_7"], timeout=10_000)


def test_results_open_as_layers(runs: Runs, click: Click, qtbot: Any, viewer: Any) -> None:
    select(runs, 1)
    click(runs, "open_results")
    qtbot.waitUntil(lambda: "b reconstruction" in viewer.layers, timeout=10_000)
    shown = [layer.name for layer in viewer.layers]
    assert shown == [f"{i} {k}" for i in "ab" for k in ("original", "masked", "reconstruction")]
    layer = viewer.layers["a reconstruction"]
    assert tuple(layer.scale) == (0.5, 0.25), "the scale of the file that it was made from"
    assert [str(unit) for unit in layer.units] == ["nanometer", "nanometer"]
    assert layer.data.dtype == np.uint16
    qtbot.waitUntil(lambda: "6 layers of 2 images" in said(runs), timeout=20_000)


def test_results_of_a_folder_that_was_moved_open(
    open_dock: Open, tmp_path: Path, click: Click, qtbot: Any, viewer: Any
) -> None:
    run = write_run(tmp_path / "before")
    add_image(run, tmp_path / "im.tif", np.full((20, 30), 100, np.uint8))
    (tmp_path / "before").rename(tmp_path / "after")
    dock = open_dock(tmp_path / "after", 1)
    click(dock, "open_results")
    qtbot.waitUntil(lambda: "im restored" in viewer.layers, timeout=10_000)


def test_the_folder_opens_in_the_file_manager(
    runs: Runs, click: Click, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(
        runs_dock.QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile())
    )
    select(runs, 1)
    click(runs, "open_folder")
    assert opened == [str(runs.chosen()[0].run.results)]
    assert opened[0] in said(runs), "where none opens, the path is said"


def test_a_template_fills_pretrain_with_the_next_free_number(
    runs: Runs, click: Click, qtbot: Any, viewer: Any
) -> None:
    select(runs, 1)
    click(runs, "use_as_template")
    qtbot.waitUntil(lambda: docks.find("Pretrain", viewer) is not None, timeout=10_000)
    dock = docks.find("Pretrain", viewer)
    form = dock.form
    shown = [form.get(path) for path in ("name", "run_id", "pretext.task")]
    assert shown == ["job", 2, "masking"]
    assert Path(form.get("result_dir")) == Path(runs.folder.get())
    assert docks.open_pretrain(viewer) is dock


def test_paths_of_a_template_are_whole(
    open_dock: Open, tmp_path: Path, click: Click, qtbot: Any, viewer: Any
) -> None:
    run = write_run(tmp_path, fields={"data": {"train": "my_images", "test": "/abs/test"}})
    first, rest = run.events.read_text().split("\n", 1)
    started = ev.parse_event(first).model_copy(update={"folder": "/home/me/project"})
    run.events.write_text(started.to_line() + rest)
    dock = open_dock(tmp_path, 1)
    click(dock, "use_as_template")
    qtbot.waitUntil(lambda: docks.find("Pretrain", viewer) is not None, timeout=10_000)
    form = docks.find("Pretrain", viewer).form
    assert form.get("data.train") == (str(Path("/home/me/project/my_images")),)
    assert form.get("data.test") == ("/abs/test",)


def test_only_what_ended_early_and_left_a_state_can_be_resumed(runs: Runs) -> None:
    select(runs, 0)
    assert runs.buttons["resume"].enabled
    select(runs, 1)
    assert not runs.buttons["resume"].enabled
    select(runs, 0, 1)
    assert not runs.buttons["resume"].enabled


def test_resume_goes_on_in_pretrain(
    runs: Runs, click: Click, qtbot: Any, make_pretrain: Any
) -> None:
    dock = make_pretrain()
    select(runs, 0)
    runs.parent().raise_()
    click(runs, "resume")
    status = dock.findChild(QLabel, "status")
    qtbot.waitUntil(lambda: "slow_2 finished" in status.text(), timeout=30_000)
