"""What breaks around a run: kills, full and closed disks, lost images, clocks, a second start."""

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from run_samples import config, do, events, last_state, raising, run_of, stop_after

from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.engine import session, states
from napari_ssl_pretrain.engine.run import pretrain
from napari_ssl_pretrain.errors import ConfigError, RunFailed, UserError
from napari_ssl_pretrain.spec import claim

pytestmark = pytest.mark.usefixtures("quick")
KILLS = Path(__file__).parents[2] / "benchmarks" / "kill_and_resume.py"
LONG = {"epochs": 50, "steps_per_epoch": 4}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the lives are forked")
def test_killed_at_random_moments_the_weights_are_those_of_peace(tmp_path):
    words = [sys.executable, KILLS, "4", tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"identical": true' in done.stdout
    assert '"kills": 4' in done.stdout
    assert '"last_word": "finished"' in done.stdout


def test_many_steps_need_no_more_memory(tmp_path):
    words = [sys.executable, KILLS.with_name("soak.py"), "600", tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout)
    assert found["steps"] == 600
    assert found["growth_mb"] < 20
    assert found["log_bytes_a_step"]["events.jsonl"] < 200


# --- a second start ---


def test_the_second_start_of_a_run_is_refused(planes, monkeypatch):
    monkeypatch.setattr(claim, "SECONDS", 0.1)
    asked = config(planes, "masking", training=LONG)
    refused = []

    def stop():
        if not refused:
            for how in ({"resume": True}, {"overwrite": True}):
                with pytest.raises(ConfigError, match="under way already") as caught:
                    pretrain(asked, **how)
                refused.append(str(caught.value))
            return False
        return True

    do(asked, should_stop=stop)
    assert len(refused) == 2
    said = [e.kind for e in events(run_of(asked))]
    assert None not in events(run_of(asked))
    assert said.count("process_started") == said.count("run_finished") == 1
    do(asked.replace(training=asked.training.replace(epochs=1)), resume=True)  # free again


def test_a_run_that_came_and_went_while_another_looked_is_kept(planes):
    asked = config(planes, "masking")

    def emit(event):
        if event.kind == "data_checked":
            run_of(asked).results.mkdir(parents=True)
            run_of(asked).events.write_text("another one was here\n")

    with pytest.raises(ConfigError, match="exists already"):
        pretrain(asked, emit=emit)
    assert [p.name for p in run_of(asked).results.iterdir()] == ["events.jsonl"]
    assert run_of(asked).events.read_text() == "another one was here\n"


def test_a_lock_of_the_dead_holds_nobody_up(planes):
    asked = config(planes, "masking")
    do(asked, should_stop=stop_after(1))
    run_of(asked).lock.write_text("held by one that was killed")
    do(asked, resume=True)
    assert events(run_of(asked))[-1].state == "finished"


def test_what_a_killed_process_was_writing_is_removed(planes):
    asked = config(planes, "masking")
    do(asked, should_stop=stop_after(1))
    run = run_of(asked)
    torn = [run.checkpoints / f".{run.run_name}-checkpoint-last.pth.77.tmp", run.aug / ".a.7.part"]
    torn.append(run.results / ".napari-ssl-pretrain-77")
    other = run.checkpoints / ".job_12-checkpoint-last.pth.77.tmp"
    for path in (*torn, other):
        path.write_text("half")
    folders = [run.per_image / ".a.ome.zarr.7-00000000.part", run.per_image / ".a.ome.zarr.7.old"]
    for folder in folders:
        (folder / "0").mkdir(parents=True)
        (folder / "0" / ".zarray").write_text("half")
    do(asked, resume=True)
    assert not any(path.exists() for path in (*torn, *folders))
    assert other.exists()


# --- disks ---


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    mount = shutil.which("mount")
    words = [mount or "mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", place]
    if mount is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill_up(path):
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def test_a_full_disk_ends_the_run_with_a_sentence_and_whole_files(planes, small_disk):
    asked = config(planes, "masking", training=LONG, result_dir=str(small_disk))
    filler = small_disk / "filler"
    steps = []

    def fill():
        steps.append(0)
        if len(steps) == 6:
            fill_up(filler)
        return False

    with pytest.raises((RunFailed, UserError), match=r"(?i)no space|disk is full"):
        pretrain(asked, should_stop=fill)
    filler.unlink()
    state = last_state(asked)
    assert state["step"] >= 1
    do(asked.replace(training=asked.training.replace(epochs=3)), resume=True)
    assert events(run_of(asked))[-1].state == "finished"


def test_a_disk_that_is_full_already_changes_nothing(planes, small_disk):
    asked = config(planes, "masking", training=LONG, result_dir=str(small_disk))
    do(asked, should_stop=stop_after(2))
    filler = small_disk / "filler"
    fill_up(filler)
    before = run_of(asked).events.read_bytes()
    with pytest.raises(RunFailed, match="disk is full"):
        do(asked, resume=True)
    if run_of(asked).events.read_bytes() != before:  # there was room for some words
        assert events(run_of(asked))[-1].state == "failed"
    fresh = asked.replace(run_id=2)
    with pytest.raises(RunFailed, match="disk is full"):
        do(fresh)
    filler.unlink()
    do(asked.replace(training=asked.training.replace(epochs=2)), resume=True)
    assert None not in events(run_of(asked))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO])
def test_a_folder_that_closes_is_said(planes, monkeypatch, number):
    closed = OSError(number, os.strerror(number), "/disk/x.pth")
    monkeypatch.setattr(states, "save", raising(closed))
    monkeypatch.setattr(session, "write_summary", raising(closed))
    asked = config(planes, "masking")
    with pytest.raises(RunFailed, match=r"/disk/x.pth cannot be written any more .*resume"):
        do(asked)
    assert events(run_of(asked))[-1].state == "failed"


# --- images and clocks ---


@pytest.mark.parametrize("how", ["deleted", "cut", "replaced", "smaller"])
@pytest.mark.parametrize("memory", [0.001, 1e-6], ids=["kept", "read again"])
def test_images_that_change_while_it_trains(planes, how, memory):
    asked = config(planes, "masking", training=LONG, compute={"memory_gb": memory})
    steps = []

    def change():
        steps.append(0)
        if len(steps) == 3:
            for path in (planes / "images").iterdir():
                if how == "deleted":
                    path.unlink()
                elif how == "smaller":
                    write_array(path, np.zeros((17, 19), np.uint8), "YX")
                elif how == "cut":
                    path.write_bytes(path.read_bytes()[:200])
                else:
                    path.write_text("no image any more")
        return len(steps) > 20

    said = ""
    try:
        pretrain(asked, should_stop=change)
    except RunFailed as error:
        said = str(error)
    last = events(run_of(asked))[-1]
    assert last.kind == "run_finished"
    # what is kept in memory needs no file
    assert last.state == ("failed" if said else "stopped")
    assert said or memory > 1e-4
    assert not said or str(planes / "images") in said
    assert "Error:" not in said


def test_a_clock_that_jumps_changes_nothing(planes, monkeypatch):
    still = time.time()
    jumps = iter(np.random.default_rng(0).integers(-(10**6), 10**6, 10**6).tolist())
    asked = config(planes, "masking", training={"epochs": 3, "max_minutes": 5})
    calm = config(planes, "masking", name="calm", training={"epochs": 3, "max_minutes": 5})
    do(calm)
    monkeypatch.setattr(time, "time", lambda: still + next(jumps))
    result, said = do(asked)
    assert result.summary["steps"] == 6
    assert result.summary["state"] == "finished"
    assert all(e.seconds_left >= 0 for e in said if e.kind == "step_finished")
    assert result.summary["seconds"]["train"] < 1000
    for name, value in last_state(calm)["model"].items():
        assert value.equal(last_state(asked)["model"][name])


# --- sizes that no memory holds ---


def test_a_batch_that_no_memory_holds_is_refused(planes):
    with pytest.raises(ConfigError, match=r"training.batch_size: 2000000000: needs .* Use \d+"):
        do(config(planes, "masking", training={"batch_size": 2_000_000_000}))


def test_overwrite_follows_no_links(planes):
    asked = config(planes, "masking")
    do(asked)
    mine = planes / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("ten years")
    (run_of(asked).results / "link").symlink_to(mine)
    shutil.rmtree(run_of(asked).aug)
    run_of(asked).aug.symlink_to(mine)
    with pytest.raises(ConfigError, match="holds a link that leads out of it"):
        do(asked, overwrite=True)
    assert (mine / "thesis.txt").read_text() == "ten years"
    assert [p.name for p in mine.iterdir()] == ["thesis.txt"]
