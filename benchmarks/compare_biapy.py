"""BiaPy and ours side by side: speed, start, memory, and quality at equal wall time.

Runs of the two programs alternate. Each setting has a short round, which measures speed and
start, and a long one, which measures them again, and memory and quality. See README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import yaml
from biapy_data import build_data
from biapy_runs import Measured, run_biapy, run_ours
from biapy_scores import biapy_hidden_error, inpainting_error, our_hidden_error, restored_psnr
from biapy_settings import (
    SETTINGS,
    Setting,
    biapy_config,
    mae_encoder_parameters,
    our_config,
    patches_an_epoch,
)
from biapy_table import markdown

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class Result:
    """One setting: what both programs came to, and how good their images are."""

    setting: str
    biapy: list[Measured] = field(default_factory=list)
    ours: list[Measured] = field(default_factory=list)
    quality: dict[str, float] = field(default_factory=dict)
    encoder: dict[str, int] = field(default_factory=dict)

    def figures(self) -> dict[str, Any]:
        """Return the figures of the table: medians over rounds, memory of the whole job."""
        both = {"biapy": self.biapy, "ours": self.ours}
        return {
            "setting": self.setting,
            **{
                name: {
                    "patches_per_second": median(m.patches_per_second for m in runs),
                    "start": median(m.start for m in runs),
                    "memory": max(m.memory for m in runs),
                    "parameters": runs[-1].parameters,
                    "train_seconds": runs[-1].train_seconds,
                    "test_seconds": runs[-1].test_seconds,
                }
                for name, runs in both.items()
            },
            "quality": self.quality,
            "encoder": self.encoder,
            "rounds": {name: [asdict(m) for m in runs] for name, runs in both.items()},
        }


class Comparison:
    """Runs one setting after the other.

    Parameters
    ----------
    args
        The command line.
    shapes
        Shape of the images of each kind, by number of axes.
    """

    def __init__(self, args: argparse.Namespace, shapes: dict[int, tuple[int, ...]]) -> None:
        self.args, self.shapes = args, shapes
        self.data = args.work / "data"

    def setting(self, setting: Setting) -> Result:
        """Run a setting: BiaPy, ours, BiaPy, ours."""
        result = Result(setting.name)
        if setting.masking:
            result.encoder = {
                "biapy": mae_encoder_parameters(setting, ours=False),
                "ours": mae_encoder_parameters(setting, ours=True),
            }
        short = self.biapy(setting, "short", epochs=1, test=False)
        result.biapy.append(short)
        result.ours.append(self.ours(setting, "short", minutes=self.args.short_minutes, test=False))
        epochs = max(1, round(self.args.minutes * 60 / short.train_seconds))
        long = self.biapy(setting, "long", epochs=epochs, test=True)
        result.biapy.append(long)
        result.ours.append(self.ours(setting, "long", minutes=long.train_seconds / 60, test=True))
        result.quality = self.quality(setting)
        return result

    def biapy(self, setting: Setting, name: str, *, epochs: int, test: bool) -> Measured:
        """Run BiaPy on fresh worsened copies."""
        if not setting.masking:
            for copies in self.data.glob("*/*/x_ssl_source"):
                shutil.rmtree(copies)
        work = fresh(self.args.work / "biapy" / setting.name / name)
        config = biapy_config(
            setting, self.data, epochs=epochs, threads=self.args.threads, test=test
        )
        images = len(list((self.data / f"{setting.ndim}d" / "train" / "x").iterdir()))
        patches = patches_an_epoch(setting, self.shapes[setting.ndim], images)
        say(f"{setting.title}, {name} round: BiaPy, {epochs} epochs of {patches} patches")
        measured = run_biapy(
            self.args.biapy_python,
            write_yaml(work / "job.yaml", config),
            threads=self.args.threads,
            patches=patches,
            batch=setting.batch,
        )
        return told(measured)

    def ours(self, setting: Setting, name: str, *, minutes: float, test: bool) -> Measured:
        """Run ours for that many minutes of training."""
        work = fresh(self.args.work / "ours" / setting.name / name)
        config = our_config(
            setting,
            self.data,
            work,
            minutes=minutes,
            precision=self.args.precision,
            test=test,
        )
        say(f"{setting.title}, {name} round: ours, {minutes * 60:.0f} s")
        results = work / setting.name / "results" / f"{setting.name}_1"
        return told(run_ours(write_yaml(work / "job.yaml", config), results, self.args.threads))

    def quality(self, setting: Setting) -> dict[str, float]:
        """Score the images of both long runs with one function."""
        originals = self.data / f"{setting.ndim}d" / "test" / "x"
        theirs = self.args.work / "biapy" / setting.name / "long" / "job" / "results" / "job_1"
        ours = self.args.work / "ours" / setting.name / "long" / setting.name
        if setting.masking:
            results = ours / "results" / f"{setting.name}_1"
            return {
                "input": inpainting_error(results / "test_metrics.csv"),
                "biapy": biapy_hidden_error(originals, theirs / "per_image"),
                "ours": our_hidden_error(originals, results / "MAE_checks"),
            }
        copies = originals.with_name("x_ssl_source")
        restored = fresh(ours.parent / "on_biapy_copies")
        checkpoint = ours / "checkpoints" / f"{setting.name}_1-checkpoint-best.pth"
        command = [sys.executable, "-m", "napari_ssl_pretrain", "predict"]
        paths = ["--checkpoint", checkpoint, "--input", copies, "--output", restored]
        subprocess.run([*command, *map(str, paths)], check=True, capture_output=True)
        return {
            "input": restored_psnr(originals, copies),
            "biapy": restored_psnr(originals, theirs / "per_image"),
            "ours": restored_psnr(originals, restored),
        }


def fresh(folder: Path) -> Path:
    """Return an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write_yaml(path: Path, config: dict[str, Any]) -> Path:
    """Write a configuration and return its path."""
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def say(text: str) -> None:
    """Print a line with the time."""
    print(f"{datetime.now(tz=UTC):%H:%M:%S}  {text}", flush=True)


def told(measured: Measured) -> Measured:
    """Print what a run came to and return it."""
    m = measured
    say(
        f"    {m.patches_per_second:.2f} patches/s, start {m.start:.1f} s, "
        f"{m.memory:.2f} GiB, {m.parameters:,} parameters, training {m.train_seconds:.0f} s"
    )
    return measured


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--biapy-python", type=Path, required=True, help="Python of an environment with BiaPy"
    )
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        help="folders of planes (256² or more) and volumes (32 x 64² or more), one channel",
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for everything made")
    parser.add_argument("--settings", default=",".join(SETTINGS), help="names, with commas")
    parser.add_argument(
        "--minutes", type=float, default=1.2, help="training of a long round, BiaPy's epochs whole"
    )
    parser.add_argument(
        "--short-minutes", type=float, default=0.25, help="training of our short round"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--precision", default="auto", help="ours; BiaPy has fp32 only (auto, fp32, bf16)"
    )
    args = parser.parse_args(argv)
    unknown = [name for name in args.settings.split(",") if name not in SETTINGS]
    if unknown:
        parser.error(f"--settings: unknown {', '.join(unknown)}; known: {', '.join(SETTINGS)}")
    args.work = args.work.absolute()
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Compare, print the table, write it to ``comparison.md`` and the figures beside it."""
    args = parse(argv)
    chosen = [SETTINGS[name] for name in args.settings.split(",")]
    shapes = build_data(args.data, args.work / "data", {s.ndim for s in chosen})
    comparison, began, figures = Comparison(args, shapes), time.monotonic(), []
    for setting in chosen:
        figures.append(comparison.setting(setting).figures())
        (args.work / "comparison.json").write_text(json.dumps(figures, indent=1))
        table = markdown(figures)
        (args.work / "comparison.md").write_text(table, encoding="utf-8")
    print(f"\n{table}")
    machine = f"{args.threads} threads, Python {platform.python_version()}"
    say(f"{machine}; took {(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
