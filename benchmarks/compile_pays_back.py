"""torch.compile on the CPU: after how many steps compiling pays back.

Both train the same network on one batch made beforehand, in turns; the time of compiling is that
of the first steps beyond what they take later. Processor seconds of the process and of the
compilers it starts are counted, with a cache that is empty at first. See README.md.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from biapy_data import build_data
from biapy_settings import SETTINGS, Setting, our_config
from training_bench import TrainingBench, settings_parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

FIRST = 4
"""Steps within which everything is compiled."""


@dataclass
class Payback:
    """What compiling costs and gains, in processor seconds.

    Attributes
    ----------
    compiling
        Of the first steps beyond what these take later.
    waited
        The same by the clock.
    plain, compiled
        Of a step.
    steps
        Of a training whose length was not chosen.
    """

    setting: str
    precision: str
    compiling: float
    waited: float
    plain: float
    compiled: float
    steps: int

    @property
    def after(self) -> float:
        """Steps after which compiling has paid back; infinite where nothing is gained."""
        gain = self.plain - self.compiled
        return self.compiling / gain if gain > 0 else math.inf

    def row(self) -> str:
        """Return one line of the table."""
        after = f"{self.after:,.0f} steps" if self.after < math.inf else "never"
        return (
            f"| {SETTINGS[self.setting].title}, {self.precision} | {self.compiling:.1f} | "
            f"{self.waited:.1f} | {1e3 * self.plain:.1f} → {1e3 * self.compiled:.1f} | "
            f"{self.plain / self.compiled:.3f}x | **{after}** | {self.steps} | "
            f"{'yes' if self.after < self.steps else 'no'} |"
        )


def processor() -> float:
    """Return the processor seconds of this process and of those it has started and awaited."""
    return sum(os.times()[:4])


def timed(act: Callable[[], None]) -> tuple[float, float]:
    """Do something and return its processor seconds and those by the clock."""
    began, wall = processor(), time.perf_counter()
    act()
    return processor() - began, time.perf_counter() - wall


def measure(bench: TrainingBench, name: str, args: argparse.Namespace) -> Payback:
    """Compile, then let both train in turns; the median of the turns counts."""
    bench.bare(FIRST)
    network = torch.compile(bench.machine.model, backend=args.backend)
    first, waited = timed(lambda: bench.bare(FIRST, network))
    seconds: dict[str, list[tuple[float, float]]] = {"plain": [], "compiled": []}
    for turn in range(args.pairs):
        for who in ("plain", "compiled") if turn % 2 else ("compiled", "plain"):
            chosen = network if who == "compiled" else None
            seconds[who].append(timed(lambda chosen=chosen: bench.bare(args.steps, chosen)))
    step = {who: median(cpu for cpu, _ in found) / args.steps for who, found in seconds.items()}
    clock = median(wall for _, wall in seconds["compiled"]) / args.steps
    training = bench.config.training
    return Payback(
        name,
        bench.config.compute.precision,
        first - FIRST * step["compiled"],
        waited - FIRST * clock,
        step["plain"],
        step["compiled"],
        training.epochs * training.steps_per_epoch,
    )


def one_job(setting: Setting, data: Path, runs: Path, args: argparse.Namespace) -> Payback:
    """Measure one job with an empty cache."""
    fields = our_config(setting, data, runs, minutes=1, precision=args.precision, test=False)
    fields["training"].pop("max_minutes")
    fields["compute"]["device"] = "cpu"
    bench = TrainingBench(fields, runs)
    torch.compiler.reset()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        found = measure(bench, setting.name, args)
    bench.close()
    return found


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = settings_parser(__doc__)
    parser.add_argument("--precision", default="auto", help="auto, fp32 or bf16")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="of each turn")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print the table, and return the figures."""
    args = parse(argv)
    # compilers in processes that live on would not be counted
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    torch.set_num_threads(args.threads)
    chosen = [SETTINGS[name] for name in args.settings.split(",")]
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        data = (args.work or Path(scratch)) / "data"
        if args.data:
            build_data(args.data, data, {s.ndim for s in chosen})
        print(
            "| job, precision | compiling, CPU s | by the clock, s "
            "| CPU ms a step, plain → compiled | gain | pays back after | default steps | pays? |"
        )
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for setting in chosen:
            payback = one_job(setting, data, Path(scratch) / "runs", args)
            found.append({**vars(payback), "after": min(payback.after, 1e12)})
            print(payback.row(), flush=True)
    if args.work:
        (args.work / "compile_pays_back.json").write_text(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    main()
