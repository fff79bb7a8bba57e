"""What the test of a run costs, and which part of it: network, interpolation, writing.

Untrained networks of the comparison with BiaPy write and score its test images, a few times after
a first one that does not count. Processor seconds of all threads, which other work on the computer
does not change much, and seconds by the clock. See README.md.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from biapy_data import build_data
from biapy_settings import SETTINGS, our_config
from training_bench import settings_parser

from napari_ssl_pretrain.engine import images, infer, metrics
from napari_ssl_pretrain.engine.backbones import backbone_spec
from napari_ssl_pretrain.engine.machine import Machine
from napari_ssl_pretrain.engine.prepare import make_plan, prepare_images
from napari_ssl_pretrain.engine.report import Reporter
from napari_ssl_pretrain.engine.testing import Tester
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.run_dir import RunDir

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PARTS = {
    "network": (infer.Restorer, "_predict"),
    "interpolation": (metrics, "smooth_inpaint"),
    "writing": (images, "write_image"),
}


class Costs:
    """Processor seconds spent in the parts of a test."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)

    def counted(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the same function, whose time is added up."""

        @wraps(call)
        def timed(*args: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return call(*args, **options)
            finally:
                self.seconds[part] += time.process_time() - began

        return timed


def make_test(fields: dict[str, Any], work: Path) -> Callable[[], dict[str, float]]:
    """Return the test of a job whose network knows nothing."""
    config = PretrainConfig(**fields)
    run = RunDir(work, config.name)
    for folder in run.folders(config.pretext.task):
        folder.mkdir(parents=True, exist_ok=True)
    report = Reporter(None)
    report.open(run.events, append=False)
    plan = make_plan(config, report)
    spec = backbone_spec(plan.config, plan.survey.in_channels, plan.survey.voxel_size)
    tester = Tester(plan, run, report, Machine(plan.config, spec, None, None))
    tested = prepare_images(plan, plan.survey.test, "test", run, report)
    return lambda: tester.test(tested, 0)


def measure(test: Callable[[], dict[str, float]], rounds: int) -> tuple[float, float, Costs]:
    """Return median processor and clock seconds of a test, and those of its parts in all."""
    test()
    whole, clock, costs = [], [], Costs()
    with ExitStack() as stack:
        for part, (owner, name) in PARTS.items():
            timed = costs.counted(part, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, timed))
        for _ in range(rounds):
            began, used = time.perf_counter(), time.process_time()
            test()
            whole.append(time.process_time() - used)
            clock.append(time.perf_counter() - began)
    return median(whole), median(clock), costs


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = settings_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    chosen = [SETTINGS[name] for name in args.settings.split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        data = (args.work or Path(scratch)) / "data"
        if args.data:
            build_data(args.data, data, {s.ndim for s in chosen})
        print(f"| job | CPU s | clock s | {' | '.join(f'{part}, CPU s' for part in PARTS)} |")
        print("| --- | --- | --- |" + " --- |" * len(PARTS))
        for setting in chosen:
            runs = Path(scratch) / "runs"
            fields = our_config(setting, data, runs, minutes=1, precision="auto", test=True)
            cpu, clock, costs = measure(make_test(fields, runs), args.rounds)
            parts = " | ".join(f"{s / args.rounds:.3f}" for s in costs.seconds.values())
            print(f"| {setting.title} | {cpu:.3f} | {clock:.2f} | {parts} |", flush=True)


if __name__ == "__main__":
    main()
