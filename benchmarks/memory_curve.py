"""Peak memory over the size of the image: training, test and predict, on volumes with holes.

For each format and size a sparse volume is made, a tiny network is trained on it through the
command line, trained again with the volume as its test, and used by ``predict``. The memory of all
processes of the command is looked at ten times a second. Volumes of up to ``--whole`` GB are gone
through to their end; of larger ones test and ``predict`` are ended after ``--seconds``, and the
table says which part was done by then: they are gone through slab by slab, each as large::

    python benchmarks/memory_curve.py --out FOLDER --sizes 1 4 16 40 --formats tiff tiled zarr
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from sparse_images import FORMATS, make_volume

COMMAND = [sys.executable, "-m", "napari_ssl_pretrain"]
COMMANDS = ("train", "test", "predict")
LIMIT_GB = 3.0
NETWORKS = {
    "crappify": {"name": "residual_unet", "features_per_stage": [4, 8]},
    "masking": {
        "name": "mae_vit",
        "embed_dim": 24,
        "depth": 1,
        "num_heads": 2,
        "decoder_embed_dim": 24,
        "decoder_depth": 1,
        "decoder_num_heads": 2,
    },
}
"""The smallest networks, so that more of a volume is done in the time."""


@dataclass
class Cell:
    """One command on one volume."""

    format: str
    gigabytes: float
    task: str
    command: str
    peak_gb: float
    seconds: float
    done: float
    code: int


class Watch:
    """Looks at the memory of a process and its children, and at what it says.

    Parameters
    ----------
    words
        The command.
    stage
        The part of its work that is ended after ``limit`` seconds.
    limit
        Seconds.
    """

    def __init__(self, words: list[str], stage: str, limit: float) -> None:
        self.peak = 0
        self.done = 0.0
        self.errors: list[str] = []
        self._stage, self._since = stage, math.inf
        began = time.monotonic()
        process = subprocess.Popen(
            [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        threads = [
            threading.Thread(target=self._listen, args=(process.stdout,)),
            threading.Thread(target=self._hear_errors, args=(process.stderr,)),
        ]
        for thread in threads:
            thread.start()
        while process.poll() is None:
            self.peak = max(self.peak, tree_memory(process.pid))
            if time.monotonic() - self._since > limit:
                process.kill()
            time.sleep(0.1)
        for thread in threads:
            thread.join()
        self.seconds, self.code = time.monotonic() - began, process.returncode

    def _listen(self, lines) -> None:
        for line in lines:
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("kind") == "progress" and event.get("stage") == self._stage:
                self._since = min(self._since, time.monotonic())
                share = event.get("message", "").rpartition("(")[2].rstrip("%)")
                self.done = float(share) / 100 if share.replace(".", "").isdigit() else self.done
                self.done = 1.0 if event["done"] == event["total"] else self.done

    def _hear_errors(self, lines) -> None:
        self.errors += list(lines)


def tree_memory(pid: int) -> int:
    """Return the resident memory of a process and all below it, pages of files included."""
    try:
        top = psutil.Process(pid)
        return sum(p.memory_info().rss for p in (top, *top.children(recursive=True)))
    except psutil.Error:
        return 0


def job(folder: Path, volume: Path, task: str, steps: int, *, test: bool = False) -> Path:
    """Write the configuration of a tiny network; ``test`` makes the volume its test as well."""
    name = f"{task}_tested" if test else task
    path = folder / f"{name}.yaml"
    fields = {
        "name": name,
        "result_dir": str(folder / "results"),
        "data": {"train": str(volume), "patch_size": [32, 64, 64]},
        "pretext": {"task": task, "token_size": [8, 16, 16]},
        "backbone": NETWORKS[task],
        "training": {"epochs": 2, "steps_per_epoch": steps // 2, "batch_size": 4},
        "compute": {"device": "cpu", "workers": 1},
    }
    fields["data"] |= {"test": str(volume)} if test else {}
    path.write_text(json.dumps(fields))  # JSON is YAML
    return path


def measure(folder: Path, kind: str, size: float, task: str, options: argparse.Namespace):
    """Train, test and predict; yield a cell of each."""
    volume = make_volume(folder / "images", kind, size, dtype=options.dtype)
    limit = math.inf if size <= options.whole else options.seconds
    results = folder / "results"

    def cell(command: str, words: list[str], stage: str, done: float | None = None) -> Cell:
        seen = Watch([*words, "--json"], stage, limit)
        ended = seen.code < 0 or (stage == "test" and seen.done < 1)
        if seen.code and not ended:
            print("".join(seen.errors[-5:]), file=sys.stderr)
        share = seen.done if done is None else done
        return Cell(kind, size, task, command, seen.peak / 1e9, seen.seconds, share, seen.code)

    if "train" in options.commands or "predict" in options.commands:
        words = ["run", "--config", str(job(folder, volume, task, options.steps))]
        yield cell("train", words, "", 1.0)
    if "test" in options.commands:
        words = ["run", "--config", str(job(folder, volume, task, options.steps, test=True))]
        yield cell("test", words, "test")
        shutil.rmtree(results / f"{task}_tested", ignore_errors=True)
    if "predict" in options.commands:
        checkpoint = results / task / "checkpoints" / f"{task}_1-checkpoint-best.pth"
        words = ["predict", "--checkpoint", str(checkpoint), "--input", str(volume)]
        words += ["--output", str(folder / "predicted"), "--device", "cpu"]
        yield cell("predict", words, "predict")


def draw(cells: list[Cell], path: Path) -> None:
    """Draw the curves."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow import

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="image (GB)", ylabel="peak memory (GB)")
    for key in dict.fromkeys((c.format, c.task, c.command) for c in cells):
        some = [c for c in cells if (c.format, c.task, c.command) == key]
        axes.plot([c.gigabytes for c in some], [c.peak_gb for c in some], "o-", label=" ".join(key))
    axes.axhline(LIMIT_GB, color="grey", linestyle=":")
    axes.set_ylim(0, LIMIT_GB * 1.1)
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=120)


def main() -> int:
    """Measure and return 1 where the peak is above the limit or a training failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1, 4, 16, 40])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--dtype", default="uint8", help="uint8, uint16 or float32")
    parser.add_argument("--tasks", nargs="+", default=["masking"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS)
    parser.add_argument("--whole", type=float, default=4, help="GB that are done to their end")
    parser.add_argument("--seconds", type=float, default=150, help="of test, and of predict, else")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    cells: list[Cell] = []
    print("| format | image (GB) | task | command | peak (GB) | seconds | done |")
    print("|---|---|---|---|---|---|---|")
    for kind in options.formats:
        for size in options.sizes:
            for task in options.tasks:
                folder = options.out / "work"
                for cell in measure(folder, kind, size, task, options):
                    cells.append(cell)
                    print(
                        f"| {cell.format} | {cell.gigabytes:g} | {cell.task} | {cell.command} "
                        f"| {cell.peak_gb:.2f} | {cell.seconds:.0f} | {cell.done:.1%} |",
                        flush=True,
                    )
                shutil.rmtree(folder)
    (options.out / "memory_curve.json").write_text(json.dumps([asdict(c) for c in cells], indent=1))
    draw(cells, options.out / "memory_curve.png")
    failed = any(c.command == "train" and c.code for c in cells)
    return int(failed or max(c.peak_gb for c in cells) > LIMIT_GB)


if __name__ == "__main__":
    sys.exit(main())
