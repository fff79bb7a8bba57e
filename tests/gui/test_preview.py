"""The live preview: the training's own arithmetic, on the open layer, while sliders move."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtWidgets import QWidget

from napari_ssl_pretrain.gui.paint import LARGEST
from napari_ssl_pretrain.gui.pretrain import Pretrain

if TYPE_CHECKING:
    from pathlib import Path

Make = Callable[..., Pretrain]
Click = Callable[[QWidget, str], None]


def noise(shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def wait_for(qtbot: Any, viewer: Any, name: str) -> Any:
    qtbot.waitUntil(lambda: name in [layer.name for layer in viewer.layers], timeout=10_000)
    return viewer.layers[name]


def test_worsened_lies_on_the_layer(
    make_pretrain: Make, click: Click, qtbot: Any, viewer: Any
) -> None:
    layer = viewer.add_image(
        noise((90, 70)), name="cells", scale=(2, 3), translate=(5, 6), units=("nm", "nm")
    )
    dock = make_pretrain(pretext__noise=0.1)
    click(dock, "preview")
    drawn = wait_for(qtbot, viewer, "cells worsened")
    assert drawn.data.shape == (90, 70)
    assert drawn.data.dtype == np.uint8
    assert tuple(drawn.scale) == (2, 3)
    assert tuple(drawn.translate) == (5, 6)
    assert tuple(drawn.contrast_limits) == tuple(layer.contrast_limits)
    assert not np.array_equal(drawn.data, layer.data)
    assert viewer.layers.selection.active is layer


def test_it_follows_the_sliders_and_the_task(
    make_pretrain: Make, click: Click, qtbot: Any, viewer: Any
) -> None:
    viewer.add_image(noise((64, 64)), name="cells")
    dock = make_pretrain(pretext__noise=0.0, pretext__resizing_factor=1.0)
    click(dock, "preview")
    drawn = wait_for(qtbot, viewer, "cells worsened")
    np.testing.assert_array_equal(drawn.data, viewer.layers["cells"].data)
    slider = dock.findChild(QWidget, "pretext.noise")
    with qtbot.waitSignal(dock.preview.drawn, timeout=20_000):
        slider.setValue(0.5)
    assert drawn in viewer.layers, "the same layer gets new pixels"
    assert np.abs(drawn.data.astype(int) - viewer.layers["cells"].data).mean() > 10

    dock.form.set("pretext.task", "masking")
    masked = wait_for(qtbot, viewer, "cells masked")
    assert "cells worsened" not in viewer.layers
    dock.form.set("pretext.token_size", 16)
    with qtbot.waitSignal(dock.preview.drawn, timeout=20_000):
        dock.form.set("pretext.mask_ratio", 0.5)
    same = masked.data == viewer.layers["cells"].data
    visible = same.reshape(4, 16, 4, 16).all(axis=(1, 3))
    assert visible.mean() == 0.5, "half of the tokens, whole"


@pytest.mark.parametrize("shape", [(600, 700), (40, 300, 280), (3, 40, 64, 64)])
def test_only_a_crop_is_drawn_around_what_is_seen(
    make_pretrain: Make, click: Click, qtbot: Any, viewer: Any, shape: tuple[int, ...]
) -> None:
    labels = ("t", "z", "y", "x")[-len(shape) :]
    viewer.add_image(noise(shape), name="cells", axis_labels=labels)
    if len(shape) == 4:
        viewer.dims.set_current_step(0, 2)
    dock = make_pretrain()
    click(dock, "preview")
    drawn = wait_for(qtbot, viewer, "cells worsened")
    spatial = min(3, len(shape))
    assert drawn.data.shape[-spatial:] == tuple(
        min(n, most) for n, most in zip(shape[-spatial:], LARGEST[spatial], strict=True)
    )
    if len(shape) == 4:
        assert drawn.translate[0] == 2


def test_colours_stay_colours(make_pretrain: Make, click: Click, qtbot: Any, viewer: Any) -> None:
    viewer.add_image(noise((64, 48, 3)), name="tissue", rgb=True)
    dock = make_pretrain(pretext__task="masking")
    click(dock, "preview")
    drawn = wait_for(qtbot, viewer, "tissue masked")
    assert drawn.rgb
    assert drawn.data.shape == (64, 48, 3)


def test_without_a_layer_the_first_image_is_opened(
    make_pretrain: Make, click: Click, qtbot: Any, viewer: Any, images: Path
) -> None:
    dock = make_pretrain(data__train=(str(images),))
    click(dock, "preview")
    wait_for(qtbot, viewer, "a worsened")
    assert "a" in viewer.layers


def test_what_cannot_be_drawn_is_told_at_its_field(
    make_pretrain: Make, click: Click, qtbot: Any, viewer: Any
) -> None:
    viewer.add_image(noise((20, 20)), name="cells")
    dock = make_pretrain(pretext__task="masking", pretext__token_size=32)
    click(dock, "preview")
    error = dock.form.rows["pretext.token_size"].error
    qtbot.waitUntil(error.isVisible, timeout=20_000)
    assert "larger than the layer" in error.text()
    dock.form.set("pretext.token_size", "auto")
    wait_for(qtbot, viewer, "cells masked")


def test_removing_the_layer_ends_it(
    make_pretrain: Make, click: Click, qtbot: Any, viewer: Any
) -> None:
    viewer.add_image(noise((40, 40)), name="cells")
    dock = make_pretrain()
    click(dock, "preview")
    drawn = wait_for(qtbot, viewer, "cells worsened")
    viewer.layers.remove(drawn)
    assert not dock.preview.live
    dock.form.set("pretext.noise", 0.7)
    qtbot.wait(200)
    assert "cells worsened" not in viewer.layers


def test_a_move_of_a_slider_holds_up_the_viewer_for_less_than_100_ms(
    make_pretrain: Make, click: Click, qtbot: Any, viewer: Any
) -> None:
    viewer.add_image(noise((40, 300, 300)), name="cells", axis_labels=("z", "y", "x"))
    dock = make_pretrain()
    click(dock, "preview")
    wait_for(qtbot, viewer, "cells worsened")
    slider = dock.findChild(QWidget, "pretext.noise")
    held = []
    for value in np.linspace(0.1, 0.9, 9):
        before = time.perf_counter()
        slider.setValue(float(value))
        held.append(time.perf_counter() - before)
        qtbot.wait(20)
    assert max(held) < 0.1
