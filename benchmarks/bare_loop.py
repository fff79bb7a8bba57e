"""The training loop beside a bare one: same network and optimiser, one batch made beforehand.

Rounds of the two alternate in one process, each of as many steps as take about ``--seconds``. A
round of ours begins and ends with nothing read ahead, so that all feeding is inside it. The share
is the bare loop's time over ours, pair by pair: by the clock, and by the processor seconds of all
threads, which other work on the computer does not change. See README.md.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median, stdev
from typing import TYPE_CHECKING, Any

import torch
from biapy_data import build_data
from biapy_settings import SETTINGS, our_config
from training_bench import TrainingBench, settings_parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

WARM_UP = 4
GOAL = 0.95


@dataclass
class Cost:
    """Seconds by the clock and of the processor."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def counted(self, bench: TrainingBench) -> Iterator[None]:
        """Add what happens inside."""
        bench.wait()
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        bench.wait()
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


def pairs(bench: TrainingBench, name: str, seconds: float, count: int) -> Rounds:
    """Measure ``count`` pairs after a warm-up; who begins alternates."""
    bench.ours(WARM_UP)
    warm = Cost()
    with warm.counted(bench):
        bench.bare(WARM_UP)
    steps = max(WARM_UP, round(WARM_UP * seconds / warm.wall))
    rounds = Rounds(name, bench.config.compute.precision, steps, bench.config.training.batch_size)
    for number in range(count):
        costs = {"ours": Cost(), "bare": Cost()}
        for who in ("ours", "bare") if number % 2 else ("bare", "ours"):
            with costs[who].counted(bench):
                getattr(bench, who)(steps)
        rounds.ours.append(costs["ours"])
        rounds.bare.append(costs["bare"])
    return rounds


def interval(shares: Sequence[float]) -> tuple[float, float, float]:
    """Return the geometric mean of ratios and its 95 % interval (normal, on logarithms)."""
    logs = [math.log(s) for s in shares]
    half = 1.96 * stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf
    return tuple(math.exp(mean(logs) + h) for h in (0, -half, half))  # type: ignore[return-value]


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
    parser = settings_parser(__doc__)
    parser.add_argument("--precision", default="auto", help="auto, fp32 or bf16")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one round, about")
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
            runs, precision = Path(scratch) / "runs", args.precision
            fields = our_config(setting, data, runs, minutes=1, precision=precision, test=False)
            fields["training"].pop("max_minutes")
            bench = TrainingBench(fields, runs)
            figures = pairs(bench, setting.name, args.seconds, args.pairs).figures()
            found.append(figures)
            print(row(figures), flush=True)
            bench.close()
    if args.work:
        (args.work / "bare_loop.json").write_text(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    main()
