"""The dock *Features*, with the clicks and moves of a user."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Labels
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication, QCheckBox, QComboBox, QLabel, QLineEdit, QWidget

from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.gui import docks, encoding, remember
from napari_ssl_pretrain.gui.encoding import to_axes
from napari_ssl_pretrain.gui.features import ADVICE, Features
from napari_ssl_pretrain.spec.run_dir import RunDir

Make = Callable[..., Features]
Click = Callable[[QWidget, str], None]
FAKE = [sys.executable, str(Path(__file__).parent / "fake_features.py")]


def halves(*shape: int) -> np.ndarray:
    """Dark on the left, bright on the right, with a little noise."""
    pixels = np.random.default_rng(0).integers(0, 30, shape).astype(np.uint8)
    pixels[..., shape[-1] // 2 :] += 150
    return pixels


@pytest.fixture
def make(viewer: Any, qtbot: Any, tmp_path: Path) -> Iterator[Make]:
    made: list[Features] = []

    def open_dock(checkpoint: str = "good.pth") -> Features:
        path = tmp_path / checkpoint
        path.touch()
        dock = Features(viewer, command=FAKE)
        viewer.window.add_dock_widget(dock, name="Features", area="right")
        qtbot.waitUntil(dock.buttons["encode"].native.isVisible, timeout=20_000)
        line = dock.findChild(QLineEdit, "checkpoint")
        line.clear()
        qtbot.keyClicks(line, str(path))
        made.append(dock)
        return dock

    yield open_dock
    for dock in made:
        if docks._alive(dock):
            dock._kill()
            qtbot.waitUntil(lambda d=dock: d._child is None and d._prober is None, timeout=20_000)


def status(dock: Features) -> str:
    return str(dock.findChild(QLabel, "status").text())


def encoded(dock: Features, click: Click, qtbot: Any) -> None:
    click(dock, "encode")
    qtbot.waitUntil(lambda: dock._child is None, timeout=30_000)


@pytest.mark.parametrize("from_file", [False, True])
def test_features_lie_on_the_image(
    make: Make, click: Click, qtbot: Any, viewer: Any, tmp_path: Path, from_file: bool
) -> None:
    pixels = halves(61, 70)
    if from_file:
        write_array(tmp_path / "cells.tif", pixels, "YX")
        (layer,) = viewer.open(str(tmp_path / "cells.tif"), plugin="napari")
        layer.scale, layer.translate = (2, 3), (5, 6)
    else:
        layer = viewer.add_image(pixels, name="cells", scale=(2, 3), translate=(5, 6))
    dock = make()
    encoded(dock, click, qtbot)
    assert status(dock) == "cells: 3 features on a grid of 31 x 35."
    found = viewer.layers["cells features"]
    assert found.rgb
    assert found.data.shape == (61, 70, 3)
    assert tuple(found.scale) == (2, 3)
    assert tuple(found.translate) == (5, 6)
    assert viewer.layers.selection.active is layer
    source = dock.encoded().map.about["source"]
    assert (source == str(tmp_path / "cells.tif")) == from_file
    encoded(dock, click, qtbot)
    assert len(viewer.layers) == 2, "encoding again renews the layer"


def move(viewer: Any, position: tuple[float, ...]) -> None:
    class Event:
        pass

    event = Event()
    event.position = position
    for callback in viewer.mouse_move_callbacks:
        callback(viewer, event)


def test_similarity_follows_the_mouse(make: Make, click: Click, qtbot: Any, viewer: Any) -> None:
    viewer.add_image(halves(60, 70), name="cells", scale=(2, 2), translate=(10, 0))
    dock = make()
    box = dock.findChild(QCheckBox, "similarity")
    assert not box.isEnabled()
    encoded(dock, click, qtbot)
    box.click()
    assert not viewer.layers["cells features"].visible, "similarity takes the place of colours"
    with qtbot.waitSignal(dock.hover.drawn, timeout=20_000):
        move(viewer, (10 + 2 * 30, 2 * 10))
    layer = viewer.layers["cells similarity"]
    assert layer.data.shape == (30, 35)
    assert tuple(layer.scale) == (4, 4)
    assert tuple(layer.translate) == (11, 1), "cells of two pixels are centred between them"
    assert layer.data[:, :15].mean() > 0.5
    assert layer.data[:, 20:].mean() < 0
    assert layer.data[15, 5] == pytest.approx(1, abs=1e-3)
    with qtbot.waitSignal(dock.hover.drawn, timeout=20_000):
        move(viewer, (10 + 2 * 30, 2 * 60))
    assert layer in viewer.layers
    assert layer.data[:, 20:].mean() > 0.5
    before = layer.data
    move(viewer, (-500, 0))
    qtbot.wait(150)
    assert layer.data is before, "beyond the image nothing changes"
    box.click()
    assert not viewer.mouse_move_callbacks
    assert viewer.layers["cells features"].visible
    assert not layer.visible


def test_it_follows_a_mouse(make: Make, click: Click, qtbot: Any, viewer: Any) -> None:
    viewer.add_image(halves(60, 70), name="cells")
    dock = make()
    encoded(dock, click, qtbot)
    dock.findChild(QCheckBox, "similarity").click()
    canvas, none = viewer.window._qt_viewer.canvas.native, Qt.MouseButton.NoButton
    place, keys = canvas.rect().center().toPointF(), Qt.KeyboardModifier.NoModifier
    event = QMouseEvent(QEvent.Type.MouseMove, place, canvas.mapToGlobal(place), none, none, keys)
    with qtbot.waitSignal(dock.hover.drawn, timeout=20_000):
        QApplication.sendEvent(canvas, event)  # a screen would give it to what lies on top
    assert "cells similarity" in viewer.layers


def test_of_a_volume_the_planes_around_are_compared(
    make: Make, click: Click, qtbot: Any, viewer: Any
) -> None:
    viewer.add_image(halves(20, 40, 48), name="cells", scale=(3, 1, 1))
    viewer.dims.set_current_step(0, 10)
    dock = make()
    encoded(dock, click, qtbot)
    assert viewer.layers["cells features"].data.shape == (20, 40, 48, 3)
    dock.findChild(QCheckBox, "similarity").click()
    with qtbot.waitSignal(dock.hover.drawn, timeout=20_000):
        move(viewer, (30, 20, 10))
    layer = viewer.layers["cells similarity"]
    assert layer.data.shape == (5, 20, 24)
    assert tuple(layer.translate) == (24, 0.5, 0.5)
    with qtbot.waitSignal(dock.hover.drawn, timeout=20_000):
        viewer.dims.set_current_step(0, 15)
    assert tuple(layer.translate) == (39, 0.5, 0.5)
    assert layer.data[2, :, :10].mean() > 0.5, "compared with the point of before"


def paint(layer: Labels, strokes: dict[int, tuple[int, ...]]) -> None:
    for label, place in strokes.items():
        layer.paint(place, label)


@pytest.mark.parametrize("shape", [(60, 70), (6, 60, 70)])
def test_a_few_strokes_label_the_whole_image(
    make: Make, click: Click, qtbot: Any, viewer: Any, shape: tuple[int, ...]
) -> None:
    viewer.add_image(halves(*shape), name="cells", scale=(2,) * len(shape))
    dock = make()
    encoded(dock, click, qtbot)
    click(dock, "probe")
    assert status(dock) == ADVICE
    scribbles = viewer.layers["cells scribbles"]
    assert isinstance(scribbles, Labels)
    assert scribbles.data.shape == shape
    assert tuple(scribbles.scale) == (2,) * len(shape)
    assert scribbles.mode == "paint"
    assert viewer.layers.selection.active is scribbles
    assert dock.findChild(QComboBox, "scribbles").currentText() == "cells scribbles"
    lead = (2,) * (len(shape) - 2)
    paint(scribbles, {1: (*lead, 10, 10)})
    click(dock, "probe")
    qtbot.waitUntil(lambda: dock._prober is None, timeout=10_000)
    assert "scribbles: holds only the label 1. Paint a few strokes" in status(dock)
    paint(scribbles, {5: (*lead, 30, 60)})
    click(dock, "probe")
    qtbot.waitUntil(lambda: dock._prober is None, timeout=10_000)
    assert status(dock).startswith("Probe: labels 1, 5 from ")
    labels = viewer.layers["cells probe"]
    assert isinstance(labels, Labels)
    assert viewer.layers[-1] is scribbles, "more strokes can be seen"
    assert viewer.layers.selection.active is scribbles
    assert tuple(labels.scale) == (2,) * len(shape)
    wanted = np.where(np.arange(70) < 35, 1, 5)
    assert (labels.data == wanted).mean() > 0.95
    paint(scribbles, {5: (*lead, 40, 60)})
    click(dock, "probe")
    qtbot.waitUntil(lambda: dock._prober is None, timeout=10_000)
    assert sum(layer.name.startswith("cells probe") for layer in viewer.layers) == 1


def test_scribbles_of_another_shape_are_named(
    make: Make, click: Click, qtbot: Any, viewer: Any
) -> None:
    viewer.add_image(halves(60, 70), name="cells")
    viewer.add_labels(np.ones((5, 5), np.uint8), name="other")
    dock = make()
    encoded(dock, click, qtbot)
    dock.findChild(QComboBox, "scribbles").setCurrentText("other")
    click(dock, "probe")
    qtbot.waitUntil(lambda: dock._prober is None, timeout=10_000)
    assert "scribbles: other: has 5 x 5 pixels, the image 60 x 70" in status(dock)


@pytest.mark.parametrize(
    ("checkpoint", "said"),
    [
        ("needs3.pth", "was trained on 3 channels, the images have 1. Use others."),
        ("crash.pth", "the process ended with 1."),
    ],
)
def test_errors_are_one_sentence(
    make: Make, click: Click, qtbot: Any, viewer: Any, checkpoint: str, said: str
) -> None:
    viewer.add_image(halves(60, 70), name="cells")
    dock = make(checkpoint)
    encoded(dock, click, qtbot)
    assert status(dock).endswith(said)
    assert dock.buttons["encode"].enabled
    (dock.findChild(QLineEdit, "checkpoint")).setText("/nowhere.pth")
    click(dock, "encode")
    assert status(dock) == "checkpoint: /nowhere.pth: no such file."


def test_stop_ends_the_process(make: Make, click: Click, qtbot: Any, viewer: Any) -> None:
    viewer.add_image(halves(60, 70), name="cells")
    dock = make("slow.pth")
    click(dock, "encode")
    assert not dock.buttons["encode"].enabled
    qtbot.waitUntil(lambda: dock.progress.maximum() == 3, timeout=20_000)
    click(dock, "stop")
    qtbot.waitUntil(lambda: dock._child is None, timeout=10_000)
    assert status(dock) == "Encoding was stopped."
    assert [layer.name for layer in viewer.layers] == ["cells"]


def test_closing_the_dock_ends_the_process_and_lets_go_of_the_viewer(
    make: Make, click: Click, qtbot: Any, viewer: Any
) -> None:
    viewer.add_image(halves(60, 70), name="cells")
    dock = make()
    encoded(dock, click, qtbot)
    dock.findChild(QCheckBox, "similarity").click()
    dock.checkpoint.set(str(Path(dock.checkpoint.get()).with_name("slow.pth")))
    Path(dock.checkpoint.get()).touch()
    click(dock, "encode")
    qtbot.waitUntil(lambda: dock._child._process is not None, timeout=20_000)
    process = dock._child._process
    with qtbot.waitSignal(dock.destroyed, timeout=20_000):
        viewer.window.remove_dock_widget(dock.parent())
        dock.deleteLater()
    qtbot.waitUntil(lambda: process.poll() is not None, timeout=20_000)
    assert not viewer.mouse_move_callbacks
    viewer.add_image(halves(60, 70), name="more")
    qtbot.wait(200)


@pytest.mark.parametrize("checkpoint", ["needs2.pth", "needs1.pth"])
def test_of_a_channel_the_whole_file_is_encoded_or_the_channel_whichever_fits(
    make: Make, click: Click, qtbot: Any, viewer: Any, tmp_path: Path, checkpoint: str
) -> None:
    path = tmp_path / "cells.tif"
    write_array(path, np.stack([halves(60, 70)] * 2), "CYX")
    layers = viewer.open(str(path), plugin="napari", channel_axis=0)
    dock = make(checkpoint)
    dock.findChild(QComboBox, "layer").setCurrentText(layers[1].name)
    encoded(dock, click, qtbot)
    source = dock.encoded().map.about["source"]
    assert (source == str(path)) == (checkpoint == "needs2.pth")
    assert viewer.layers[f"{layers[1].name} features"].data.shape == (60, 70, 3)


def test_a_hyperstack_keeps_its_axes(make: Make, click: Click, qtbot: Any, viewer: Any) -> None:
    viewer.add_image(halves(5, 2, 40, 48), name="cells", axis_labels=("z", "c", "y", "x"))
    dock = make()
    encoded(dock, click, qtbot)
    assert viewer.layers["cells features"].data.shape == (5, 2, 40, 48, 3)
    dock.findChild(QCheckBox, "similarity").click()
    with qtbot.waitSignal(dock.hover.drawn, timeout=20_000):
        move(viewer, (2, 1, 20, 10))
    assert viewer.layers["cells similarity"].data.shape == (5, 2, 20, 24)
    click(dock, "probe")
    scribbles = viewer.layers["cells scribbles"]
    assert scribbles.data.shape == (5, 1, 40, 48)
    paint(scribbles, {1: (2, 0, 10, 10), 2: (2, 0, 10, 40)})
    click(dock, "probe")
    qtbot.waitUntil(lambda: dock._prober is None, timeout=10_000)
    assert viewer.layers["cells probe"].data.shape == (5, 2, 40, 48)


def test_the_boxes_follow_the_layers(make: Make, viewer: Any) -> None:
    dock = make()
    box = dock.findChild(QComboBox, "layer")
    assert box.count() == 0
    assert not dock.buttons["encode"].enabled
    layer = viewer.add_image(halves(20, 20), name="one")
    viewer.add_image(halves(20, 20), name="two")
    viewer.add_labels(np.zeros((20, 20), np.uint8), name="strokes")
    assert [box.itemText(k) for k in range(box.count())] == ["one", "two"]
    assert dock.buttons["encode"].enabled
    painted = dock.findChild(QComboBox, "scribbles")
    assert [painted.itemText(k) for k in range(painted.count())] == ["new layer", "strokes"]
    viewer.layers.remove(layer)
    assert [box.itemText(k) for k in range(box.count())] == ["two"]


def test_the_best_checkpoints_of_known_runs_are_offered(
    viewer: Any, qtbot: Any, tmp_path: Path
) -> None:
    run = RunDir(tmp_path / "results", "cells", 2)
    for path in (run.events, run.checkpoint("best")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    remember.save_run(run, watching=False)
    dock = Features(viewer, command=FAKE)
    viewer.window.add_dock_widget(dock, name="Features", area="right")
    line = dock.findChild(QLineEdit, "checkpoint")
    qtbot.waitUntil(lambda: line.text() == str(run.checkpoint("best")), timeout=20_000)
    dock.checkpoint.fill_menu()
    assert "cells_2" in [action.text() for action in dock.checkpoint.menu.actions()]
    qtbot.wait(200)


def test_a_move_of_the_mouse_holds_up_the_viewer_for_less_than_100_ms(
    make: Make, click: Click, qtbot: Any, viewer: Any
) -> None:
    viewer.add_image(halves(1024, 1024), name="cells")
    dock = make()
    encoded(dock, click, qtbot)
    dock.findChild(QCheckBox, "similarity").click()
    with qtbot.waitSignal(dock.hover.drawn, timeout=20_000):
        move(viewer, (500, 100))
    held = []
    for x in range(100, 900, 80):
        with qtbot.waitSignal(dock.hover.drawn, timeout=20_000):
            before = time.perf_counter()
            move(viewer, (500, x))
            held.append(time.perf_counter() - before)
    assert max(held) < 0.1


@pytest.mark.process
def test_a_real_network_encodes_in_a_process_of_its_own(
    viewer: Any, click: Click, qtbot: Any, tmp_path: Path
) -> None:
    write_array(tmp_path / "images" / "cells.tif", halves(64, 72), "YX")
    words = [f"data.train={tmp_path / 'images'}", "pretext.task=crappify"]
    words += ["backbone.size=tiny", "data.patch_size=[32,32]", "training.epochs=1"]
    words += ["training.steps_per_epoch=1", "compute.device=cpu"]
    (tmp_path / "job.yaml").write_text(
        "name: job\ndata: {train: x}\npretext: {task: crappify}\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "napari_ssl_pretrain", "run", "--config", "job.yaml"]
    subprocess.run([*command, "--set", *words], check=True, cwd=tmp_path, capture_output=True)
    viewer.add_image(halves(64, 72), name="cells")
    dock = Features(viewer)
    viewer.window.add_dock_widget(dock, name="Features", area="right")
    dock.checkpoint.set(str(RunDir(tmp_path / "exp_results", "job").checkpoint("best")))
    qtbot.waitUntil(dock.buttons["encode"].native.isVisible, timeout=20_000)
    click(dock, "encode")
    qtbot.waitUntil(lambda: dock._child is None, timeout=120_000)
    assert status(dock) == "cells: 32 features on a grid of 32 x 36."
    assert viewer.layers["cells features"].data.std() > 20


def test_arrays_come_to_the_axes_of_a_layer() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    found = to_axes(array, "ZYX", "ZCYX", (2, 5, 3, 4))
    assert found.shape == (2, 5, 3, 4)
    assert all((found[:, c] == array).all() for c in range(5))
    colours = np.zeros((3, 4, 3))
    assert to_axes(colours, "YX", "CYX", (2, 3, 4)).shape == (2, 3, 4, 3)
    assert to_axes(array, "ZYX", "YXZ", (3, 4, 2)).shape == (3, 4, 2)


def test_folders_are_fresh_and_can_be_discarded() -> None:
    folder = encoding.fresh_folder()
    assert folder != encoding.fresh_folder()
    encoding.discard(folder)
    assert not folder.exists()
