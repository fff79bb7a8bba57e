"""Removing a run: its own files and nothing else."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest
from run_tree import DEAD, write_run

from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.runner import removal
from napari_ssl_pretrain.runner.removal import plan_removal, remove
from napari_ssl_pretrain.spec import claim, heartbeat
from napari_ssl_pretrain.spec.run_dir import RunDir

if TYPE_CHECKING:
    from pathlib import Path


def files(root: Path) -> set[str]:
    return {str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir()}


def test_only_what_is_its_own_goes(tmp_path):
    one, two = write_run(tmp_path, run_id=1), write_run(tmp_path, run_id=2)
    one.normalization_mean.write_bytes(b"m")
    before = files(tmp_path)
    planned = plan_removal(one)
    own = {p for p in before if "job_1" in p}
    assert planned.files == len(own)
    assert planned.size == sum((tmp_path / p).stat().st_size for p in own)
    assert remove(planned) == []
    assert files(tmp_path) == before - own
    assert one.config.exists()
    assert two.events.exists()
    remove(plan_removal(two))
    assert files(tmp_path) == {
        "job/config_files/job.yaml",
        "job/checkpoints/normalization_mean_value.npy",
    }
    assert not (one.job / "results").exists(), "folders that are empty now go too"


@pytest.mark.parametrize(
    "options", [{"time": time.time()}, {"pid": DEAD, "host": "another"}], ids=["here", "elsewhere"]
)
def test_a_run_under_way_stays(tmp_path, options):
    run = write_run(tmp_path, state=None, **options)
    before = files(tmp_path)
    with pytest.raises(ConfigError, match=r"is under way on .* Stop it first"):
        plan_removal(run)
    assert files(tmp_path) == before


def test_a_run_that_begins_after_the_question_stays(tmp_path):
    planned = plan_removal(write_run(tmp_path))
    write_run(tmp_path, state=None, time=time.time())
    with pytest.raises(ConfigError, match="under way"):
        remove(planned)
    assert planned.run.checkpoint("last").exists()


def test_a_run_that_is_held_stays_though_its_events_say_it_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "SECONDS", 0.05)
    planned = plan_removal(write_run(tmp_path))
    with claim.held(planned.run):
        before = files(tmp_path)
        with pytest.raises(ConfigError, match="job_1: is under way already"):
            remove(planned)
        assert files(tmp_path) == before
    remove(planned)
    assert not planned.run.results.exists()


@pytest.mark.parametrize("lives", [True, False])
def test_a_silent_run_of_another_machine_is_watched_before_it_goes(tmp_path, monkeypatch, lives):
    monkeypatch.setattr(heartbeat, "QUIET_SECONDS", 0.4)
    run = write_run(tmp_path, state=None, pid=DEAD, host="another")
    run.heartbeat.write_text(json.dumps(asdict(heartbeat.Owner(DEAD, "another", "", "", "t"))))
    os.utime(run.heartbeat, (10**9, 10**9))
    planned = plan_removal(run)
    if not lives:
        remove(planned)
        assert not run.results.exists()
        return
    later = threading.Timer(0.2, os.utime, (run.heartbeat, (10**9, 10**9 + 1)))
    later.start()
    with pytest.raises(ConfigError, match=r"under way already .* on another"):
        remove(planned)
    later.join()
    assert run.checkpoint("last").exists()


def test_links_are_not_followed(tmp_path):
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "precious.txt").write_text("keep")
    run = write_run(tmp_path / "exp")
    (run.results / "link").symlink_to(canary, target_is_directory=True)
    (run.aug / "file").symlink_to(canary / "precious.txt")
    run.checkpoint("best").unlink()
    run.checkpoint("best").symlink_to(canary / "precious.txt")
    remove(plan_removal(run))
    assert not run.results.exists()
    assert not run.checkpoint("best").is_symlink()
    assert (canary / "precious.txt").read_text() == "keep"


@pytest.mark.parametrize("which", ["results", "job", "parent", "checkpoints"])
def test_a_folder_that_is_a_link_is_left_alone(tmp_path, which):
    run = write_run(tmp_path / "exp")
    folder = {"results": run.results, "job": run.job, "parent": run.results.parent}.get(
        which, run.checkpoints
    )
    moved = tmp_path / "elsewhere" / folder.name
    moved.parent.mkdir()
    folder.rename(moved)
    folder.symlink_to(moved, target_is_directory=True)
    before = files(tmp_path / "elsewhere")
    if which == "checkpoints":
        remove(plan_removal(run))  # the run goes; what lies behind the link is not its own
        assert files(tmp_path / "elsewhere") == before
        return
    with pytest.raises(ConfigError, match="a link to one"):
        plan_removal(run)
    assert files(tmp_path / "elsewhere") == before


@pytest.mark.parametrize("text", ["", "garbage\n", "{}\n"])
def test_what_tells_of_no_run_is_left_alone(tmp_path, text):
    run = write_run(tmp_path)
    run.events.write_text(text)
    with pytest.raises(ConfigError, match=r"not known as a run .*by hand"):
        plan_removal(run)


@pytest.mark.parametrize(("name", "run_id"), [("..", 1), ("a/b", 1), ("job", 7)])
def test_names_that_lead_elsewhere_are_refused(tmp_path, name, run_id):
    write_run(tmp_path)
    with pytest.raises(ConfigError, match="is no folder that a run made"):
        plan_removal(RunDir(tmp_path, name, run_id))


def test_into_the_trash_or_not_at_all(tmp_path):
    run = write_run(tmp_path)
    before = files(tmp_path)
    assert remove(plan_removal(run), lambda _path: False) == list(plan_removal(run).paths)
    assert files(tmp_path) == before
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    assert remove(plan_removal(run), lambda path: bool(path.rename(bin_ / path.name))) == []
    assert {p.name for p in bin_.iterdir()} == {
        "job_1",
        "job_1_resolved.yaml",
        "job_1-checkpoint-best.pth",
        "job_1-checkpoint-last.pth",
    }


def test_what_cannot_be_deleted_can_be_deleted_later(tmp_path, monkeypatch):
    run = write_run(tmp_path)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(removal.shutil, "rmtree", refuse)
        with pytest.raises(ConfigError, match=r"cannot be deleted \(Permission denied\)"):
            remove(plan_removal(run))
    assert run.events.exists(), "its events go last: it is still known as a run"
    remove(plan_removal(run))
    assert not run.results.exists()
