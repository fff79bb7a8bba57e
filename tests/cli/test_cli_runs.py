from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict
from time import sleep

import pytest

from napari_ssl_pretrain.cli import runs
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.heartbeat import Owner
from napari_ssl_pretrain.spec.run_dir import RunDir


def write_run(root, name, *more, pid=None, host=None):
    run = RunDir(root, name, 1)
    run.results.mkdir(parents=True)
    first = ev.ProcessStarted(pid=pid or os.getpid(), host=host or socket.gethostname(), config="")
    started = ev.RunStarted(
        task="crappify", backbone="unet", parameters=1, device="cpu", precision="fp32",
        patch_size=(8, 8), batch_size=1, epochs=4, steps_per_epoch=5, steps=20,
    )  # fmt: skip
    step = ev.StepFinished(
        step=5, steps=20, epoch=1, loss=1, learning_rate=1, patches_per_second=1, seconds_left=90
    )
    epoch = ev.EpochFinished(
        epoch=1,
        epochs=4,
        step=5,
        train_loss=1,
        validation_loss=0.25,
        metrics={},
        learning_rate=1,
        best=True,
    )
    run.events.write_text(
        "".join(event.to_line() for event in (first, started, step, epoch, *more))
    )
    return run


@pytest.fixture
def three(here):
    root = here / "exp_results"
    write_run(root, "going")
    killed = write_run(root, "killed", pid=2**22 + 1)
    killed.checkpoints.mkdir()
    killed.checkpoint("last").touch()
    done = write_run(
        root,
        "done",
        ev.RunFinished(state="finished", reason="done", epochs_done=4, epochs_planned=4),
    )
    done.summary.write_text(json.dumps({"test": {"psnr": 30.0, "psnr_input": 28.5}}))
    return root


@pytest.mark.usefixtures("three")
def test_runs_are_listed_with_state_progress_and_score(say):
    lines = say("runs").out.splitlines()
    assert lines[0].split()[:3] == ["run", "task", "state"]
    by_name = {line.split()[0]: line for line in lines[1:]}
    assert "training" in by_name["going_1"]
    assert "25 %, 1 min 30 s left" in by_name["going_1"]
    assert "died (resume it)" in by_name["killed_1"]
    assert "finished" in by_name["done_1"]
    assert "PSNR 30.00 (+1.50)" in by_name["done_1"]
    assert all("0.2500" in line for line in by_name.values())


def test_json_and_single_folders(three, say):
    rows = json.loads(say("runs", str(three), "--json").out)
    assert {row["state"] for row in rows} == {"training", "died", "finished"}
    rows = json.loads(say("runs", str(three / "done"), "--json").out)
    assert [row["run"] for row in rows] == ["done_1"]
    assert rows[0]["test"] == {"psnr": 30.0, "psnr_input": 28.5}


@pytest.mark.usefixtures("here")
def test_no_runs_are_no_error(say):
    said = say("runs")
    assert (said.code, "No runs under" in said.out) == (0, True)


def test_a_run_of_another_machine_is_watched_before_it_is_called_silent(here, say, monkeypatch):
    monkeypatch.setattr(runs, "WATCHED", 0.1)
    living, gone = write_run(here, "living", host="far"), write_run(here, "gone", host="far")
    gone.checkpoints.mkdir()
    gone.checkpoint("last").touch()
    for run in (living, gone):
        owner = Owner(os.getpid(), "far", "", "", "t")
        run.heartbeat.write_text(json.dumps(asdict(owner)))
        os.utime(run.heartbeat, (10**9, 10**9))
    monkeypatch.setattr(
        runs.time, "sleep", lambda s: (sleep(s), os.utime(living.heartbeat, (10**9, 10**9 + 1)))
    )
    said = say("runs", str(here))
    by_name = {line.split()[0]: line for line in said.out.splitlines()[1:]}
    assert "training on far" in by_name["living_1"]
    assert "silent" in by_name["gone_1"]
    assert "gone_1: No sign of life from far for" in said.out
    assert "2 runs on other machines" in said.err
