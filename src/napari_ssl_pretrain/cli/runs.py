"""``runs``: the runs under a folder."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain.cli import text
from napari_ssl_pretrain.errors import UserError
from napari_ssl_pretrain.spec.run_dir import RunDir
from napari_ssl_pretrain.spec.status import RunStatus, process_lives, read_events, status_of

if TYPE_CHECKING:
    from argparse import Namespace


def command(args: Namespace) -> int:
    """List the runs, oldest first.

    Raises
    ------
    UserError
        There is no such folder.
    """
    folder = Path(args.folder or ("exp_results" if Path("exp_results").is_dir() else "."))
    if not folder.is_dir():
        remedy = "Give the result folder of a run, `runs DIR`."
        raise UserError("runs", "no such folder", value=folder, remedy=remedy)
    rows = [row(run) for run in RunDir.find(folder)]
    if args.json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print(f"No runs under {folder}. `napari-ssl-pretrain run --config F` makes one.")
    else:
        header = ["run", "task", "state", "progress", "best", "test", "last seen"]
        print(text.table(header, [_cells(found) for found in rows]))
    return 0


def row(run: RunDir) -> dict[str, Any]:
    """Return where one run stands."""
    status = status_of(read_events(run))
    state: str = status.state
    if not status.ended and not process_lives(status):
        state = "died"
    return {
        "run": run.run_name,
        "folder": str(run.results),
        "task": status.task,
        "state": state,
        "message": status.message,
        "step": status.step,
        "steps": status.steps,
        "epoch": status.epoch,
        "epochs": status.epochs,
        "seconds_left": None if state == "died" else status.seconds_left,
        "best_validation_loss": status.best_validation_loss,
        "test": _test_scores(run, status),
        "last_seen": status.last_seen,
    }


def _test_scores(run: RunDir, status: RunStatus) -> dict[str, float]:
    if not status.ended:
        return {}
    try:
        scores = json.loads(run.summary.read_text(encoding="utf-8")).get("test")
    except (OSError, ValueError, AttributeError):
        return {}
    return scores if isinstance(scores, dict) else {}


def _cells(found: dict[str, Any]) -> list[str]:
    best, steps = found["best_validation_loss"], found["steps"]
    progress = f"{100 * found['step'] // steps} %" if steps else ""
    if found["seconds_left"]:
        progress += f", {text.duration(found['seconds_left'])} left"
    elif found["epochs"]:
        progress += f", epoch {found['epoch']} of {found['epochs']}"
    shown = "" if best is None else f"{best:.4f}"
    seen = (
        time.strftime("%Y-%m-%d %H:%M", time.localtime(found["last_seen"]))
        if found["last_seen"]
        else ""
    )
    state = found["state"]
    if state == "died":
        state = "died (resume it)"
    return [found["run"], found["task"], state, progress, shown, _score(found["test"]), seen]


def _score(test: dict[str, float]) -> str:
    if "psnr" in test:
        gain = f" ({test['psnr'] - test['psnr_input']:+.2f})" if "psnr_input" in test else ""
        return f"PSNR {test['psnr']:.2f}{gain}"
    return f"hidden {test['hidden_mse']:.3f}" if "hidden_mse" in test else ""
