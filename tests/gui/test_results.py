"""Results as layers: channels, colours, volumes, and what is too large for memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_ssl_pretrain.data.survey import open_image
from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.gui import results
from napari_ssl_pretrain.gui.layer_queue import PAUSE_MS, LayerQueue
from napari_ssl_pretrain.gui.result_layers import ResultLayers
from napari_ssl_pretrain.gui.results import ResultReader, stored_array
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.run_dir import RunDir

RUN = RunDir(Path("/results"), "job", 1)


def saved(
    folder: Path, pixels: np.ndarray, axes: str, kind: str, image: str = "im"
) -> ev.ImageSaved:
    source, path = folder / f"{image}.tif", folder / f"{image}_{kind}.tif"
    for file in (source, path):
        write_array(
            file,
            pixels,
            axes,
            pixel_size=dict.fromkeys("ZYX" if "Z" in axes else "YX", 2.0),
            unit="nm",
        )
    return ev.ImageSaved(
        image_kind=kind, image=image, path=str(path), source=str(source), axes=axes, step=1
    )


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("YX", (20, 30)),
        ("ZYX", (8, 20, 30)),
        ("CYX", (2, 20, 30)),
        ("ZCYX", (8, 2, 20, 30)),
        ("TYX", (5, 20, 30)),
        ("TZCYX", (3, 8, 2, 20, 30)),
        ("YXS", (20, 30, 3)),
    ],
)
def test_pixels_come_as_stored_in_memory_and_lazily(
    tmp_path: Path, axes: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pixels(*shape)
    write_array(tmp_path / "im.tif", data, axes)
    image = open_image(tmp_path / "im.tif")
    read, letters = stored_array(image)
    assert letters == axes
    np.testing.assert_array_equal(read, data)
    monkeypatch.setattr(results, "LAZY_BYTES", 0)
    lazy, letters = stored_array(image)
    assert letters == axes
    assert not isinstance(lazy, np.ndarray)
    np.testing.assert_array_equal(np.asarray(lazy), data)


def test_channels_become_layers_and_colours_stay_one(viewer: Any, tmp_path: Path) -> None:
    two = saved(tmp_path, pixels(8, 2, 20, 30), "ZCYX", "original", "two")
    rgb = saved(tmp_path, pixels(20, 30, 3), "YXS", "restored", "rgb")
    shown = ResultLayers(viewer)
    for result in ResultReader().read([two, rgb]):
        shown.show(result, RUN)
    assert [layer.name for layer in viewer.layers] == [
        "two original",
        "two original [1]",
        "rgb restored",
    ]
    assert viewer.layers["two original"].data.shape == (8, 20, 30)
    assert tuple(viewer.layers["two original"].scale) == (2, 2, 2)
    assert viewer.layers["rgb restored"].rgb


def test_results_overlay_a_loaded_image_with_a_channel_slider(viewer: Any, tmp_path: Path) -> None:
    event = saved(tmp_path, pixels(2, 20, 30), "CYX", "masked")
    viewer.open(event.source, plugin="napari")
    (result,) = ResultReader().read([event])
    ResultLayers(viewer).show(result, RUN)
    assert viewer.layers["im masked"].data.shape == (2, 20, 30)


def test_kinds_stand_in_order_whatever_comes_first(viewer: Any, tmp_path: Path) -> None:
    kinds = ["reconstruction_and_visible", "masked", "original", "reconstruction"]
    events = [saved(tmp_path, pixels(20, 30), "YX", kind) for kind in kinds]
    shown = ResultLayers(viewer)
    for result in ResultReader().read(events):
        shown.show(result, RUN)
    assert [layer.name for layer in viewer.layers] == [
        "im original",
        "im masked",
        "im reconstruction",
        "im reconstruction and visible",
    ]


def test_the_viewer_is_not_flooded(tmp_path: Path) -> None:
    events = [saved(tmp_path, pixels(9, 9), "YX", "restored", f"im{i}") for i in range(9)]
    assert len(ResultReader(limit=3).read(events)) == 3
    wanted = frozenset({events[7].source})
    found = ResultReader(preferred=wanted, limit=3).read(events)
    assert [result.image for result in found] == ["im0", "im1", "im2", "im7"]


def test_only_the_newest_of_a_file_is_read(tmp_path: Path) -> None:
    event = saved(tmp_path, pixels(9, 9), "YX", "restored")
    (result,) = ResultReader().read([event, event.replace(step=2), event.replace(step=3)])
    assert result.step == 3


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    event = saved(tmp_path, pixels(9, 9), "YX", "restored")
    Path(event.path).write_bytes(b"II*\x00")
    assert ResultReader().read([event]) == []


def test_limits_are_those_of_the_source(tmp_path: Path) -> None:
    event = saved(tmp_path, pixels(60, 60), "YX", "worsened")
    write_array(Path(event.source), pixels(60, 60) // 2, "YX")
    (result,) = ResultReader().read([event])
    assert result.limits[0][1] <= 127


def test_the_queue_adds_one_layer_at_a_time_and_only_the_newest(
    viewer: Any, tmp_path: Path, qtbot: Any
) -> None:
    queue = LayerQueue(viewer, viewer.window._qt_window)
    two = saved(tmp_path, pixels(2, 20, 30), "CYX", "original", "two")
    one = saved(tmp_path, pixels(20, 30), "YX", "restored")
    counts = []
    viewer.layers.events.inserted.connect(lambda: counts.append(time.monotonic()))
    with qtbot.waitSignal(queue.drained, timeout=20_000):
        for event in (two, one, one.replace(step=2)):
            (result,) = ResultReader().read([event])
            queue.put(result, RUN)
    names = [layer.name for layer in viewer.layers]
    assert names == ["two original", "two original [1]", "im restored"]
    assert min(np.diff(counts)) > PAUSE_MS / 2000
    assert viewer.layers["im restored"].metadata["napari-ssl-pretrain"]["step"] == 2
