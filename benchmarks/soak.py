"""Train a tiny network for very many steps and look at memory and at the size of the logs.

python benchmarks/soak.py [STEPS] [FOLDER]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.engine import session
from napari_ssl_pretrain.engine.run import pretrain
from napari_ssl_pretrain.spec.config import PretrainConfig

STEPS_PER_EPOCH = 500
MB = 2**20


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
    print(json.dumps(soak(folder, steps), indent=1))


def soak(folder: Path, steps: int) -> dict[str, Any]:
    """Return memory (MB) over the run, its growth over the last four fifths, and log sizes."""
    torch.set_num_threads(1)
    session.VALIDATION_PIXELS = 4 * 8**2
    rng = np.random.default_rng(0)
    for number in range(2):
        image = rng.integers(0, 255, (48, 40)).astype("uint8")
        write_array(folder / "images" / f"{number}.tif", image, "YX")
    config = PretrainConfig.from_dict(
        {
            "name": "soak",
            "result_dir": str(folder / "results"),
            "data": {"train": str(folder / "images"), "patch_size": [8, 8]},
            "pretext": {"task": "crappify", "fresh": True},
            "backbone": {"name": "residual_unet", "features_per_stage": [2, 4]},
            "training": {
                "epochs": max(1, round(steps / STEPS_PER_EPOCH)),
                "steps_per_epoch": steps // max(1, round(steps / STEPS_PER_EPOCH)),
                "batch_size": 1,
            },
            "compute": {"device": "cpu", "workers": 1, "precision": "fp32"},
        }
    )
    process, memory, count = psutil.Process(), [], 0
    every = max(1, steps // 50)

    def look() -> bool:
        nonlocal count
        count += 1
        if count % every == 0:
            memory.append(round(process.memory_info().rss / MB, 1))
        return False

    summary = pretrain(config, should_stop=look).summary
    run = folder / "results" / "soak" / "results" / "soak_1"
    later = memory[len(memory) // 5 :]
    slope = float(np.polyfit(np.arange(len(later)), later, 1)[0])
    return {
        "steps": summary["steps"],
        "seconds": round(summary["seconds"]["train"]),
        "memory_mb": memory,
        "growth_mb": round(np.mean(later[-5:]) - np.mean(later[:5]), 1),
        "growth_bytes_a_step": round(slope * MB / every, 1),
        "log_bytes_a_step": {
            name: round(sum(p.stat().st_size for p in run.rglob(name)) / steps, 1)
            for name in ("events.jsonl", "*tfevents*", "*.csv")
        },
    }


if __name__ == "__main__":
    main()
