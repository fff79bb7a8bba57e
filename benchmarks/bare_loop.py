"""The training loop beside a bare one: same network and optimiser, one batch made beforehand.

Rounds of the two alternate in one process, each of as many steps as take about ``--seconds``. A
round of ours begins and ends with nothing read ahead, so that all feeding is inside it. The share
is the bare loop's time over ours, pair by pair: by the clock, and by the processor seconds of all
threads, which other work on the computer does not change. See README.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median, stdev
from typing import TYPE_CHECKING, Any

import torch
from biapy_data import build_data
from biapy_settings import SETTINGS, Setting, our_config

from napari_ssl_pretrain.engine import feed as fd
from napari_ssl_pretrain.engine.backbones import backbone_spec
from napari_ssl_pretrain.engine.loop import Trainer
from napari_ssl_pretrain.engine.losses import pixel_loss
from napari_ssl_pretrain.engine.machine import Machine
from napari_ssl_pretrain.engine.prepare import make_plan, patch_sets, prepare_images
from napari_ssl_pretrain.engine.report import Reporter
from napari_ssl_pretrain.engine.state import TrainState
from napari_ssl_pretrain.engine.validate import Validator
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.run_dir import RunDir

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_ssl_pretrain.engine.prepare import Plan
    from napari_ssl_pretrain.pretext import PretextBatch

WARM_UP = 4
GOAL = 0.95


@dataclass
class Cost:
    """Seconds by the clock and of the processor."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def counted(self, device: torch.device) -> Iterator[None]:
        """Add what happens inside."""
        _wait(device)
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        _wait(device)
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


@dataclass
class Rounds:
    """Pairs of rounds of one setting."""

    setting: str
    precision: str
    steps: int
    batch: int
    ours: list[Cost] = field(default_factory=list)
    bare: list[Cost] = field(default_factory=list)

    def shares(self, kind: str) -> list[float]:
        """Return bare over ours, pair by pair; ``kind`` is ``wall`` or ``cpu``."""
        pairs = zip(self.bare, self.ours, strict=True)
        return [getattr(b, kind) / max(1e-9, getattr(o, kind)) for b, o in pairs]

    def figures(self) -> dict[str, Any]:
        """Return medians and intervals."""
        patches = self.steps * self.batch
        return {
            "setting": self.setting,
            "precision": self.precision,
            "pairs": len(self.ours),
            "steps": self.steps,
            "patches_per_second": patches / median(c.wall for c in self.ours),
            "milliseconds_a_step": 1e3 * median(c.cpu for c in self.ours) / self.steps,
            **{kind: interval(self.shares(kind)) for kind in ("wall", "cpu")},
        }


class Bench:
    """One setting, ready to train.

    Parameters
    ----------
    setting
        The job.
    data, work
        The images of all settings; a folder for what the run writes.
    precision
        ``auto``, ``fp32`` or ``bf16``.
    """

    def __init__(self, setting: Setting, data: Path, work: Path, precision: str) -> None:
        fields = our_config(setting, data, work, minutes=1000, precision=precision, test=False)
        fields["training"].pop("max_minutes")
        config = PretrainConfig(**fields)
        self.run = RunDir(work, config.name)
        for folder in self.run.folders(config.pretext.task):
            folder.mkdir(parents=True, exist_ok=True)
        self.report = Reporter(None)
        self.report.open(self.run.events, append=False)
        plan = make_plan(config, self.report)
        train = prepare_images(plan, plan.survey.train, "train", self.run, self.report)
        self.patches, _ = patch_sets(plan, train, None)
        self.config = plan.config
        spec = backbone_spec(plan.config, plan.survey.in_channels, plan.survey.voxel_size)
        self.machine = Machine(plan.config, spec, None, None)
        self.device = self.machine.device
        self.trainer = self._trainer(plan)
        self.batch = self._one_batch()

    def _trainer(self, plan: Plan) -> Trainer:
        training = plan.config.training
        self.feed = fd.Feed(plan.task, training.seed, self.device)
        self.state = TrainState(steps=0)
        return Trainer(
            plan.config,
            self.machine.accelerator,
            self.machine.wrapped,
            self.machine.optimizer,
            self.feed,
            self.patches,
            Validator(self.feed, [], training.loss),
            self.state,
        )

    def _one_batch(self) -> PretextBatch:
        training = self.config.training
        indices = range(training.batch_size)
        asked = self.patches, training.seed, range(1), indices, 0
        host = next(fd.training_batches(*asked, augment=False))
        return self.feed.to_device(host, fd.Purpose.PRETEXT)

    def ours(self, steps: int) -> None:
        """Train by our loop; no epoch ends within."""
        self.state.steps = self.state.step + steps
        self.trainer.run(self.report, self.run.stop_file.exists, lambda *_: None, lambda: None)

    def bare(self, steps: int) -> None:
        """Train on the one batch: forward, loss, backward, step."""
        model, optimizer = self.machine.model.train(), self.machine.optimizer.optimizer
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.config.compute.precision)
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
                prediction = self.batch.restored(model)
            loss = pixel_loss(
                self.config.training.loss,
                prediction.float(),
                self.batch.target,
                self.batch.scored,
            )
            loss.backward()
            optimizer.step()

    def pairs(self, name: str, seconds: float, count: int) -> Rounds:
        """Measure ``count`` pairs after a warm-up; who begins alternates."""
        self.ours(WARM_UP)
        warm = Cost()
        with warm.counted(self.device):
            self.bare(WARM_UP)
        steps = max(WARM_UP, round(WARM_UP * seconds / warm.wall))
        rounds = Rounds(name, self.config.compute.precision, steps, self.config.training.batch_size)
        for number in range(count):
            costs = {"ours": Cost(), "bare": Cost()}
            for who in ("ours", "bare") if number % 2 else ("bare", "ours"):
                with costs[who].counted(self.device):
                    getattr(self, who)(steps)
            rounds.ours.append(costs["ours"])
            rounds.bare.append(costs["bare"])
        return rounds


def interval(shares: Sequence[float]) -> tuple[float, float, float]:
    """Return the geometric mean of ratios and its 95 % interval (normal, on logarithms)."""
    logs = [math.log(s) for s in shares]
    half = 1.96 * stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf
    return tuple(math.exp(mean(logs) + h) for h in (0, -half, half))  # type: ignore[return-value]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def row(figures: dict[str, Any]) -> str:
    """Return one line of the table."""
    wall, cpu = ("{:.1%} ({:.1%} to {:.1%})".format(*figures[kind]) for kind in ("wall", "cpu"))
    met = "met" if figures["cpu"][0] >= GOAL else "MISSED"
    return (
        f"| {SETTINGS[figures['setting']].title}, {figures['precision']} | "
        f"{figures['milliseconds_a_step']:.1f} | **{cpu}** | {wall} | {met} |"
    )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, nargs="+", help="folders of planes and volumes")
    parser.add_argument("--work", type=Path, help="folder that keeps the images that were cut")
    parser.add_argument("--settings", default=",".join(SETTINGS), help="names, with commas")
    parser.add_argument("--precision", default="auto", help="auto, fp32 or bf16")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one round, about")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print the table, and return the figures."""
    args = parse(argv)
    torch.set_num_threads(args.threads)
    chosen = [SETTINGS[name] for name in args.settings.split(",")]
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        data = (args.work or Path(scratch)) / "data"
        if args.data:
            build_data(args.data, data, {s.ndim for s in chosen})
        print("| job, precision | CPU ms a step | share by CPU time | by the clock | ≥ 95 % |")
        print("| --- | --- | --- | --- | --- |")
        for setting in chosen:
            bench = Bench(setting, data, Path(scratch) / "runs", args.precision)
            figures = bench.pairs(setting.name, args.seconds, args.pairs).figures()
            found.append(figures)
            print(row(figures), flush=True)
            bench.report.close()
    if args.work:
        (args.work / "bare_loop.json").write_text(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    main()
