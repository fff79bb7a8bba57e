r"""Does pretraining help? Each set is pretrained on without labels, then fine-tuned with few.

    python benchmarks/transfer_quality.py --out OUT --tasks masking,crappify \
        nuclei=data/nuclei em=data/em:data/em/pretrain/x

Each set is a folder with train/x, train/y, test/x and test/y; after a colon, more images to
pretrain on. Everything goes through the command line with default settings. Prints a Markdown
table as results come in, and leaves every report under OUT.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import yaml

PROGRAM = (sys.executable, "-m", "napari_ssl_pretrain")
HEADER = (
    "| set | pretext task | labels | scratch IoU | pretrained IoU | gain in IoU points (95 %) | "
    "boundary F | pretrained, fine-tuned |\n|---|---|---|---|---|---|---|---|"
)


def call(words: list[str], log: Path) -> None:
    with log.open("w") as file:
        subprocess.run([*PROGRAM, *words], check=True, stdout=file, stderr=subprocess.STDOUT)


def pretrain(name: str, folder: Path, more: list[str], task: str, args: argparse.Namespace) -> Path:
    """Pretrain with default settings and return the checkpoint."""
    job = f"{name}_{task}"
    config = {
        "name": job,
        "result_dir": str(args.out),
        "data": {"train": [str(folder / "train" / "x"), *more], "test": str(folder / "test" / "x")},
        "pretext": {"task": task},
        "training": {"max_minutes": args.pretrain_minutes},
    }
    path = args.out / f"{job}.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    checkpoint: Path = args.out / job / "checkpoints" / f"{job}_1-checkpoint-best.pth"
    if not checkpoint.exists():
        call(["run", "--config", str(path), "--overwrite"], args.out / f"{job}.log")
    return checkpoint


def transfer(folder: Path, checkpoint: Path, args: argparse.Namespace) -> dict:
    """Compare fine-tunings and return the report's summary."""
    output = args.out / f"{checkpoint.parent.parent.name}_transfer"
    words = ["transfer", "--checkpoint", str(checkpoint), "-o", str(output), "--overwrite"]
    for option, part in (("images", "train/x"), ("labels", "train/y")):
        words += [f"--{option}", str(folder / part)]
    for option, part in (("test_images", "test/x"), ("test_labels", "test/y")):
        words += [f"--{option}", str(folder / part)]
    words += ["--n_labels", args.n_labels, "--seeds", str(args.seeds)]
    words += ["--minutes", str(args.minutes), "--arms", args.arms]
    call(words, args.out / f"{output.name}.log")
    return dict(json.loads((output / "summary.json").read_text(encoding="utf-8")))


def row(name: str, task: str, summary: dict, minutes: tuple[float, float]) -> str:
    found = next(r for r in summary["results"] if r["n_labels"] == "all")
    arms, gain = found["arms"], found["gain"]
    f = [arms[a]["boundary_f"] for a in ("scratch", "pretrained")]
    low, high = (("?" if v is None else f"{100 * v:+.1f}") for v in (gain["low"], gain["high"]))
    return (
        f"| {name} | {task} | {summary['config']['n_labels']} | {arms['scratch']['iou']:.3f} | "
        f"{arms['pretrained']['iou']:.3f} | **{100 * gain['mean']:+.1f}** ({low} to {high}) | "
        f"{f[0]:.3f} to {f[1]:.3f} | {minutes[0]:.1f} min, {summary['steps']} steps |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", default="masking,crappify")
    parser.add_argument("--pretrain_minutes", type=float, default=10)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--n_labels", default="5")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", default="scratch,pretrained")
    parser.add_argument("sets", nargs="+", help="NAME=FOLDER[:MORE_IMAGES…]")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print(HEADER, flush=True)
    for text in args.sets:
        name, _, rest = text.partition("=")
        folder, *more = rest.split(":")
        for task in args.tasks.split(","):
            began = time.monotonic()
            checkpoint = pretrain(name, Path(folder), more, task, args)
            took = (time.monotonic() - began) / 60
            summary = transfer(Path(folder), checkpoint, args)
            print(row(name, task, summary, (took, args.minutes)), flush=True)


if __name__ == "__main__":
    main()
