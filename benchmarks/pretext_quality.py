"""What pretraining learns in a given time: restored against worsened, hidden against inpainted.

    python benchmarks/pretext_quality.py --out OUT NAME=TASK:MINUTES:TRAIN:TEST[:key=value,…] …

Each argument is one run through the command line, one after the other, for example
``em=crappify:4:em/train/x:em/test/x`` or
``nuclei=masking:4:nuclei/train/x:nuclei/test/x:pretext.token_size=8``. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Arm:
    """One run."""

    name: str
    task: str
    minutes: float
    train: str
    test: str
    options: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Arm:
        name, _, rest = text.partition("=")
        task, minutes, train, test, *options = rest.split(":")
        chosen = tuple(o for group in options for o in group.split(","))
        return cls(name, task, float(minutes), train, test, chosen)

    def run(self, out: Path) -> dict[str, object]:
        config = {
            "name": self.name,
            "result_dir": str(out),
            "data": {"train": self.train, "test": self.test},
            "pretext": {"task": self.task},
            "training": {"max_minutes": self.minutes},
        }
        path = out / f"{self.name}.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        command = [sys.executable, "-m", "napari_ssl_pretrain", "run", "--config", str(path)]
        command += ["--overwrite", *(w for o in self.options for w in ("--set", o))]
        with (out / f"{self.name}.log").open("w") as log:
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
        results = out / self.name / "results" / f"{self.name}_1"
        return dict(json.loads((results / "summary.json").read_text(encoding="utf-8")))


def row(arm: Arm, summary: dict[str, object]) -> str:
    test, seconds = dict(summary["test"]), dict(summary["seconds"])  # type: ignore[call-overload]
    if arm.task == "crappify":
        gain = test["psnr"] - test["psnr_input"]
        result = f"{test['psnr_input']:.2f} to {test['psnr']:.2f} dB (**{gain:+.2f}**)"
    else:
        mean = test["hidden_mse_mean"]
        own, inpainted = test["hidden_mse"] / mean, test["hidden_mse_inpaint"] / mean
        result = f"**{own:.3f}** of the mean's, inpainting {inpainted:.3f}"
    return (
        f"| {arm.name} | {summary['backbone']}, {summary['parameters'] / 1e6:.2f} M | "  # type: ignore[operator]
        f"{summary['steps']} steps, {seconds['train'] / 60:.1f} min | "
        f"{summary['patches_per_second']:.1f} | {seconds['start']:.1f} | "
        f"{summary['peak_memory_gb']:.2f} | {result} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("arms", nargs="+", type=Arm.parse)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print("| run | network | trained | patches/s | first step (s) | peak GB | test |")
    print("|---|---|---|---|---|---|---|")
    for arm in args.arms:
        print(row(arm, arm.run(args.out)), flush=True)


if __name__ == "__main__":
    main()
