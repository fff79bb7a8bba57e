"""Kill a training again and again at random moments; its weights must be those of one in peace.

    python benchmarks/kill_and_resume.py [KILLS] [FOLDER]

Each life of the run is a process that is forked from one with torch in it, and killed (SIGKILL)
after a random number of its events and a random moment more: while it reads, trains, saves, or
writes its logs. After each death every file must be whole, and the next life resumes.
"""

# ruff: noqa: DOC501

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.engine import checkpoint, report, session
from napari_ssl_pretrain.engine.run import pretrain
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.events import parse_event
from napari_ssl_pretrain.spec.run_dir import RunDir

MOST_EVENTS = 24
STEPS_A_KILL = 8
CLOCK = {"seconds", "epoch_seconds", "patches_per_second", "elapsed"}


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
    print(json.dumps(compare(folder, kills)))


def compare(folder: Path, kills: int, seed: int = 0) -> dict[str, Any]:
    """Train once in peace and once with kills; return how often it was killed, and where."""
    torch.set_num_threads(1)
    report.STEP_INTERVAL = 0.0
    session.VALIDATION_PIXELS = 4 * 16**2
    os.fsync = lambda _: None  # a killed process loses nothing that was written; a power cut may
    session.draw_charts = session.draw_model_plot = lambda *_: None
    rng = np.random.default_rng(seed)
    for number in range(2):
        image = rng.integers(0, 255, (48, 40)).astype("uint8")
        write_array(folder / "images" / f"{number}.tif", image, "YX")
    peace, war = (job(folder, name, kills) for name in ("peace", "war"))
    session.PREVIEW_SECONDS = 1e9
    live(peace)
    session.SAVE_SECONDS = 0.0  # every step is saved, so that many kills meet a save
    killed = 0
    while killed < kills:
        events, moment = int(rng.integers(0, MOST_EVENTS)), float(rng.exponential(0.01))
        if live(war, after=events, moment=moment):
            killed += 1
            check_whole(war)
        else:
            raise SystemExit(f"the run was over after {killed} kills")
    live(war)
    same(training(peace), training(war))
    said = [parse_event(line) for line in run_of(war).events.read_text().splitlines()]
    kinds = [e.kind for e in said if e is not None]
    ends = [k for k, kind in enumerate(kinds, 1) if kind == "run_finished"]
    if ends != [
        k for k in range(1, len(kinds) + 1) if [*kinds, "process_started"][k] == "process_started"
    ]:
        raise SystemExit("a life has no last word, or more than one")
    return {
        "kills": killed,
        "starts_in_log": kinds.count("process_started"),
        "last_words": len(ends),
        "steps": training(war)["step"],
        "last_word": said[-1].state if said[-1] and said[-1].kind == "run_finished" else None,
        "identical": True,
    }


def job(folder: Path, name: str, kills: int) -> PretrainConfig:
    return PretrainConfig.from_dict(
        {
            "name": name,
            "result_dir": str(folder / "results"),
            "data": {"train": str(folder / "images"), "patch_size": [16, 16]},
            "pretext": {"task": "crappify", "fresh": True},
            "backbone": {"name": "residual_unet", "features_per_stage": [4, 8]},
            "training": {
                "epochs": max(2, -(-STEPS_A_KILL * kills // 10)),
                "steps_per_epoch": 10,
                "batch_size": 2,
            },
            "compute": {"device": "cpu", "workers": 1, "precision": "fp32"},
        }
    )


def run_of(config: PretrainConfig) -> RunDir:
    return RunDir(Path(config.result_dir), config.name, config.run_id)


def live(config: PretrainConfig, after: int | None = None, moment: float = 0.0) -> bool:
    """Let the run live in a process of its own; return whether it was killed before its end."""
    reader, writer = os.pipe()
    resume = run_of(config).events.exists()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = 1
        try:
            pretrain(config, emit=lambda _: os.write(writer, b"."), resume=resume)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as events:
        seen = 0
        while (after is None or seen < after) and (new := events.read(1)):
            seen += len(new)
        if after is not None:
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in {0, -signal.SIGKILL}:
        raise SystemExit(f"a life ended with code {code}")
    return code != 0


def check_whole(config: PretrainConfig) -> None:
    """Make sure that each file is whole or absent, but for the last line of the events."""
    run = run_of(config)
    for which in ("best", "last"):
        if run.checkpoint(which).exists():
            checkpoint.load(run.checkpoint(which))
    if run.events.exists():
        lines = run.events.read_text().split("\n")
        torn = [line for line in lines[:-1] if line and parse_event(line) is None]
        # a torn line stays where the next life went on after it
        if len(torn) > sum('"process_started"' in line for line in lines):
            raise SystemExit(f"events are torn: {torn[:3]}")
    if run.train_log.exists() and not run.train_log.read_text().endswith("\n"):
        raise SystemExit("the training log is torn")


def training(config: PretrainConfig) -> dict[str, Any]:
    """Return all of the last state but what the clock says."""
    state = checkpoint.load(run_of(config).checkpoint("last"))
    rows = [{k: v for k, v in r.items() if k not in CLOCK} for r in state["state"]["history"]]
    best = checkpoint.load(run_of(config).checkpoint("best"))["model"]
    return {k: state[k] for k in ("model", "optimizer", "step")} | {"rows": rows, "best": best}


def same(one: Any, two: Any, where: str = "") -> None:
    """End with a sentence where two states differ in a bit."""
    if isinstance(one, torch.Tensor):
        equal = torch.equal(one, two)
    elif isinstance(one, dict):
        equal = one.keys() == two.keys()
        for key in one if equal else ():
            same(one[key], two[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        equal = len(one) == len(two)
        for number, pair in enumerate(zip(one, two, strict=False)):
            same(*pair, f"{where}/{number}")
    else:
        equal = one == two
    if not equal:
        raise SystemExit(f"{where} differs")


if __name__ == "__main__":
    main()
