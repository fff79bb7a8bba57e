"""What is felt at every turn though it is small: opening the dock, starting a run, a patch, a fill.

Each is measured five times and the least is printed, with what it should stay below::

    xvfb-run -a python benchmarks/small_costs.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_ssl_pretrain import runner
from napari_ssl_pretrain.data.opening import open_image
from napari_ssl_pretrain.data.patches import PatchSource
from napari_ssl_pretrain.data.regions import all_regions
from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.engine.inpaint import smooth_inpaint
from napari_ssl_pretrain.spec.config import PretrainConfig

if TYPE_CHECKING:
    from collections.abc import Callable

TIMES = 5
PATCHES = 1000
OPEN_DOCK = """
import time, napari, napari.qt.threading, napari.layers
from qtpy.QtWidgets import QApplication
app = QApplication([])
from napari.components import ViewerModel
began = time.perf_counter()
from napari_ssl_pretrain.gui.pretrain import Pretrain
from napari_ssl_pretrain.gui.runs import Runs
dock = Pretrain(ViewerModel())
dock.show()
app.processEvents()
print(time.perf_counter() - began)
"""


def open_dock(_: Path) -> float:
    """Import the dock and show it, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", OPEN_DOCK], capture_output=True, check=True)
    return float(done.stdout.split()[-1])


def start_run(folder: Path) -> float:
    """Start a process that does nothing; the caller does not wait for it."""
    config = PretrainConfig(
        name="job",
        result_dir=str(folder / "results"),
        data={"train": str(folder / "0.tif")},
        pretext={"task": "crappify"},
    )
    began = time.perf_counter()
    handle = runner.start(config, command=[sys.executable, "-c", "pass"])
    took = time.perf_counter() - began
    while not handle.ended:
        handle.poll()
        time.sleep(0.02)
    return took


def draw_patch(folder: Path) -> float:
    """Draw a patch of 128 x 128 from 20 images that fit into memory."""
    images = [open_image(path) for path in sorted(folder.glob("*.tif"))]
    patches = PatchSource(images, all_regions(images), (128, 128), 1.0)
    for index in range(PATCHES // 5):
        patches.draw(0, 0, index)
    began = time.perf_counter()
    for index in range(PATCHES):
        patches.draw(0, 1, index)
    return (time.perf_counter() - began) / PATCHES


def fill_plane(_: Path) -> float:
    """Fill noise of 512 x 512 where a chessboard of tokens of 8 hides it."""
    noise = np.random.default_rng(0).normal(size=(1, 512, 512))
    began = time.perf_counter()
    smooth_inpaint(noise, np.indices((512, 512)).sum(axis=0) // 8 % 2 == 0)
    return time.perf_counter() - began


COSTS: dict[str, tuple[Callable[[Path], float], float]] = {
    "open the dock Pretrain": (open_dock, 1.0),
    "start a run": (start_run, 0.5),
    "draw a patch": (draw_patch, 1 / 3000),
    "fill a plane smoothly": (fill_plane, 6.0),
}
"""What is done, and the seconds that it should stay below."""


def main() -> int:
    """Measure, print a table, and return 1 where something takes longer than it should."""
    failed = False
    print("| what | least, ms | below, ms |")
    print("| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        random = np.random.default_rng(0)
        for number in range(20):
            pixels = random.integers(0, 255, (256, 256), dtype=np.uint8)
            write_array(Path(scratch) / f"{number}.tif", pixels, "YX")
        for what, (cost, limit) in COSTS.items():
            least = min(cost(Path(scratch)) for _ in range(TIMES))
            failed |= least > limit
            print(f"| {what} | {1e3 * least:.2f} | {1e3 * limit:.2f} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
