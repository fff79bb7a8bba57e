"""The dock *Transfer* in a real viewer: real clicks, a stand-in process behind them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QLabel, QLineEdit, QPlainTextEdit, QProgressBar, QWidget

from napari_ssl_pretrain import runner
from napari_ssl_pretrain.engine.transfer.report import CLASS_COLOURS
from napari_ssl_pretrain.engine.transfer.study import RATES, SWEEP_SHARE
from napari_ssl_pretrain.gui import docks, remember, study_watch
from napari_ssl_pretrain.gui.study_form import estimate_line
from napari_ssl_pretrain.gui.transfer import Transfer
from napari_ssl_pretrain.spec.run_dir import RunDir
from napari_ssl_pretrain.spec.study_dir import BACKGROUND, StudyDir
from napari_ssl_pretrain.spec.transfer import TransferConfig

FAKE = [sys.executable, str(Path(__file__).parent / "fake_transfer.py")]
Make = Callable[..., Transfer]
Click = Callable[[QWidget, str], None]


def status(dock: QWidget) -> str:
    label = dock.findChild(QLabel, "status")
    assert label is not None
    return str(label.text())


def verdict(dock: QWidget) -> str:
    label = dock.findChild(QLabel, "verdict")
    assert label is not None
    return str(label.text())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with what a study needs, as far as can be told without looking inside."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    (tmp_path / "net.pth").touch()
    return tmp_path


@pytest.fixture
def make(viewer: Any, qtbot: Any, place: Path) -> Iterator[Make]:
    """Return what opens the dock *Transfer*, with the stand-in behind its buttons."""
    made: list[Transfer] = []

    def open_dock(**fields: Any) -> Transfer:
        dock = Transfer(viewer, start=partial(runner.start_study, command=FAKE))
        viewer.window.add_dock_widget(dock, name="Transfer", area="right")
        given = {
            "checkpoint": str(place / "net.pth"),
            "images": str(place / "images"),
            "labels": str(place / "labels"),
            "output": str(place / "report"),
            "seeds": 2,
        }
        for path, value in (given | fields).items():
            dock.form.set(path, value)
        made.append(dock)
        qtbot.waitUntil(dock.buttons["start"].native.isVisible, timeout=20_000)
        return dock

    yield open_dock
    for dock in made:
        if docks._alive(dock) and dock.control.handle is not None:
            dock.control.handle.kill()
            qtbot.waitUntil(lambda d=dock: not d.control.active, timeout=10_000)


def test_the_dock_opens_without_torch() -> None:
    code = (
        "import sys, napari; from qtpy.QtWidgets import QApplication;"
        "app = QApplication([]); from napari.components import ViewerModel;"
        "from napari_ssl_pretrain.gui.transfer import Transfer;"
        "dock = Transfer(ViewerModel()); dock.show(); app.processEvents();"
        "print(*({'torch', 'matplotlib', 'monai'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == ""


def test_start_watch_verdict_report_and_cases(
    make: Make, click: Click, qtbot: Any, place: Path, viewer: Any, monkeypatch: Any
) -> None:
    dock = make(n_labels=(2, 5), output=str(place / "slow report"))
    bar = dock.findChild(QProgressBar, "progress")
    assert bar is not None
    click(dock, "start")
    stop = dock.findChild(QWidget, "stop")
    assert stop is not None
    assert stop.isEnabled()
    assert not dock.buttons["open_report"].enabled
    qtbot.waitUntil(lambda: bar.value() > 0 and "left" in bar.format(), timeout=20_000)
    assert "labels, repetition 1" in verdict(dock)
    qtbot.waitUntil(lambda: len(dock.view.scores.found) >= 2, timeout=10_000)
    assert dock.control.active, "scores come in while it goes on"
    qtbot.waitUntil(lambda: not dock.control.active, timeout=30_000)
    assert "Pretraining helps: +6.0 IoU points" in verdict(dock)
    assert "Two seeds tell little" in verdict(dock)
    assert "Pretraining helps" in status(dock)
    assert set(dock.view.scores.found) == {
        (a, n) for a in ("scratch", "pretrained", "frozen", "shuffled") for n in (2, 5)
    }
    assert dock.view.gains.isVisible()
    messages = dock.findChild(QPlainTextEdit, "messages")
    assert messages is not None
    assert "two classes" in messages.toPlainText()
    assert "saves about 3 of 5 labels" in messages.toPlainText()

    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    click(dock, "open_report")
    assert opened == [str(place / "slow report" / "report.html")]
    click(dock, "open_cases")
    names = [layer.name for layer in viewer.layers]
    qtbot.waitUntil(lambda: len(viewer.layers) >= 8, timeout=20_000)
    names = [layer.name for layer in viewer.layers]
    assert {"median case image", "worst case pretrained"} <= set(names)
    assert viewer.layers["worst case truth"].rgb
    visible = [layer.name for layer in viewer.layers if layer.visible]
    assert visible == ["median case image", "median case pretrained"]
    click(dock, "open_cases")
    qtbot.wait(300)
    assert len(viewer.layers) == 8, "layers are reused, not piled up"


def test_errors_are_one_sentence_at_their_field(
    make: Make, click: Click, qtbot: Any, place: Path
) -> None:
    dock = make(checkpoint="")
    click(dock, "start")
    error = dock.form.rows["checkpoint"].error
    assert error.isVisible()
    assert "Is required" in error.text()
    dock.form.set("checkpoint", str(place / "none.pth"))
    assert not error.isVisible()
    click(dock, "start")
    qtbot.waitUntil(error.isVisible, timeout=20_000)
    assert "no such file" in error.text()
    dock.form.set("checkpoint", str(place / "net.pth"))
    for field, value, text in (
        ("labels", str(place / "nowhere"), "does not exist"),
        ("n_labels", "many", "must be a whole number"),
        ("minutes", 0, "must be greater than 0"),
        ("test_images", str(place / "images"), ""),
    ):
        before = dock.form.get(field)
        dock.form.set(field, value)
        click(dock, "start")
        at = "test_labels" if field == "test_images" else field
        row = dock.form.rows[at]
        qtbot.waitUntil(row.error.isVisible, timeout=20_000)
        assert text in row.error.text()
        qtbot.waitUntil(lambda: not dock.control.active, timeout=20_000)
        dock.form.set(field, before)
    assert dock.tabs.currentWidget() is dock.form
    assert not (place / "report").exists()


def test_a_refusal_of_the_process_is_shown_at_its_field(
    make: Make, click: Click, qtbot: Any, place: Path
) -> None:
    dock = make(output=str(place / "usage"))
    click(dock, "start")
    error = dock.form.rows["labels"].error
    qtbot.waitUntil(error.isVisible, timeout=20_000)
    assert "a.tif has no label" in error.text()
    assert not (place / "usage").exists(), "nothing is left of what never began"


def test_an_early_stop_leaves_no_report(make: Make, click: Click, qtbot: Any, place: Path) -> None:
    dock = make(output=str(place / "slow"))
    click(dock, "start")
    qtbot.waitUntil(lambda: bool(dock.view.scores.found), timeout=20_000)
    click(dock, "stop")
    qtbot.waitUntil(lambda: not dock.control.active, timeout=10_000)
    assert "Stopped before the end: no report" in status(dock)
    assert not dock.buttons["open_report"].enabled
    assert verdict(dock) == ""


def test_a_study_stopped_late_reports_what_it_has(
    make: Make, click: Click, qtbot: Any, place: Path
) -> None:
    dock = make(output=str(place / "slow"))
    click(dock, "start")
    qtbot.waitUntil(lambda: len(dock.view.scores.found) >= 4, timeout=20_000)
    click(dock, "stop")
    qtbot.waitUntil(lambda: not dock.control.active, timeout=10_000)
    assert "Stopped early; so far: Pretraining helps" in status(dock)
    assert "report.html" in status(dock)
    assert "Pretraining helps" in verdict(dock)
    assert dock.buttons["open_report"].enabled


def test_a_crash_is_called_a_crash(make: Make, click: Click, qtbot: Any, place: Path) -> None:
    dock = make(output=str(place / "crash"))
    click(dock, "start")
    qtbot.waitUntil(lambda: "ended with code -9" in status(dock), timeout=20_000)
    assert not dock.control.active
    assert "run.log" in status(dock)


def test_a_taken_folder_is_refused_and_the_next_one_offered(
    make: Make, click: Click, qtbot: Any, place: Path
) -> None:
    dock = make()
    click(dock, "start")
    qtbot.waitUntil(lambda: "Pretraining helps" in status(dock), timeout=20_000)
    click(dock, "start")
    error = dock.form.rows["output"].error
    qtbot.waitUntil(error.isVisible, timeout=20_000)
    assert "holds a report already" in error.text()
    error.linkActivated.emit("next")
    assert dock.form.get("output") == str(place / "report_2")
    click(dock, "start")
    qtbot.waitUntil(lambda: "report_2/report.html" in status(dock), timeout=20_000)


def test_closing_leaves_the_study_alive_and_opening_finds_it(
    make: Make, click: Click, qtbot: Any, place: Path, viewer: Any
) -> None:
    first = make(output=str(place / "slow"), n_labels=(3,))
    click(first, "start")
    qtbot.waitUntil(lambda: first.control.handle is not None, timeout=20_000)
    qtbot.waitUntil(lambda: bool(first.view.scores.found), timeout=20_000)
    viewer.window.remove_dock_widget(first)
    first.close()
    first.deleteLater()
    qtbot.wait(50)

    second = make(output="elsewhere", n_labels=(7,))
    qtbot.waitUntil(lambda: second.control.handle is not None, timeout=10_000)
    qtbot.waitUntil(lambda: second.form.get("n_labels") == (3,), timeout=10_000)
    qtbot.waitUntil(lambda: "Pretraining helps" in verdict(second), timeout=20_000)
    assert all(len(scores) == 2 for scores in second.view.scores.found.values()), "all of them"
    viewer.window.remove_dock_widget(second)
    second.deleteLater()

    third = make()
    qtbot.waitUntil(lambda: "Pretraining helps" in verdict(third), timeout=10_000)
    assert third.buttons["open_report"].enabled


def test_settings_are_remembered(make: Make, qtbot: Any, viewer: Any) -> None:
    first = make(n_labels=(1, 4), minutes=0.5)
    qtbot.waitUntil(lambda: remember.load("transfer").get("minutes") == 0.5, timeout=20_000)
    viewer.window.remove_dock_widget(first)
    first.deleteLater()
    second = make()
    assert second.form.get("n_labels") == (1, 4)
    assert second.form.get("minutes") == 0.5


def test_value_and_set_value(make: Make) -> None:
    dock = make()
    config = TransferConfig(
        **dock.value().model_dump() | {"arms": ("scratch", "pretrained"), "n_labels": 4, "seed": 9}
    )
    dock.setValue(config)
    assert dock.value() == config


def test_every_field_has_an_editor_of_its_name(make: Make) -> None:
    dock = make()
    for path, field in TransferConfig.model_fields.items():
        editor = dock.findChild(QWidget, path)
        assert editor is not None, path
        assert str(field.description)[1:20] in editor.toolTip()
    assert dock.findChild(QLineEdit, "images") is not None


def test_the_time_is_told_before_the_start(make: Make) -> None:
    dock = make(n_labels=(2, 5, 10), seeds=3, minutes=1)
    estimate = dock.findChild(QLabel, "estimate")
    assert estimate is not None
    shown = estimate.text()
    assert shown.startswith(
        "Up to about 38 min: 3 repetitions x 3 label counts x 4 networks x 60 s"
    )
    assert "2 min to choose learning rates" in shown
    dock.form.set("seeds", 1)
    assert estimate.text().startswith("Up to about 14 min: 1 repetition x 3")
    dock.form.set("n_labels", "many")
    assert estimate.text() == ""


def test_the_estimate_counts_what_the_study_does() -> None:
    config = TransferConfig(checkpoint="c", images="i", labels="l", minutes=10, seeds=2)
    wanted = 2 * 3 * 4 * 10 + 2 * len(RATES) * SWEEP_SHARE * 10
    assert config.total_minutes == pytest.approx(wanted)
    assert "Up to about 4 h 18 min" in estimate_line(config)


def test_a_finished_run_is_offered(make: Make, qtbot: Any, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "results", "cells", 1)
    run.events.parent.mkdir(parents=True)
    run.events.touch()
    run.checkpoint("best").parent.mkdir(parents=True)
    run.checkpoint("best").touch()
    remember.save_run(run, watching=False)
    dock = make(checkpoint="")
    wanted = str(run.checkpoint("best"))
    qtbot.waitUntil(lambda: dock.form.get("checkpoint") == wanted, timeout=20_000)


def test_the_words_of_a_study_are_read_back() -> None:
    config = TransferConfig(
        checkpoint="/a b/c.pth", images="i", labels="l", n_labels=(1, 3), arms="scratch,pretrained"
    )
    words = runner.transfer_words(config, StudyDir(Path("/out")))
    assert words[:2] == ["--checkpoint", "/a b/c.pth"]
    assert words[words.index("--n_labels") + 1] == "1,3"
    assert words[words.index("--arms") + 1] == "scratch,pretrained"
    assert "--seeds" not in words
    assert words[-2:] == ["--output", "/out"]


def test_the_next_name_is_free(tmp_path: Path) -> None:
    assert study_watch.next_output(str(tmp_path / "a")) == str(tmp_path / "a")
    for name in ("a", "a_2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.html").touch()
    assert study_watch.next_output(str(tmp_path / "a")) == str(tmp_path / "a_3")


def test_the_background_of_a_case_is_seen_through() -> None:
    assert CLASS_COLOURS[0] == BACKGROUND
    picture = np.array([[BACKGROUND, (1, 2, 3)]], np.uint8)
    assert study_watch.see_through(picture)[0, :, 3].tolist() == [0, 255]
    gray = np.zeros((2, 2), np.uint8)
    assert study_watch.see_through(gray) is gray
