"""How long very many small images take to be looked at, and whether the dock stays smooth.

Writes small TIFF and PNG files, then times the reading of all their headers, the command
``check``, ``run`` up to its first step, and *Check* in the dock, whose viewer is watched by a
timer meanwhile::

    python benchmarks/many_files.py --out FOLDER --count 100000
    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/many_files.py --out FOLDER --dock
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from napari_ssl_pretrain.data.survey import survey
from napari_ssl_pretrain.spec.config import DataConfig

LIMIT_SECONDS = 60
SIDE = 64
NUMBER = b"#number#"


def make_files(folder: Path, count: int) -> None:
    """Write images of three kinds: compressed TIFF, each with its own header, ImageJ's, and PNG."""
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE)).astype(np.uint8)
    one = folder / "one.tif"
    kinds = []
    own = {"compression": "zlib", "description": NUMBER.decode()}
    for options in (own, {"imagej": True}):
        tifffile.imwrite(one, pixels, **options)  # noqa: TID251
        kinds.append((one.read_bytes(), "tif"))
    one.unlink()
    kinds.append((imagecodecs.png_encode(pixels), "png"))
    for number in range(count):
        data, ending = kinds[number % len(kinds)]
        (folder / f"image_{number}.{ending}").write_bytes(data.replace(NUMBER, b"%08d" % number))


def headers(folder: Path) -> float:
    """Read all headers; print how long it took, and how often it told how far it was."""
    told: list[tuple[int, int]] = []
    began, used = time.perf_counter(), time.process_time()
    found = survey(DataConfig(train=str(folder)), progress=lambda *count: told.append(count))
    seconds = time.perf_counter() - began
    print(
        f"headers of {len(found.train)} images: {seconds:.1f} s "
        f"({time.process_time() - used:.1f} s of processor time), told {len(told)} times",
        flush=True,
    )
    return seconds


def first_step(folder: Path, out: Path) -> None:
    """Time a run from its launch to each of its stages."""
    path = out / "job.yaml"
    fields: dict[str, Any] = {
        "name": "many",
        "result_dir": str(out / "results"),
        "data": {"train": str(folder), "patch_size": [32, 32]},
        "pretext": {"task": "masking", "token_size": 8},
        "backbone": {"name": "residual_unet", "features_per_stage": [4, 8]},
        "training": {"epochs": 1, "steps_per_epoch": 2, "batch_size": 4},
        "compute": {"device": "cpu"},
    }
    path.write_text(json.dumps(fields))  # JSON is YAML
    words = [sys.executable, "-m", "napari_ssl_pretrain", "run", "--config", str(path), "--json"]
    began, kind = time.perf_counter(), ""
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            event = json.loads(line)
            if event["kind"] != kind and event["kind"] in {"data_checked", "run_started"}:
                print(f"run, {event['kind']}: after {time.perf_counter() - began:.1f} s")
            kind = event["kind"]
    print(f"run, over: after {time.perf_counter() - began:.1f} s", flush=True)


def dock(folder: Path, out: Path) -> float:
    """Press *Check* and return the longest time that the viewer was held up, in milliseconds."""
    import napari  # noqa: PLC0415 - only with a screen
    from gui_responsiveness import Ticks, fill, report  # noqa: PLC0415
    from qtpy.QtCore import QSettings  # noqa: PLC0415

    from napari_ssl_pretrain.gui.docks import open_pretrain  # noqa: PLC0415

    place = str(out / "settings")
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, place)
    viewer = napari.Viewer(show_welcome_screen=False)
    form = open_pretrain(viewer)
    (out / "dock").mkdir(exist_ok=True)
    fill(form, out / "dock")
    form.form.set("data.train", (str(folder),))
    ticks, said = Ticks(), set()
    report("idle", ticks.measure(5))
    form.buttons["check"].native.click()
    began = time.perf_counter()

    def over() -> bool:
        said.add(form.status.text())
        return not form._checking  # noqa: SLF001

    worst = report("checking", ticks.measure(900, over))
    print(f"dock: {time.perf_counter() - began:.1f} s, {len(said)} words; {form.status.text()}")
    viewer.close()
    return worst


def main() -> int:
    """Measure and return 1 where the headers took longer than the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--headers", action="store_true", help="and nothing else")
    parser.add_argument("--dock", action="store_true", help="watch the dock, which needs a screen")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    images = options.out / "images"
    if not images.exists():
        make_files(images, options.count)
    if options.dock:
        dock(images, options.out)
        return 0
    seconds = headers(images)
    if not options.headers:
        first_step(images, options.out)
        shutil.rmtree(options.out / "results")
    return int(seconds > LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
