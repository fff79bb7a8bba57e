"""The dock *Runs*: two or more runs beside each other, and runs that go."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QItemSelectionModel, Qt
from qtpy.QtWidgets import QCheckBox, QLabel, QTableWidget, QWidget
from run_tree import add_image, losses, write_run

from napari_ssl_pretrain.gui import deletion
from napari_ssl_pretrain.gui import runs as runs_dock
from napari_ssl_pretrain.gui.runs import Runs

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Image as ImageLayer

    from napari_ssl_pretrain.spec.run_dir import RunDir

Click = Callable[[QWidget, str], None]
Open = Callable[..., Runs]


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_dock, "REFRESH_MS", 200)


@pytest.fixture
def open_dock(viewer: Any, qtbot: Any) -> Open:
    """Return what opens the dock on a folder and selects runs."""

    def open_on(root: Path, *runs: RunDir) -> Runs:
        dock = Runs(viewer)
        dock.folder.set(str(root))
        viewer.window.add_dock_widget(dock, name="Runs")
        qtbot.waitUntil(lambda: all(dock.table.row_of(r) >= 0 for r in runs), timeout=10_000)
        flags = QItemSelectionModel.SelectionFlag
        dock.table.clearSelection()
        for run in runs:
            index = dock.table.order.index(dock.table.row_of(run), 0)
            dock.table.selectionModel().select(index, flags.Select | flags.Rows)
        return dock

    return open_on


def cells(dock: Runs, name: str) -> list[list[str]]:
    table = dock.findChild(QTableWidget, name)
    assert table is not None
    rows, columns = range(table.rowCount()), range(table.columnCount())
    return [[item.text() if (item := table.item(r, c)) else "" for c in columns] for r in rows]


def compared(dock: Runs, click: Click, qtbot: Any) -> None:
    with qtbot.waitSignal(dock.comparison.compared, timeout=10_000):
        click(dock, "compare")


def test_curves_and_settings_of_two_runs(
    open_dock: Open, tmp_path: Path, click: Click, qtbot: Any
) -> None:
    noise = {"pretext": {"task": "crappify", "noise": 0.4}}
    a = write_run(tmp_path, run_id=1, time=1.7e9)
    b = write_run(tmp_path, run_id=2, time=1.6e9, rate=0.1, fields=noise, test={"psnr": 31.0})
    dock = open_dock(tmp_path, a, b)
    compared(dock, click, qtbot)
    curves = dock.comparison.plot.curves()
    assert list(curves) == ["0 validation", "1 validation"]
    for name, rate in (("0 validation", 0.3), ("1 validation", 0.1)):
        assert curves[name][0] == list(range(10, 101, 10))
        assert curves[name][1] == pytest.approx([1.1 * loss for loss in losses(10, rate)])
    assert cells(dock, "differences") == [["pretext.noise", "0.2", "0.4"]]
    assert [row[:2] + row[3:] for row in cells(dock, "scores")] == [
        ["job_1", "finished", "30", "28.5"],
        ["job_2", "finished", "31", ""],
    ]
    box = dock.findChild(QCheckBox, "show_training")
    qtbot.mouseClick(box, Qt.MouseButton.LeftButton, pos=_left(box))
    assert set(dock.comparison.plot.curves()) == {
        f"{k} {w}" for k in (0, 1) for w in ("training", "validation")
    }
    assert not dock.comparison.show_images.isEnabled(), "they made nothing of the same image"


def _left(box: QWidget) -> Any:
    place = box.rect().center()
    place.setX(10)
    return place


def test_equal_settings_are_said_and_different_tasks(
    open_dock: Open, tmp_path: Path, click: Click, qtbot: Any
) -> None:
    a, b = write_run(tmp_path, run_id=1), write_run(tmp_path, run_id=2)
    c = write_run(tmp_path, "other", task="masking")
    dock = open_dock(tmp_path, a, b)
    compared(dock, click, qtbot)
    assert cells(dock, "differences") == []
    assert dock.comparison.differences_title.text() == "All settings are the same."
    dock.tabs.setCurrentIndex(0)
    dock.table.selectAll()
    compared(dock, click, qtbot)
    advice = dock.findChild(QLabel, "compare_advice")
    assert advice.isVisible()
    assert "different tasks" in advice.text()
    assert [row[0] for row in cells(dock, "differences")] == ["pretext.task"]
    assert c.run_name in [row[0] for row in cells(dock, "scores")]


def of_two_runs(folder: Path, axes: str, shape: tuple[int, ...]) -> tuple[Any, list[RunDir]]:
    """Return an image, and two runs that made something of it."""
    pixels = np.random.default_rng(0).integers(0, 200, shape, dtype=np.uint8)
    runs = [write_run(folder / "exp", run_id=k, time=1.7e9 - k) for k in (1, 2)]
    for run in runs:
        add_image(run, folder / "im.tif", pixels, axes)
    return pixels, runs


SHAPES = {"YX": (40, 60), "CYX": (2, 40, 60), "YXS": (40, 60, 3)}
SHOWN = ("im original (compared)", "im restored (job_1)", "im restored (job_2)")
ORDER = "im, from the left: the image itself, job_1, job_2."


@pytest.mark.parametrize("axes", SHAPES)
def test_images_stand_side_by_side_linked_and_to_scale(
    open_dock: Open, tmp_path: Path, click: Click, qtbot: Any, axes: str
) -> None:
    pixels, runs = of_two_runs(tmp_path, axes, SHAPES[axes])
    dock = open_dock(tmp_path / "exp", *runs)
    viewer = dock.viewer
    mine = viewer.add_image(np.zeros((5, 5)), name="mine")
    compared(dock, click, qtbot)
    click(dock, "show_images")
    qtbot.waitUntil(lambda: dock.status.text() == ORDER, timeout=10_000)
    layers: list[ImageLayer] = [viewer.layers[name] for name in SHOWN]
    assert len(viewer.layers) == 1 + 3 * (2 if axes == "CYX" else 1)
    assert [tuple(layer.scale) for layer in layers] == [(0.5, 0.5)] * 3
    assert [x.translate[-1] for x in layers] == pytest.approx([0, 30 * 1.04, 2 * 30 * 1.04])
    made = pixels // 2 + 2
    np.testing.assert_array_equal(np.asarray(layers[2].data), made[0] if axes == "CYX" else made)
    if axes != "YXS":
        assert len({tuple(layer.contrast_limits) for layer in layers}) == 1
        layers[1].contrast_limits = (3, 77)
        assert [tuple(layer.contrast_limits) for layer in layers] == [(3, 77)] * 3
    layers[0].visible = False
    assert not layers[2].visible
    assert mine.visible


def test_images_lie_on_each_other_if_wished_and_are_replaced(
    open_dock: Open, tmp_path: Path, click: Click, qtbot: Any
) -> None:
    _, runs = of_two_runs(tmp_path, "YX", SHAPES["YX"])
    dock = open_dock(tmp_path / "exp", *runs)
    compared(dock, click, qtbot)
    click(dock, "show_images")
    qtbot.waitUntil(lambda: dock.status.text() == ORDER, timeout=10_000)
    layers = list(dock.viewer.layers)
    box = dock.comparison.side_by_side
    qtbot.mouseClick(box, Qt.MouseButton.LeftButton, pos=_left(box))
    assert [layer.translate[-1] for layer in layers] == [0, 0, 0]
    layers[0].visible = False
    click(dock, "show_images")
    qtbot.waitUntil(lambda: layers[0].visible and layers[2].visible, timeout=10_000)
    qtbot.waitUntil(lambda: dock.status.text() == ORDER, timeout=10_000)
    assert list(dock.viewer.layers) == layers, "used again"
    assert [layer.name for layer in dock.viewer.layers] == list(SHOWN)
    assert [layer.translate[-1] for layer in dock.viewer.layers] == [0, 0, 0]


def test_a_curve_that_grows_is_drawn_on(
    open_dock: Open, tmp_path: Path, click: Click, qtbot: Any
) -> None:
    live = write_run(tmp_path, "live", state=None, epochs=3, time=time.time())
    other = write_run(tmp_path, "other")
    dock = open_dock(tmp_path, live, other)
    compared(dock, click, qtbot)
    which = [record.run for record in dock.chosen()].index(live)
    longer = write_run(tmp_path / "elsewhere", "live", state=None, epochs=6, time=time.time())
    with live.events.open("a") as file:
        file.write("".join(longer.events.read_text().splitlines(keepends=True)[-6:]))
    qtbot.waitUntil(
        lambda: len(dock.comparison.plot.curves()[f"{which} validation"][0]) == 6, timeout=10_000
    )


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    path = tmp_path / "canary.txt"
    path.write_text("precious")
    return path


def ask(dock: Runs, click: Click, qtbot: Any) -> str:
    click(dock, "delete")
    qtbot.waitUntil(lambda: dock.deletion.asking, timeout=10_000)
    question = dock.findChild(QLabel, "question")
    assert question.textFormat() == Qt.TextFormat.PlainText
    return question.text()


def test_deletion_asks_says_what_goes_and_uses_the_trash(
    open_dock: Open, tmp_path: Path, click: Click, qtbot: Any, canary: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    runs = [write_run(tmp_path / "exp", run_id=k) for k in (1, 2)]
    (runs[0].results / "link").symlink_to(canary)
    taken = tmp_path / "trash"
    taken.mkdir()
    monkeypatch.setattr(deletion, "trash", lambda path: bool(path.rename(taken / path.name)))
    dock = open_dock(tmp_path / "exp", runs[0])
    text = ask(dock, click, qtbot)
    assert text.startswith("Delete job_1? 6 files, ")
    assert "job.yaml and other runs stay" in text
    click(dock, "cancel_delete")
    assert not dock.deletion.asking
    assert runs[0].events.exists()
    ask(dock, click, qtbot)
    click(dock, "confirm_delete")
    qtbot.waitUntil(lambda: dock.table.rowCount() == 1, timeout=10_000)
    qtbot.waitUntil(lambda: "job_1 deleted" in dock.status.text(), timeout=10_000)
    assert not runs[0].results.exists()
    assert runs[1].events.exists()
    assert runs[1].checkpoint("last").exists()
    assert runs[0].config.exists()
    assert (taken / "job_1" / "events.jsonl").exists()
    assert canary.read_text() == "precious"


def test_without_a_trash_it_asks_again(
    open_dock: Open, tmp_path: Path, click: Click, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path)
    monkeypatch.setattr(deletion, "trash", lambda _path: False)
    dock = open_dock(tmp_path, run)
    ask(dock, click, qtbot)
    click(dock, "confirm_delete")
    qtbot.waitUntil(lambda: "for good?" in dock.deletion.question.text(), timeout=10_000)
    qtbot.waitUntil(lambda: dock.deletion.asking, timeout=10_000)
    assert run.events.exists()
    click(dock, "confirm_delete")
    qtbot.waitUntil(lambda: dock.table.rowCount() == 0, timeout=10_000)
    assert not run.results.exists()


def test_the_desktops_own_trash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    run = write_run(tmp_path / "exp")
    if deletion.trash(run.results):
        assert (tmp_path / "share" / "Trash" / "files" / "job_1" / "events.jsonl").exists()
    assert not deletion.trash(tmp_path / "nothing")


def test_a_run_that_began_meanwhile_is_not_deleted(
    open_dock: Open, tmp_path: Path, click: Click, qtbot: Any
) -> None:
    run = write_run(tmp_path)
    dock = open_dock(tmp_path, run)
    ask(dock, click, qtbot)
    write_run(tmp_path, state=None, time=time.time())
    click(dock, "confirm_delete")
    qtbot.waitUntil(lambda: "is under way" in dock.status.text(), timeout=10_000)
    assert run.events.exists()
    assert run.checkpoint("last").exists()
