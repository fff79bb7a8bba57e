"""How fast the dock *Features* is: encoding, similarity under the mouse, and the probe.

A real network encodes an image of 1024 x 1024 pixels, then the mouse moves over it as fast as it
is followed; the probe labels one of 512 x 512 pixels from four strokes::

    python benchmarks/features_speed.py --checkpoint my_1-checkpoint-best.pth
    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/features_speed.py --checkpoint F
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
from gui_responsiveness import Ticks, report
from qtpy.QtCore import QSettings
from qtpy.QtWidgets import QApplication

from napari_ssl_pretrain.gui.docks import open_features

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 8


def blobs(side: int, seed: int = 0) -> np.ndarray:
    """Return bright blobs on a noisy ground."""
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415 - slow import

    random = np.random.default_rng(seed)
    smooth = gaussian_filter(random.normal(size=(side, side)), side / 60)
    pixels = 80 + 100 * (smooth > smooth.std()) + random.normal(0, 15, smooth.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def until(ready: Callable[[], bool], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not ready() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.001)


class Mouse:
    """Moves in a circle over the image, anew at every turn of the viewer's loop."""

    def __init__(self, dock: Any, side: int) -> None:
        self._dock, self._side = dock, side
        self._angle = 0.0

    def move(self) -> bool:
        self._angle += 0.05
        there = self._side * (0.5 + 0.4 * np.array([np.sin(self._angle), np.cos(self._angle)]))
        self._dock.hover.point(there)
        return False


def encode(viewer: Any, dock: Any, side: int) -> Any:
    layer = viewer.add_image(blobs(side), name=f"image{side}")
    dock.layer.choose(layer.name)
    began = time.perf_counter()
    dock.buttons["encode"].native.click()
    until(lambda: dock._child is None)  # noqa: SLF001
    print(f"encode {side} x {side}: {time.perf_counter() - began:.1f} s; {dock.status.text()}")
    return layer


def similarity(viewer: Any, dock: Any, side: int) -> float:
    """Return the updates a second that the layer really got."""
    layer = encode(viewer, dock, side)
    dock.similarity.setChecked(True)
    mouse, ticks = Mouse(dock, side), Ticks()
    count = [0]
    dock.hover.drawn.connect(lambda: count.__setitem__(0, count[0] + 1))
    ticks.measure(1, mouse.move)
    count[0] = 0
    began = time.perf_counter()
    report(f"mouse over {side} x {side}", ticks.measure(SECONDS, mouse.move))
    rate = count[0] / (time.perf_counter() - began)
    print(f"similarity {side} x {side}: {rate:.1f} updates a second, drawn")
    dock.similarity.setChecked(False)
    layer.visible = False
    return rate


def probe(viewer: Any, dock: Any, side: int) -> float:
    """Return the seconds from the click to the layer."""
    layer = encode(viewer, dock, side)
    dock.buttons["probe"].native.click()
    strokes = viewer.layers[f"{layer.name} scribbles"]
    bright = layer.data > np.percentile(layer.data, 95)
    for label, kind in ((1, ~bright), (2, bright)):
        for place in np.argwhere(kind)[:: max(1, int(kind.sum()) // 4)]:
            strokes.paint(tuple(place), label)
    began = time.perf_counter()
    dock.buttons["probe"].native.click()
    until(lambda: dock._prober is None)  # noqa: SLF001
    seconds = time.perf_counter() - began
    print(f"probe {side} x {side}: {seconds:.2f} s; {dock.status.text()}")
    return seconds


def main() -> int:
    """Measure and return 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True)
    checkpoint = str(Path(parser.parse_args().checkpoint).absolute())
    work = Path(tempfile.mkdtemp(prefix="ssl_pretrain_features_speed_"))
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(work / "settings"))
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(1400, 900)
    dock = open_features(viewer)
    dock.checkpoint.set(checkpoint)
    rate = similarity(viewer, dock, 1024)
    seconds = probe(viewer, dock, 512)
    viewer.close()
    return int(rate < 10 or seconds > 5)


if __name__ == "__main__":
    sys.exit(main())
