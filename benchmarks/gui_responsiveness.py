"""How smooth the viewer stays while a real training runs.

A timer of 10 ms ticks in the viewer's own thread; a tick that comes late is a hitch that a user
would feel. Measured idle first, then from *Start* to *Stop* with the dock's plot, its bars and
the result layers coming in, while the dimension slider of a loaded volume moves::

    python benchmarks/gui_responsiveness.py
    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/gui_responsiveness.py
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
from qtpy.QtCore import QSettings, Qt, QTimer
from qtpy.QtWidgets import QApplication

from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.gui.docks import open_pretrain

if TYPE_CHECKING:
    from collections.abc import Callable

TICK_MS = 10
LIMIT_MS = 100


class Ticks:
    """Intervals between the ticks of a timer of the viewer's thread, in milliseconds.

    ``busy`` is the processor time that the thread itself used in each: on a machine that others
    load as well, only that tells of the program.
    """

    def __init__(self) -> None:
        self.intervals: list[float] = []
        self.busy: list[float] = []
        self._last, self._used = time.perf_counter(), time.thread_time()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)

    def _tick(self) -> None:
        now, used = time.perf_counter(), time.thread_time()
        self.intervals.append(1000 * (now - self._last))
        self.busy.append(1000 * (used - self._used))
        self._last, self._used = now, used

    def measure(self, seconds: float, until: Callable[[], bool] | None = None) -> Ticks:
        """Let the program run; the intervals are kept."""
        self.intervals, self.busy = [], []
        self._last, self._used = time.perf_counter(), time.thread_time()
        self._timer.start()
        end = time.perf_counter() + seconds
        application = QApplication.instance()
        while time.perf_counter() < end and not (until and until()):
            application.processEvents()
            time.sleep(0.0005)
        self._timer.stop()
        return self


def report(name: str, ticks: Ticks) -> float:
    """Print a line and return the longest interval."""
    values, busy = np.array(ticks.intervals or [0.0]), np.array(ticks.busy or [0.0])
    long = int((values > LIMIT_MS).sum())
    print(
        f"{name:24s} median {np.median(values):5.1f}, p99 {np.percentile(values, 99):5.1f}, "
        f"longest {values.max():6.1f} (busy {busy.max():6.1f}) ms; "
        f"over {LIMIT_MS} ms: {long} of {len(values)}",
        flush=True,
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
