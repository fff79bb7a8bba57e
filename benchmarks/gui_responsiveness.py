"""How smooth the viewer stays while a real training runs: ``python benchmarks/gui_responsiveness.py``.

A timer of 10 ms ticks in the viewer's own thread; a tick that comes late is a hitch that a user
would feel. Measured idle first, then from *Start* to *Stop* with the dock's plot, its bars and
the result layers coming in, while the dimension slider of a loaded volume moves.
Without a screen: ``xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/gui_responsiveness.py``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QSettings, Qt, QTimer
from qtpy.QtWidgets import QApplication

from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.gui.docks import open_pretrain

TICK_MS = 10
LIMIT_MS = 100


class Ticks:
    """Intervals between the ticks of a timer of the viewer's thread, in milliseconds."""

    def __init__(self) -> None:
        self.intervals: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.intervals.append(1000 * (now - self._last))
        self._last = now

    def measure(self, seconds: float, until: Callable[[], bool] | None = None) -> list[float]:
        """Let the program run and return the intervals."""
        self.intervals = []
        self._last = time.perf_counter()
        self._timer.start()
        end = time.perf_counter() + seconds
        application = QApplication.instance()
        while time.perf_counter() < end and not (until and until()):
            application.processEvents()
            time.sleep(0.0005)
        self._timer.stop()
        return self.intervals


def report(name: str, intervals: list[float]) -> float:
    """Print a line and return the longest interval."""
    values = np.array(intervals)
    print(
        f"{name:32s} median {np.median(values):5.1f} ms, p99 {np.percentile(values, 99):5.1f} ms, "
        f"longest {values.max():6.1f} ms, over {LIMIT_MS} ms: {int((values > LIMIT_MS).sum())} of {len(values)}"
    )
    return float(values.max())


def make_images(folder: Path) -> None:
    """Write a few images, and one volume to look at."""
    random = np.random.default_rng(0)
    for number in range(8):
        smooth = np.cumsum(np.cumsum(random.normal(size=(256, 256)), 0), 1)
        pixels = np.interp(smooth, (smooth.min(), smooth.max()), (0, 255)).astype(np.uint8)
        write_array(folder / f"image{number}.tif", pixels, "YX")


def main() -> int:
    """Measure and return 1 if the viewer ever hung for longer than the limit while training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    seconds = parser.parse_args().seconds
    work = Path(tempfile.mkdtemp(prefix="ssl_pretrain_hitches_"))
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(work / "settings"))
    make_images(work / "images")
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(1400, 900)
    dock = open_pretrain(viewer)
    fill(dock, work)
    viewer.add_image(np.random.default_rng(0).integers(0, 255, (64, 256, 256), dtype=np.uint8))
    ticks = Ticks()
    ticks.measure(2)
    report("idle", ticks.measure(5))
    with Slider(viewer):
        report("idle, slider moving", ticks.measure(5))
    dock.buttons["start"].native.click()
    report("starting", ticks.measure(60, lambda: len(dock.monitor.plot.train.x) > 0))
    with Slider(viewer):
        worst = report("training, slider moving", ticks.measure(seconds))
    print(f"layers that came in: {len(viewer.layers) - 1}; {dock.status.text()}")
    dock.buttons["stop"].native.click()
    report("stopping", ticks.measure(60, lambda: not dock.control.active))
    viewer.close()
    return int(worst > LIMIT_MS)


class Slider:
    """Moves the dimension slider five times a second while it lasts."""

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._timer = QTimer()
        self._timer.setInterval(200)
        self._timer.timeout.connect(self._move)

    def _move(self) -> None:
        step = (self._viewer.dims.current_step[0] + 1) % self._viewer.dims.nsteps[0]
        self._viewer.dims.set_current_step(0, step)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.stop()


def fill(dock: Any, work: Path) -> None:
    """Set up a small but real training."""
    for path, value in {
        "data.train": (str(work / "images"),),
        "data.patch_size": (64, 64),
        "result_dir": str(work / "results"),
        "backbone.size": "tiny",
        "training.steps_per_epoch": 10,
        "training.epochs": 1000,
        "training.batch_size": 8,
        "compute.device": "cpu",
    }.items():
        dock.form.set(path, value)


if __name__ == "__main__":
    sys.exit(main())
