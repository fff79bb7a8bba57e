"""Any number of processes do the same run; one that is gone, or wishes to stop, ends them all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rank_jobs import EVENTFUL, JOBS
from run_samples import write

from napari_ssl_pretrain.engine import checkpoint, world
from napari_ssl_pretrain.engine.ranks import ALONE, Ranks, is_lost, join
from napari_ssl_pretrain.spec.run_dir import RunDir
from napari_ssl_pretrain.spec.status import read_events

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")
SIZES = {"crappify": (1, 2, 4), "mae": (1, 2)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder where all the jobs have been done."""
    folder = tmp_path_factory.mktemp("ranks")
    for number in range(3):
        write(folder / "images" / f"{number}.tif", "YX", (48, 40), "uint8", number)
    write(folder / "others" / "t.tif", "YX", (32, 32), "uint8", 9)
    jobs = [f"{job}:{size}" for job in JOBS for size in SIZES[job]] + [
        f"{job}:2" for job in EVENTFUL
    ]
    script = Path(__file__).with_name("rank_jobs.py")
    words = [sys.executable, script, folder, *jobs]
    done = subprocess.run(words, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def ended(place, job, size=2):
    return json.loads((place / f"{job}_{size}.json").read_text())


def run_of(place, job, number=1):
    return RunDir(place / "results", job, number)


@pytest.mark.parametrize("job", JOBS)
def test_one_two_and_four_processes_agree(place, job):
    losses, scores, states = {}, {}, {}
    for size in SIZES[job]:
        assert ended(place, job, size) == [[0, "done"]] * size
        run = run_of(place, job, size)
        events = read_events(run)
        losses[size] = [e.loss for e in events if e.kind == "step_finished"]
        scores[size] = [
            [e.validation_loss, *e.metrics.values()] for e in events if e.kind == "epoch_finished"
        ]
        states[size] = checkpoint.load(run.checkpoint("last"))["model"]
        assert [e.kind for e in events].count("run_finished") == 1
    assert len(losses[1]) == 8
    for size in SIZES[job][1:]:
        np.testing.assert_allclose(losses[size], losses[1], rtol=1e-5)
        np.testing.assert_allclose(scores[size], scores[1], rtol=1e-4)
        for name, value in states[1].items():
            torch.testing.assert_close(states[size][name], value, rtol=1e-3, atol=1e-4)


def test_an_uneven_share_is_said_aloud(place):
    warned = [e.message for e in read_events(run_of(place, "crappify", 4)) if e.kind == "warned"]
    assert any(
        "5 is no multiple of the 4 processes: 3 of them take 1 of its patches" in w for w in warned
    )


@pytest.mark.parametrize(("job", "victim"), [("kill_first", 0), ("kill_second", 1)])
def test_a_process_that_is_killed_gives_one_sentence_and_an_end(place, job, victim):
    how = ended(place, job)
    assert how[victim][0] == -9
    assert how[1 - victim][0] == 1
    said = how[1 - victim][1]
    assert f"process {victim} (pid " in said
    assert "Resume the run" in said
    last = read_events(run_of(place, job))[-1]
    assert (last.kind, last.state, last.reason) == ("run_finished", "failed", "killed")
    assert last.message in said


@pytest.mark.parametrize("job", ["term_second", "stop_file"])
def test_a_wish_to_stop_is_honoured_by_all(place, job):
    assert ended(place, job) == [[0, "done"]] * 2
    last = read_events(run_of(place, job))[-1]
    assert (last.state, last.reason) == ("stopped", "stop")
    assert checkpoint.load(run_of(place, job).checkpoint("last"))["step"] in {3, 4}


def test_an_error_of_any_process_is_said_once(place):
    how = ended(place, "broken")
    assert [code for code, _ in how] == [1, 1]
    assert [bool(said) for _, said in how] == [True, False]
    assert "process 1 of 2" in how[0][1]
    assert "a cable is cut" in how[0][1]
    last = read_events(run_of(place, "broken"))[-1]
    assert (last.kind, last.state) == ("run_finished", "failed")
    assert "a cable is cut" in last.message


def test_processes_that_see_other_images_are_refused(place):
    how = ended(place, "other_images")
    assert [bool(said) for _, said in how] == [True, False]
    assert "sees other images or settings" in how[0][1]
    assert not run_of(place, "other_images").results.exists()


# --- what torchrun and Slurm say ---

SLURM = {
    "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "8", "SLURM_JOB_ID": "1234",
    "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "gpu[03-04]", "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
}  # fmt: skip


def test_what_srun_says_is_understood():
    environ = dict(SLURM)
    world.adopt_slurm(environ)
    assert environ["RANK"] == "5"
    assert environ["WORLD_SIZE"] == "8"
    assert environ["LOCAL_RANK"] == "1"
    assert environ["LOCAL_WORLD_SIZE"] == "4"
    assert environ["MASTER_ADDR"] == "gpu03"
    assert 20_000 <= int(environ["MASTER_PORT"]) < 40_000


def test_a_device_of_its_own_is_the_first():
    environ = SLURM | {"CUDA_VISIBLE_DEVICES": "3"}
    world.adopt_slurm(environ)
    assert environ["LOCAL_RANK"] == "0"


@pytest.mark.parametrize(
    "environ",
    [
        SLURM | {"RANK": "0", "WORLD_SIZE": "2"},  # torchrun inside of srun
        SLURM | {"SLURM_STEP_NUM_TASKS": "1"},
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"},  # the batch script itself
    ],
)
def test_slurm_is_left_alone_where_it_did_not_start_the_processes(environ):
    before = dict(environ)
    world.adopt_slurm(environ)
    assert environ == before


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("gpu[03-07,12],x", "gpu03"), ("a,b", "a"), ("r[1,2]-ib", "r1-ib"), ("", "")],
)
def test_the_first_node_of_a_list(nodes, first):
    assert world.first_node(nodes) == first


def test_alone_nothing_is_waited_for(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert join("auto") is ALONE
    assert Ranks().share(3) == range(3)
    assert ALONE.wait_for("anything") == ""
    assert ALONE.ending(RuntimeError("gloo")) is None
    monkeypatch.setenv("WORLD_SIZE", "4")  # without RANK: left over from something else
    assert world.size() == 1


def test_an_error_of_the_network_is_told_from_others():
    assert is_lost(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"))
    assert not is_lost(RuntimeError("CUDA out of memory"))
    assert not is_lost(ValueError("gloo"))
