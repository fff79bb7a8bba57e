"""bfloat16 beside single precision: the same steps on the same patches, time and loss.

The two trainings of a job take turns, a few steps each, so that other work meets both. Processor
seconds of all threads are counted. See README.md.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import torch
from biapy_data import build_data
from biapy_settings import SETTINGS, Setting, our_config
from training_bench import TrainingBench, settings_parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

ROUNDS = 4


def measure(setting: Setting, data: Path, work: Path, steps: int) -> str:
    """Train both and return a line of the table; the loss is that of the last round."""
    benches = {}
    for precision in ("fp32", "bf16"):
        runs = work / precision
        fields = our_config(setting, data, runs, minutes=1, precision=precision, test=False)
        fields["training"].pop("max_minutes")
        benches[precision] = TrainingBench(fields, runs)
    seconds: dict[str, list[float]] = {name: [] for name in benches}
    for _ in range(ROUNDS):
        for name, bench in benches.items():
            began = time.process_time()
            bench.ours(steps)
            seconds[name].append(time.process_time() - began)
    # the first round pays for allocations
    cost = {name: mean(found[1:]) / steps for name, found in seconds.items()}
    loss = {name: bench.state.history[-1].train_loss for name, bench in benches.items()}
    for bench in benches.values():
        bench.close()
    return (
        f"| {setting.title} | {1e3 * cost['fp32']:.0f} → {1e3 * cost['bf16']:.0f} | "
        f"**{cost['fp32'] / cost['bf16']:.2f}x** | {loss['fp32']:.4f} → {loss['bf16']:.4f} "
        f"({loss['bf16'] / loss['fp32'] - 1:+.1%}) |"
    )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = settings_parser(__doc__)
    parser.add_argument("--steps", type=int, default=50, help=f"of each of {ROUNDS} rounds")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    args = parse(argv)
    torch.set_num_threads(args.threads)
    chosen = [SETTINGS[name] for name in args.settings.split(",")]
    print("| job | CPU ms a step, fp32 → bf16 | gain | loss of the last round, fp32 → bf16 |")
    print("| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        data = (args.work or Path(scratch)) / "data"
        if args.data:
            build_data(args.data, data, {s.ndim for s in chosen})
        for setting in chosen:
            print(measure(setting, data, Path(scratch) / setting.name, args.steps), flush=True)


if __name__ == "__main__":
    main()
