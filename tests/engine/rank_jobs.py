"""Runs jobs in several processes that are forked from one that has loaded torch already.

``rank_jobs.py FOLDER JOB SIZE`` writes ``JOB_SIZE.json``: how each process ended.
"""

# ruff: noqa: BLE001

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path

os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"

import torch
from run_samples import config

from napari_ssl_pretrain.engine import ranks, report, session
from napari_ssl_pretrain.engine.run import pretrain

TRAINING = {"epochs": 2, "steps_per_epoch": 4, "batch_size": 5}
JOBS = {
    "crappify": ("crappify", "residual_unet", TRAINING),
    "mae": ("masking", "mae_vit", TRAINING | {"batch_size": 4}),
}
ENDLESS = {"epochs": 500, "steps_per_epoch": 4, "batch_size": 2}
EVENTFUL = ("kill_first", "kill_second", "term_second", "other_images", "stop_file", "broken")


def main(folder: Path, names: list[str]) -> None:
    """Do each ``JOB:SIZE``."""
    torch.set_num_threads(1)
    report.STEP_INTERVAL = 0.0
    session.draw_charts = session.draw_model_plot = lambda *_: None
    session.VALIDATION_PIXELS = 16 * 16**2
    ranks.SILENT_SECONDS = 2.0
    for name in names:
        job, size = name.split(":")
        ended = run(folder, job, int(size))
        (folder / f"{job}_{size}.json").write_text(json.dumps(ended))


def run(folder: Path, job: str, size: int) -> list[tuple[int, str]]:
    """Fork the processes of one job and return the code and last words of each."""
    port = free_port()
    children = [fork(folder, job, rank, size, port) for rank in range(size)]
    return [wait(*child) for child in children]


def fork(folder: Path, job: str, rank: int, size: int, port: int) -> tuple[int, int]:
    """Start one process; return its number and where it says how it ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    try:
        work(folder, job, rank, size)
        os.write(writer, b"done")
    except SystemExit as end:
        os._exit(end.code)
    except BaseException as error:
        os.write(writer, f"{type(error).__name__} {error}".encode())
        os._exit(1)
    os._exit(0)


def wait(child: int, reader: int) -> tuple[int, str]:
    """Return how a process ended."""
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as said:
        return os.waitstatus_to_exitcode(status), said.read()


def work(folder: Path, job: str, rank: int, size: int) -> None:
    """Do one job in this process."""
    if job in JOBS:
        task, backbone, training = JOBS[job]
        pretrain(config(folder, task, backbone, name=job, run_id=size, training=training))
        return
    train = str(folder / ("images" if job != "other_images" or rank == 0 else "others"))
    asked = config(folder, "masking", name=job, data={"train": train}, training=ENDLESS)
    pretrain(asked, should_stop=Eventful(folder, job, rank))


class Eventful:
    """Something happens in one of two processes at their third step."""

    def __init__(self, folder: Path, job: str, rank: int) -> None:
        self.folder, self.job, self.rank = folder, job, rank
        self.steps = 0
        self.asked = False
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "asked", True))

    def __call__(self) -> bool:
        """Whether to stop.

        Raises
        ------
        ValueError
            In the job that breaks.
        """
        self.steps += 1
        if self.steps == 3:
            if self.job in {"kill_first", "kill_second"}:
                victim = ("kill_first", "kill_second").index(self.job)
                if victim == self.rank:
                    os.kill(os.getpid(), signal.SIGKILL)
            elif self.job == "term_second" and self.rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            elif self.job == "broken" and self.rank == 1:
                raise ValueError("a cable is cut")
            elif self.job == "stop_file" and self.rank == 0:
                (self.folder / "results/stop_file/results/stop_file_1/stop").touch()
        return self.asked


def free_port() -> int:
    """Return a port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
