"""Open images with Labels layers as the labelled images of a study: pairing, files, the button."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image, Labels
from qtpy.QtWidgets import QLabel, QWidget

from napari_ssl_pretrain.data.labels import find_scheme, open_labelled, read_pair
from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.gui.labelled_layers import Kept, keep, labelled_layers, pair_up
from napari_ssl_pretrain.gui.layer_source import OWN, STROKES
from napari_ssl_pretrain.gui.problem import Problem
from napari_ssl_pretrain.gui.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = (24, 32)
NONE = "no open image has a Labels layer of its shape"


def image(name: str, shape: tuple[int, ...] = SHAPE, **about: Any) -> Image:
    pixels = np.random.default_rng(len(name)).integers(0, 200, shape, dtype=np.uint8)
    return Image(pixels, name=name, **about)


def labels(name: str, shape: tuple[int, ...] = SHAPE, value: int = 1, **about: Any) -> Labels:
    drawn = np.zeros(shape, np.int64)
    drawn[..., 4:9, 5:11] = value
    return Labels(drawn, name=name, **about)


def found(*layers: Any) -> list[tuple[str, str]]:
    viewer = ViewerModel()
    for layer in layers:
        viewer.layers.append(layer)
    pairs = pair_up(*labelled_layers(viewer))
    return [(pair.image.name, pair.labels.name) for pair in pairs]


@pytest.mark.parametrize(
    ("images", "drawn", "expected"),
    [
        ("a b", "b labels,A_mask", "a+A_mask b+b labels"),
        ("cell_1 cell_10", "cell_10 labels", "cell_10+cell_10 labels"),
        ("cell cell-2", "cell-2 [1],cell [1]", "cell+cell [1] cell-2+cell-2 [1]"),
        ("a", "Labels", "a+Labels"),
        ("a b", "a labels,Labels", "a+a labels b+Labels"),
    ],
)
def test_labels_belong_to_the_image_that_their_name_holds(
    images: str, drawn: str, expected: str
) -> None:
    pairs = found(*map(image, images.split()), *map(labels, drawn.split(",")))
    assert " ".join("+".join(pair) for pair in pairs) == expected


def test_labels_of_any_name_belong_to_the_only_image_of_their_shape() -> None:
    layers = [image("one"), image("two", (40, 32)), labels("x", (40, 32)), labels("y")]
    assert found(*layers) == [("one", "y"), ("two", "x")]


@pytest.mark.parametrize(
    ("images", "drawn", "said"),
    [
        ("a b", [labels("Labels")], "images: Labels: may belong to “a” or “b”"),
        ("a", [labels("a x"), labels("a y")], "a: has two Labels layers, “a x” and “a y”"),
        ("a", [labels("Labels"), labels("More")], "images: a: has two Labels layers"),
        ("a", [labels("a labels", (24, 33))], NONE),
        ("a", [], NONE),
        ("", [], NONE),
        ("a", [labels("a probe", metadata={OWN: {}})], NONE),
        ("a", [labels("a strokes", metadata={STROKES: "a"})], NONE),
    ],
)
def test_what_is_unclear_is_said(images: str, drawn: list[Labels], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        found(*map(image, images.split()), *drawn)


@pytest.mark.parametrize(
    ("shape", "rgb", "drawn"),
    [
        ((24, 32), False, (24, 32)),
        ((24, 32, 3), True, (24, 32)),
        ((3, 24, 32), False, (24, 32)),
        ((3, 24, 32), False, (3, 24, 32)),
        ((3, 24, 32), False, (1, 24, 32)),
        ((9, 24, 32), False, (9, 24, 32)),
        ((9, 2, 24, 32), False, (9, 24, 32)),
        ((9, 2, 24, 32), False, (9, 2, 24, 32)),
    ],
)
def test_a_study_reads_what_was_kept(
    tmp_path: Any, shape: tuple[int, ...], rgb: bool, drawn: tuple[int, ...]
) -> None:
    viewer = ViewerModel()
    scale = [0.5] * (len(shape) - rgb)
    for name in ("one/two", "one:two"):
        viewer.layers.append(image(name, shape, rgb=rgb, scale=scale))
        viewer.layers.append(labels(f"{name} labels", drawn, 300))
    kept = keep(*labelled_layers(viewer), str(tmp_path / "report"))
    assert isinstance(kept, Kept)
    assert kept.folder == tmp_path / "report_layers"
    names = sorted(path.name for path in (kept.folder / "images").iterdir())
    assert names == ["one_two.tif", "one_two_2.tif"]
    assert tifffile.imread(kept.folder / "labels" / names[0]).dtype == np.uint16
    opened = open_labelled(
        str(kept.folder / "images"),
        str(kept.folder / "labels"),
        field=("--images", "--labels"),
        axes="auto",
        strict=False,
        ndim=3 if len(shape) - rgb > 2 and shape[0] == 9 else 2,
        channels="all",
    )
    pixels, classes = read_pair(opened.images[0], find_scheme([opened]))[0]
    stored = viewer.layers["one/two"].data
    channels = {(24, 32, 3): stored.transpose(2, 0, 1) if rgb else None, (9, 2, 24, 32): None}
    wanted = channels.get(shape, stored if shape[0] == 3 else stored[None])
    if shape == (9, 2, 24, 32):
        wanted = stored.transpose(1, 0, 2, 3)
    np.testing.assert_array_equal(pixels, wanted)
    np.testing.assert_array_equal(classes[..., 4:9, 5:11] > 0, True)
    assert np.count_nonzero(classes) == 30 * (9 if shape[0] == 9 else 1)


def test_numbers_that_are_no_labels_are_kept_for_the_study_to_refuse(tmp_path: Any) -> None:
    viewer = ViewerModel()
    viewer.layers.append(image("a"))
    viewer.layers.append(labels("a labels", value=-3))
    kept = keep(*labelled_layers(viewer), str(tmp_path / "report"))
    assert isinstance(kept, Kept)
    assert tifffile.imread(kept.folder / "labels" / "a.tif").min() == -3


def test_a_folder_that_is_there_is_left_alone(tmp_path: Any) -> None:
    viewer = ViewerModel()
    viewer.layers.append(image("a"))
    viewer.layers.append(labels("a labels"))
    layers = labelled_layers(viewer)
    folders = [keep(*layers, str(tmp_path / "report")).folder.name for _ in range(3)]  # type: ignore[union-attr]
    assert folders == ["report_layers", "report_layers_2", "report_layers_3"]


def test_where_nothing_can_be_written_that_is_told(tmp_path: Any) -> None:
    viewer = ViewerModel()
    viewer.layers.append(image("a"))
    viewer.layers.append(labels("a labels"))
    (tmp_path / "file").touch()
    answer = keep(*labelled_layers(viewer), str(tmp_path / "file" / "report"))
    assert isinstance(answer, Problem)


def test_the_button_takes_the_open_layers(
    viewer: Any, click: Callable[[QWidget, str], None], qtbot: Any, tmp_path: Any
) -> None:
    dock = Transfer(viewer)
    viewer.window.add_dock_widget(dock, name="Transfer", area="right")
    qtbot.waitUntil(dock.buttons["start"].native.isVisible, timeout=20_000)
    dock.form.set("output", str(tmp_path / "report"))
    status = dock.findChild(QLabel, "status")
    problem = dock.findChild(QLabel, "images.error")
    assert status is not None
    assert problem is not None
    viewer.add_layer(image("a"))
    click(dock, "use_layers")
    qtbot.waitUntil(lambda: "No open image has a Labels layer" in problem.text(), timeout=20_000)
    qtbot.waitUntil(lambda: dock.form.use_layers.enabled, timeout=20_000)
    viewer.add_layer(labels("a labels"))
    click(dock, "use_layers")
    qtbot.waitUntil(lambda: "a + a labels" in status.text(), timeout=20_000)
    assert "What is not painted counts as background" in status.text()
    assert not problem.text()
    folder = tmp_path / "report_layers"
    assert dock.form.get("images") == str(folder / "images")
    assert dock.form.get("labels") == str(folder / "labels")
    assert (folder / "labels" / "a.tif").exists()
