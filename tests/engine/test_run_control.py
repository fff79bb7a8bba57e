"""How runs are stopped, end early, and go on as if they had never been stopped."""

import signal
import subprocess
import sys
import time

import pytest
import torch
from run_samples import config, do, events, last_state, raising, run_of, stop_after, summary, tree

from napari_ssl_pretrain.data.patches import PatchSource
from napari_ssl_pretrain.engine import feed, loop
from napari_ssl_pretrain.engine.run import pretrain
from napari_ssl_pretrain.errors import ConfigError, RunFailed

pytestmark = pytest.mark.usefixtures("quick")


def assert_equal(one, two):
    """Compare nested states bit by bit."""
    assert type(one) is type(two)
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_equal(one[key], two[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_equal(a, b)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    else:
        assert one == two


def training_of(state):
    """Return all of a state but what the clock says."""
    clock = {"seconds", "epoch_seconds", "patches_per_second", "elapsed"}
    kept = {k: v for k, v in state["state"].items() if k not in {*clock, "history"}}
    rows = [{k: v for k, v in row.items() if k not in clock} for row in state["state"]["history"]]
    return {
        **{k: state[k] for k in ("model", "optimizer", "step", "metrics")},
        **kept,
        "rows": rows,
    }


JOBS = {
    "crappify": ("crappify", "residual_unet"),
    "masking": ("masking", "residual_unet"),
    "mae": ("masking", "mae_vit"),
}


@pytest.mark.parametrize("job", JOBS)
def test_stopped_twice_and_resumed_is_the_same_run(planes, job):
    training = {"epochs": 3, "steps_per_epoch": 3}
    straight = config(planes, *JOBS[job], name="straight", training=training)
    halted = config(planes, *JOBS[job], name="halted", training=training)
    do(straight)
    result, said = do(halted, should_stop=stop_after(2))
    assert said[-1].state == result.summary["state"] == "stopped"
    assert said[-1].reason == "stop"
    assert last_state(halted)["step"] == 2
    do(halted, resume=True, should_stop=stop_after(3))
    assert last_state(halted)["step"] == 5
    more_workers = halted.replace(compute=halted.compute.replace(workers=3))
    result, said = do(more_workers, resume=True)
    assert said[0].resumed
    assert (said[-1].state, said[-1].reason) == ("finished", "done")
    assert_equal(training_of(last_state(straight)), training_of(last_state(halted)))
    assert_equal(last_state(straight, "best")["model"], last_state(halted, "best")["model"])
    written = events(run_of(halted))
    assert [e.kind for e in written].count("run_finished") == 3
    assert written[-1].kind == "run_finished"
    log = run_of(halted).train_log.read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["epoch", "1", "2", "3"]


CHILD = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from napari_ssl_pretrain.engine import session
from napari_ssl_pretrain.engine.run import pretrain
from napari_ssl_pretrain.spec.config import PretrainConfig
session.SAVE_SECONDS = 0
session.VALIDATION_PIXELS = 8 * 16**2
steps = iter(range(1, 100))
def killed():
    if next(steps) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return False
pretrain(PretrainConfig.from_yaml(sys.argv[1]), should_stop=killed, resume=len(sys.argv) > 3)
"""


@pytest.mark.process
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX")
def test_killed_and_resumed_is_the_same_run(planes):
    training = {"epochs": 2, "steps_per_epoch": 4}
    straight = config(planes, "masking", name="straight", training=training)
    killed = config(planes, "masking", name="killed", training=training)
    do(straight)
    path = planes / "killed.yaml"
    path.write_text(killed.to_yaml())
    for words in (["3"], ["3", "resume"]):
        child = subprocess.run([sys.executable, "-c", CHILD, str(path), *words], check=False)
        assert child.returncode == -signal.SIGKILL
    assert 3 < last_state(killed)["step"] < 8
    do(killed, resume=True)
    assert_equal(training_of(last_state(straight)), training_of(last_state(killed)))
    assert_equal(last_state(straight, "best")["model"], last_state(killed, "best")["model"])
    assert [e.kind for e in events(run_of(killed))].count("process_started") == 3


def test_a_run_without_a_state_is_resumed_from_the_start(planes, monkeypatch):
    asked = config(planes, "masking")
    with monkeypatch.context() as patch:
        patch.setattr(feed.Feed, "to_device", raising(RuntimeError("boom")))
        with pytest.raises(RunFailed, match="boom"):
            do(asked)
    assert not run_of(asked).checkpoint("last").exists()
    assert do(asked, resume=True)[0].summary["steps"] == 4


def test_resume_refuses_another_network(planes):
    asked = config(planes, "masking")
    do(asked, should_stop=stop_after(1))
    before = tree(planes)
    other = asked.replace(backbone=asked.backbone.replace(features_per_stage=(4, 16)))
    with pytest.raises(ConfigError, match=r"backbone: differs .* in options"):
        do(other, resume=True)
    assert tree(planes) == before


def test_more_epochs_go_on_from_a_finished_run(planes):
    asked = config(planes, "masking", data={"validation_fraction": 0}, training={"epochs": 1})
    do(asked)
    first = last_state(asked, "best")
    result, _ = do(asked.replace(training=asked.training.replace(epochs=2)), resume=True)
    assert result.summary["steps"] == 4
    # without validation the last state is the best
    best = last_state(asked, "best")
    assert best["step"] == 4 > first["step"]
    assert_equal(best["model"], last_state(asked)["model"])


# --- the same name again ---


def test_a_changed_setting_is_said_on_resume(planes):
    do(config(planes, "crappify"))
    _, heard = do(config(planes, "crappify", training={"epochs": 2, "seed": 5}), resume=True)
    said = [e.message for e in heard if e.kind == "warned"]
    assert any("training.seed is 5, it was" in sentence for sentence in said)
    assert not any("epochs" in sentence for sentence in said)


def test_images_in_the_own_result_folder_are_refused(planes):
    asked = config(planes, "crappify")
    do(asked)
    copies = run_of(asked).ssl_source() / "train"
    before = tree(planes)
    again = config(planes, "crappify", data={"train": str(copies), "test": None})
    with pytest.raises(ConfigError, match="lies in the result folder of this very run"):
        do(again, overwrite=True)
    assert tree(planes) == before


def test_another_run_id_stands_beside_the_first(planes):
    one = config(planes, "masking")
    two = one.replace(run_id=2)
    do(one)
    before = tree(run_of(one).results) | tree(run_of(one).checkpoints)
    do(two)
    after = tree(run_of(one).results) | tree(run_of(one).checkpoints)
    assert {name: after[name] for name in before} == before
    names = {p.name for p in run_of(one).results.parent.iterdir()}
    assert names == {"job_1", "job_2"}


def test_the_same_run_id_is_refused_and_overwrite_begins_anew(planes):
    asked = config(planes, "masking")
    do(asked)
    stray = run_of(asked).results / "aug" / "stray.tif"
    stray.write_bytes(b"")
    before = tree(planes)
    with pytest.raises(ConfigError, match=r"run_id: 1: this run exists already .*--overwrite"):
        do(asked)
    assert tree(planes) == before
    do(asked, overwrite=True)
    assert not stray.exists()
    assert [e.kind for e in events(run_of(asked))].count("process_started") == 1


@pytest.mark.parametrize("asked_by", ["file", "callback"])
def test_a_wish_to_stop_ends_the_run_in_order(planes, asked_by):
    asked = config(planes, "crappify", training={"epochs": 50})
    run = run_of(asked)

    def emit(event):
        if asked_by == "file" and event.kind == "checkpoint_saved":
            run.stop_file.touch()

    stop = stop_after(2) if asked_by == "callback" else None
    result = pretrain(asked, emit=emit, should_stop=stop)
    assert result.summary["steps"] < 10
    last = events(run)[-1]
    assert (last.kind, last.state, last.reason) == ("run_finished", "stopped", "stop")
    assert (summary(run)["state"], summary(run)["reason"]) == ("stopped", "stop")
    assert run.checkpoint("best").exists()
    do(asked.replace(training=asked.training.replace(epochs=5)), resume=True)
    assert summary(run)["state"] == "finished"


# --- early ends ---


def test_patience(planes, monkeypatch):
    monkeypatch.setattr(loop, "learning_rate_at", lambda *_: 0.0)  # nothing ever improves
    asked = config(planes, "masking", training={"epochs": 50, "patience": 3})
    result, said = do(asked)
    assert (said[-1].state, said[-1].reason) == ("finished", "patience")
    assert result.summary["epochs"] == 4
    assert [e.best for e in said if e.kind == "epoch_finished"] == [True, False, False, False]
    assert result.summary["test"]


def test_without_validation_nothing_is_lost_patience_about(planes):
    asked = config(
        planes, "masking", data={"validation_fraction": 0}, training={"epochs": 4, "patience": 1}
    )
    result, said = do(asked)
    assert (said[-1].reason, result.summary["epochs"]) == ("done", 4)
    assert result.summary["best_validation_loss"] is None


MINUTES = {"epochs": "auto", "max_minutes": 0.03, "steps_per_epoch": 20}


def test_minutes_become_steps_that_a_resume_keeps(planes, monkeypatch):
    monkeypatch.setattr(loop, "OFF", 1e9)  # a busy machine must not change the plan
    asked = config(planes, "masking", training=MINUTES)
    plans = []

    def emit(event):
        if event.kind == "steps_planned":
            plans.append(event.steps)

    pretrain(asked, emit=emit, should_stop=lambda: bool(plans))
    (planned,) = plans
    stopped_at = last_state(asked)["step"]
    assert last_state(asked)["schedule"] == {"steps": planned, "planned": True}
    assert 8 <= stopped_at < planned
    result, said = do(asked, resume=True)
    assert not [e for e in said if e.kind == "steps_planned"]
    (start,) = (e for e in said if e.kind == "run_started")
    assert (start.step, start.steps) == (stopped_at, planned)
    assert result.summary["steps"] == planned
    assert (said[-1].state, said[-1].reason) == ("finished", "time")
    assert said[-1].epochs_done == said[-1].epochs_planned == -(-planned // 20)


def test_a_plan_is_cut_when_steps_become_slow(planes, monkeypatch):
    real, plans = PatchSource.draw, []

    def draw(*words):
        time.sleep(0.02 if plans else 0)
        return real(*words)

    def emit(event):
        if event.kind == "steps_planned":
            plans.append(event.steps)

    monkeypatch.setattr(PatchSource, "draw", draw)
    asked = config(planes, "masking", training=MINUTES)
    result = pretrain(asked, emit=emit)
    assert len(plans) > 1
    assert min(plans[1:]) < plans[0]
    assert result.summary["steps"] == plans[-1]
    assert last_state(asked)["schedule"]["steps"] == plans[-1]


def test_a_plan_outlives_a_crash(planes, monkeypatch):
    monkeypatch.setattr(loop, "OFF", 1e9)
    asked = config(planes, "masking", training=MINUTES)
    plans, left = [], [3]

    def emit(event):
        if event.kind == "steps_planned":
            plans.append(event.steps)

    def crash():
        left[0] -= bool(plans)
        if not left[0]:
            raise RuntimeError("boom")
        return False

    with pytest.raises(RunFailed, match="boom"):
        pretrain(asked, emit=emit, should_stop=crash)
    assert last_state(asked)["schedule"] == {"steps": plans[0], "planned": True}


def test_a_run_resumed_before_its_plan_makes_one(planes, monkeypatch):
    asked = config(planes, "masking", training=MINUTES)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "PLAN_AFTER_SHARE", 1e9)
        do(asked, should_stop=stop_after(12))
    assert not last_state(asked)["state"]["planned"]
    monkeypatch.setattr(loop, "PLAN_AFTER_SHARE", 0)
    monkeypatch.setattr(loop, "OFF", 1e9)
    steps, planned_after = [], []

    def emit(event):
        if event.kind == "steps_planned":
            planned_after.append(len(steps))

    pretrain(asked, emit=emit, resume=True, should_stop=lambda: steps.append(0))
    said = events(run_of(asked))
    assert planned_after == [loop.PLAN_AFTER_STEPS]  # speed is measured before it is used
    assert said[-1].reason == "time"


def test_waiting_for_images_counts_as_training_time(planes, monkeypatch):
    real = PatchSource.draw

    def slow(*words):
        time.sleep(0.1)
        return real(*words)

    monkeypatch.setattr(PatchSource, "draw", slow)
    asked = config(planes, "masking", compute={"workers": 0})
    assert do(asked)[0].summary["patches_per_second"] < 10
