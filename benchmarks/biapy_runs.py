"""Starts a run of BiaPy or of ours as a child process and measures it from outside."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

GIB = 2**30
WARM_UP_STEPS = 1

# BiaPy's import needs two operators of torchvision that a CPU build may not load; this workflow
# executes neither.
BIAPY_MAIN = """\
import torch
try:
    import torchvision
except RuntimeError:
    import sys
    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    operators = torch.library.Library("torchvision", "FRAGMENT")
    for op in ("nms", "qnms"):
        operators.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from biapy import main
main()
"""

FIRST_STEP = re.compile(r"Epoch: \[1\]\s+\[\s*0/\d+\].*iter-time: ([\d.]+)")
EPOCH = re.compile(r"Epoch: \[(\d+)\] Total time: .*\(([\d.]+) s / it\)")
STEPS = re.compile(r"Epoch: \[1\]\s+\[\s*0/(\d+)\]")
PARAMETERS = re.compile(r"Trainable params: ([\d,]+)")


@dataclass
class Measured:
    """What one run came to.

    Attributes
    ----------
    patches_per_second
        Training alone, the first step left out.
    start
        Seconds from the launch to the end of the first step.
    memory
        Largest resident set in GiB.
    parameters
        Trainable numbers of the network.
    train_seconds
        The training stage, validation included.
    test_seconds
        The test stage, with everything that is written and scored; 0 where there was none.
    """

    patches_per_second: float
    start: float
    memory: float
    parameters: int
    train_seconds: float
    test_seconds: float = 0.0


@dataclass
class Child:
    """A finished process: its lines with the seconds since launch, and its largest memory."""

    launched: float
    lines: list[tuple[float, str]]
    memory: float

    def first(self, text: str) -> float:
        """Return when a line that holds this text came.

        Raises
        ------
        SystemExit
            It never came.
        """
        for when, line in self.lines:
            if text in line:
                return when
        raise SystemExit(f"error: the run never said {text!r}.")


def run_child(command: list[str], log: Path, threads: int) -> Child:
    """Run a command to its end.

    Raises
    ------
    SystemExit
        It failed; the log says why.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    environment = os.environ | limits | {"PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": ""}
    lines, launched = [], time.time()
    process = subprocess.Popen(
        command,
        cwd=log.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        with log.open("w", encoding="utf-8") as file:
            for line in process.stdout or ():
                lines.append((time.time() - launched, line))
                file.write(line)
    except BaseException:
        process.kill()
        raise
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"error: {command[0]} ended with {process.returncode}; see {log}")
    scale = 1 if sys.platform == "darwin" else 1024
    return Child(launched, lines, usage.ru_maxrss * scale / GIB)


def run_biapy(python: Path, config: Path, *, threads: int, patches: int, batch: int) -> Measured:
    """Run BiaPy on a configuration; ``patches`` is how many an epoch has."""
    work = config.parent
    main = work / "run_biapy.py"
    main.write_text(BIAPY_MAIN, encoding="utf-8")
    options = ["--config", str(config), "--result_dir", str(work), "--name", "job"]
    child = run_child([str(python), str(main), *options], work / "console.txt", threads)
    return Measured(
        patches_per_second=biapy_speed(child, patches, batch),
        start=next(when for when, line in child.lines if FIRST_STEP.search(line)),
        memory=child.memory,
        parameters=biapy_parameters(child),
        train_seconds=child.first("Finished Training") - child.first("~~~ Epoch 1/"),
        test_seconds=child.first("FINISHED JOB") - child.first("Finished Training"),
    )


def biapy_speed(child: Child, patches: int, batch: int) -> float:
    """Return the median over epochs of training patches a second; validations are left out.

    Raises
    ------
    SystemExit
        The console tells of no training.
    """
    text = "".join(line for _, line in child.lines)
    found = STEPS.search(text), FIRST_STEP.search(text)
    if found[0] is None or found[1] is None:
        raise SystemExit("error: BiaPy's console has no training step.")
    steps, first = int(found[0][1]), float(found[1][1])
    speeds: dict[int, float] = {}
    for epoch, a_step in EPOCH.findall(text):
        left, seconds = patches, float(a_step) * steps
        if int(epoch) == 1 and patches > batch:
            left, seconds = patches - batch, seconds - first
        # the validation that follows an epoch bears the same words: the first counts
        speeds.setdefault(int(epoch), left / seconds)
    return median(speeds.values())


def biapy_parameters(child: Child) -> int:
    """Return what the model summary on BiaPy's console says."""
    text = "".join(line for _, line in child.lines)
    found = PARAMETERS.search(text)
    return int(found[1].replace(",", "")) if found else 0


def run_ours(config: Path, results: Path, threads: int) -> Measured:
    """Run ours on a configuration; ``results`` is the run's own folder."""
    command = [sys.executable, "-m", "napari_ssl_pretrain", "run", "--config", str(config)]
    child = run_child([*command, "--overwrite"], config.parent / "console.txt", threads)
    summary = json.loads((results / "summary.json").read_text("utf-8"))
    events = [json.loads(line) for line in (results / "events.jsonl").read_text().splitlines()]
    first = next(e["time"] for e in events if e["kind"] == "step_finished")
    return Measured(
        patches_per_second=our_speed(events, summary["batch_size"]),
        start=first - child.launched,
        memory=child.memory,
        parameters=summary["parameters"],
        train_seconds=summary["seconds"]["train"],
        test_seconds=summary["seconds"]["test"],
    )


def our_speed(events: list[dict[str, Any]], batch: int) -> float:
    """Return the median over epochs of training patches a second, by the clock.

    ``summary.json`` counts the steps alone; here waiting for images counts as well, as it does
    in BiaPy's figure.
    """
    speeds, steps = [], []
    for event in events:
        if event["kind"] == "step_finished" and event["step"] >= WARM_UP_STEPS:
            steps.append((event["time"], event["step"]))
        elif event["kind"] in {"epoch_finished", "run_finished", "checkpoint_saved"}:
            if len(steps) > 1 and steps[-1][0] > steps[0][0]:
                (t0, s0), (t1, s1) = steps[0], steps[-1]
                speeds.append((s1 - s0, (s1 - s0) * batch / (t1 - t0)))
            steps = []
    longest = max(n for n, _ in speeds)
    return median(speed for n, speed in speeds if n >= longest / 2)
