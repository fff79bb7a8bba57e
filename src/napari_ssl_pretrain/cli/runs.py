"""``runs``: the runs under a folder."""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain.cli import text
from napari_ssl_pretrain.errors import UserError
from napari_ssl_pretrain.spec.curve import sparkline
from napari_ssl_pretrain.spec.heartbeat import BEAT_SECONDS
from napari_ssl_pretrain.spec.run_dir import RunDir
from napari_ssl_pretrain.spec.run_record import RunReader, RunRecord, known, moment, shortened

if TYPE_CHECKING:
    from argparse import Namespace

HEADER = ("run", "task", "state", "progress", "best", "curve", "test", "data", "last seen")
LONGEST_CELL = 48
WATCHED = BEAT_SECONDS + 2


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
    records = read(folder)
    if args.json:
        print(json.dumps([row(record) for record in records], indent=2))
    elif not records:
        print(f"No runs under {folder}. `napari-ssl-pretrain run --config F` makes one.")
    else:
        print(text.table(HEADER, [_cells(record) for record in records]))
        for record in records:
            if record.problem or record.state == "silent":
                print(text.plain(f"{record.run.run_name}: {record.note.rstrip('.')}."))
    return 0


def read(folder: Path) -> list[RunRecord]:
    """Read the runs under a folder; watch for a moment what may live on another machine."""
    readers = [RunReader(run, WATCHED) for run in RunDir.find(folder)]
    records = [reader.read() for reader in readers]
    if doubtful := sum(reader.doubtful for reader in readers):
        of = text.count(doubtful, "run")
        said = f"Looking for signs of life of {of} on other machines, {WATCHED:.0f} s …"
        print(said, file=sys.stderr)
        time.sleep(WATCHED)
        records = [reader.read() for reader in readers]
    return records


def row(record: RunRecord) -> dict[str, Any]:
    """Return where one run stands."""
    status = record.status
    return {
        "run": record.run.run_name,
        "folder": str(record.run.results),
        "task": status.task,
        "data": list(record.data),
        "images": record.images,
        "state": record.state,
        "message": status.message,
        "problem": record.problem,
        "host": status.host,
        "silent_seconds": record.silence,
        "step": status.step,
        "steps": status.steps,
        "epoch": status.epoch,
        "epochs": status.epochs,
        "seconds_left": known(status.seconds_left) if record.goes_on else None,
        "best_validation_loss": record.best,
        "curve": [list(points) for points in zip(*record.curve, strict=True)],
        "test": record.scores,
        "started": known(status.started),
        "last_seen": known(status.last_seen),
    }


def _cells(record: RunRecord) -> list[str]:
    status, best = record.status, record.best
    progress = "" if record.share is None else f"{int(100 * record.share)} %"
    left = known(status.seconds_left) if record.goes_on else None
    if left:
        progress += f", {text.duration(left)} left"
    elif status.epochs:
        progress += f", epoch {status.epoch} of {status.epochs}"
    state = "died (resume it)" if record.state == "died" and record.saved else record.state
    if record.goes_on and status.host not in {"", socket.gethostname()}:
        state += f" on {shortened(status.host, LONGEST_CELL // 2)}"
    return [
        record.run.run_name,
        status.task,
        state,
        progress,
        "" if best is None else f"{best:.4f}",
        sparkline(record.curve[1]),
        record.score,
        shortened(record.images_of, LONGEST_CELL),
        moment(status.last_seen),
    ]
