"""How runs are refused, stopped, fail, end early, and go on."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from run_samples import config, do, events, run_of, smooth, summary, tree, write

from napari_ssl_pretrain.data.patches import PatchSource
from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.engine import checkpoint, feed, loop, session, states
from napari_ssl_pretrain.engine.run import pretrain
from napari_ssl_pretrain.errors import CheckpointError, ConfigError, DataError, RunFailed


@pytest.fixture(autouse=True)
def _no_charts(monkeypatch):
    monkeypatch.setattr(session, "draw_charts", lambda *_: None)
    monkeypatch.setattr(session, "draw_model_plot", lambda *_: None)
    monkeypatch.setattr(session, "VALIDATION_PIXELS", 8 * 16**2)


def stop_after(steps):
    count = iter(range(1, 10**9))
    return lambda: next(count) >= steps


def last_state(asked, which="last"):
    return checkpoint.load(run_of(asked).checkpoint(which))


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
    monkeypatch.setattr(loop, "LATE", 1e9)  # a busy machine must not change the plan
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
    assert plans == sorted(plans, reverse=True)
    assert result.summary["steps"] == plans[-1]
    assert last_state(asked)["schedule"]["steps"] == plans[-1]


def test_a_plan_outlives_a_crash(planes, monkeypatch):
    monkeypatch.setattr(loop, "LATE", 1e9)
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
    monkeypatch.setattr(loop, "LATE", 1e9)
    _, said = do(asked, resume=True)
    assert [e.kind for e in said].count("steps_planned") == 1
    assert said[-1].reason == "time"


def test_waiting_for_images_counts_as_training_time(planes, monkeypatch):
    real = PatchSource.draw

    def slow(*words):
        time.sleep(0.1)
        return real(*words)

    monkeypatch.setattr(PatchSource, "draw", slow)
    asked = config(planes, "masking", compute={"workers": 0})
    assert do(asked)[0].summary["patches_per_second"] < 10


# --- failures ---


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


def assert_failed(asked, text):
    last = events(run_of(asked))[-1]
    assert (last.kind, last.state, last.reason) == ("run_finished", "failed", "error")
    assert text in last.message
    assert summary(run_of(asked))["state"] == "failed"


def test_out_of_memory_names_the_knobs(planes, monkeypatch):
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB\nmore")
    monkeypatch.setattr(feed.Feed, "to_device", raising(error))
    asked = config(planes, "masking")
    with pytest.raises(RunFailed) as caught:
        do(asked)
    for knob in ("training.batch_size 2", "data.patch_size [16, 16]", "backbone.size", "on cpu"):
        assert knob in str(caught.value)
    assert "\n" not in str(caught.value)
    assert_failed(asked, "training.batch_size 2")


def test_a_full_disk_is_said_though_the_summary_cannot_be_written(planes, monkeypatch):
    full = OSError(28, "No space left on device", "/disk/x.pth")
    monkeypatch.setattr(states, "save", raising(full))
    monkeypatch.setattr(session, "write_summary", raising(full))
    asked = config(planes, "masking")
    with pytest.raises(RunFailed, match=r"disk is full \(/disk/x.pth\)"):
        do(asked)
    last = events(run_of(asked))[-1]
    assert (last.kind, last.state) == ("run_finished", "failed")


def test_interrupted_runs_say_so(planes):
    asked = config(planes, "masking")
    with pytest.raises(KeyboardInterrupt):
        do(asked, should_stop=raising(KeyboardInterrupt()))
    last = events(run_of(asked))[-1]
    assert (last.state, last.reason) == ("stopped", "interrupt")


def nonfinite_at(steps, monkeypatch):
    real, count = loop.pixel_loss, iter(range(1, 10**6))

    def loss(*words):
        return real(*words) * (float("nan") if next(count) in steps else 1.0)

    monkeypatch.setattr(loop, "pixel_loss", loss)


def test_a_nonfinite_loss_is_skipped_and_said(planes, monkeypatch):
    nonfinite_at({2}, monkeypatch)
    asked = config(planes, "masking")
    result, said = do(asked)
    assert result.summary["skipped_steps"] == 1
    assert [e.message for e in said if e.kind == "warned" and "non-finite" in e.message] == [
        "Step 2 had a non-finite loss and was skipped."
    ]
    assert all(v.isfinite().all() for v in last_state(asked)["model"].values())
    assert np.isfinite([e.train_loss for e in said if e.kind == "epoch_finished"]).all()


def test_a_loss_that_stays_nonfinite_ends_the_run(planes, monkeypatch):
    nonfinite_at(range(3, 1000), monkeypatch)
    asked = config(planes, "masking", training={"epochs": 50})
    with pytest.raises(RunFailed, match=r"learning_rate.*not finite.*Lower"):
        do(asked)
    assert_failed(asked, "training.learning_rate")


def test_a_nonfinite_validation_is_survived(planes, monkeypatch):
    bad = (float("nan"), {"hidden_mse": float("nan"), "hidden_mse_mean": float("inf")})
    monkeypatch.setattr(session.Validator, "__call__", lambda *_: bad)
    asked = config(planes, "masking")
    result, _ = do(asked)
    assert None not in events(run_of(asked))
    assert result.summary["state"] == "finished"
    assert "nan" not in run_of(asked).train_log.read_text()


@pytest.mark.parametrize("task", ["crappify", "masking"])
def test_odd_images_never_give_a_nonfinite_loss(tmp_path, task):
    spoilt = smooth((20, 20), 0).astype("float32")
    spoilt[3, 4], spoilt[0, 0] = np.nan, np.inf
    arrays = {
        "nan": spoilt,
        "constant": np.full((20, 20), 7, "float32"),
        "pixel": np.ones((1, 1), "float32"),
        "bright": smooth((20, 20), 1) * 1e30,
        "nothing": np.full((17, 17), np.nan, "float32"),
    }
    for name, array in arrays.items():
        for folder in ("images", "test"):
            (tmp_path / folder).mkdir(exist_ok=True)
            write_array(tmp_path / folder / f"{name}.tif", array, "YX")
    asked = config(tmp_path, task, training={"epochs": 3, "steps_per_epoch": 4})
    result, _ = do(asked)
    assert result.summary["skipped_steps"] == 0
    assert result.summary["state"] == "finished"
    assert all(np.isfinite(v) for v in result.summary["test"].values())
    assert len(run_of(asked).test_metrics.read_text().splitlines()) == 6


# --- bad input ---


def bad(**groups):
    return groups


BAD = {
    "no folder": (bad(data={"train": "no/such"}), "data.train"),
    "rank": (bad(data={"patch_size": [8, 16, 16]}), r"data.patch_size: \[8, 16, 16\]"),
    "token": (bad(pretext={"token_size": 5}), r"data.patch_size: \[16, 16\]: must be a multiple"),
    "one token": (bad(pretext={"token_size": 16}), "pretext.token_size"),
    "token rank": (bad(pretext={"token_size": [2, 4, 4]}), "pretext.token_size"),
    "odd": (bad(pretext={"token_size": 5}, data={"patch_size": [15, 15]}), "data.patch_size"),
    "flat": (bad(data={"ndim": 3, "patch_size": "auto"}), "ndim"),
    "channel": (bad(data={"channels": [7]}), "7"),
    "axes": (bad(data={"axes": "ZCYX"}), "axes"),
    "device": (bad(compute={"device": "cuda:99"}), "compute.device: cuda:99"),
    "fp16": (bad(compute={"precision": "fp16"}), "compute.precision: fp16"),
    "network": (bad(network={"name": "resnet"}), "backbone.name: resnet: is no known network"),
    "start": (bad(training={"load_checkpoint": "no.pth"}), "no.pth: no such file"),
    "start by name": (bad(training={"load_checkpoint": "best"}), "load_checkpoint: best"),
    "heads": (
        bad(network={"name": "mae_vit", "embed_dim": 15, "num_heads": 3}),
        "backbone.embed_dim: 15",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_anything_is_written(planes, case, monkeypatch):
    monkeypatch.chdir(planes)
    groups, text = BAD[case]
    before = tree(planes)
    said = []
    with pytest.raises((ConfigError, DataError, CheckpointError), match=text) as caught:
        pretrain(config(planes, "masking", **groups), emit=said.append)
    assert "\n" not in str(caught.value)
    assert tree(planes) == before
    assert {p.name for p in planes.iterdir()} == {"images", "test"}
    assert "run_started" not in {e.kind for e in said}


def test_crappify_refuses_what_it_cannot_use(planes):
    with pytest.raises(ConfigError, match=r"backbone.name: mae_vit: cannot learn crappify"):
        do(config(planes, "crappify", "mae_vit"))
    copies = planes / "mine"
    write(copies / "train" / "a.tif", "YX", (20, 20), "uint8")
    asked = config(
        planes,
        "crappify",
        data={"train": str(copies / "train")},
        pretext={"ssl_source_dir": str(copies)},
    )
    with pytest.raises(ConfigError, match="ssl_source_dir"):
        do(asked)
    assert not (planes / "results").exists()


def test_a_file_is_no_result_folder(planes):
    (planes / "results").write_text("mine")
    with pytest.raises(ConfigError, match=r"result_dir.*is a file"):
        do(config(planes, "masking"))
    assert (planes / "results").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"resume": True}, "no run to resume"),
        ({"resume": True, "overwrite": True}, "cannot go with"),
    ],
)
def test_impossible_wishes(planes, options, text):
    with pytest.raises(ConfigError, match=text):
        do(config(planes, "masking"), **options)
    assert not (planes / "results").exists()


def test_a_corrupt_file_is_skipped_by_name(planes):
    good = (planes / "images" / "a.tif").read_bytes()
    (planes / "images" / "torn.tif").write_bytes(good[: len(good) // 2])
    (planes / "images" / "text.tif").write_text("no image")
    result, said = do(config(planes, "masking"))
    told = " ".join([*(e.message for e in said if e.kind == "warned"), *checked(said).skipped])
    assert "torn.tif" in told
    assert "text.tif" in told
    assert result.summary["state"] == "finished"


def checked(said):
    (event,) = (e for e in said if e.kind == "data_checked")
    return event


# --- starting from other weights ---


def test_weights_to_start_from_by_name_and_by_path(planes):
    asked = config(planes, "masking")
    do(asked)
    trained = last_state(asked, "best")["model"]
    path = run_of(asked).checkpoint("best")
    for number, start in enumerate(("best", "last", str(path)), start=2):
        again = asked.replace(
            run_id=number, training=asked.training.replace(load_checkpoint=start, epochs=1)
        )
        _, said = do(again, should_stop=stop_after(1))
        (report,) = (e.message for e in said if e.kind == "warned" and "loaded" in e.message)
        assert report == f"{start}: 100% of the network loaded"
    fresh = config(planes, "masking", run_id=9)
    do(fresh, should_stop=stop_after(1))
    near, far = (
        sum(float((last_state(c)["model"][n] - v).square().sum()) for n, v in trained.items())
        for c in (again, fresh)
    )
    assert near < far


def test_weights_that_do_not_fit_are_refused(planes):
    asked = config(planes, "masking")
    do(asked)
    other = config(
        planes,
        "masking",
        "mae_vit",
        run_id=2,
        training={"load_checkpoint": str(run_of(asked).checkpoint("best"))},
    )
    with pytest.raises(CheckpointError, match=r"fits only 0% of the network"):
        do(other)
    assert not run_of(other).results.exists()
    assert Path(run_of(asked).checkpoint("best")).exists()
