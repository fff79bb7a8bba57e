from __future__ import annotations

import logging
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from napari_ssl_pretrain.cli import runs
from napari_ssl_pretrain.cli.parser import build, parse


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["rnu"], "command: rnu: is no command. Did you mean run?"),
        (["xyz"], "Commands: run, demo, check"),
        (["run"], "--config: is required. Add --config F"),
        (["run", "--config"], "--config: needs one value"),
        (["run", "--confg", "x"], "--confg: is no option of this command. Did you mean --config?"),
        (["run", "--config", "x", "extra"], "extra: is one word too many"),
        (["run", "--config", "x", "--set", "epochs"], "epochs: must be key=value"),
        (["demo", "--task", "maskin"], "--task: maskin: must be one of crappify, masking, both"),
        (["demo", "--minutes", "soon"], "--minutes: soon: must be a number of minutes above 0"),
        (["check"], "needs either a folder or --config"),
        (["check", "x", "--config", "y"], "needs either a folder or --config"),
        (["new"], "--output: is required"),
        (["new", "-o", "new.yaml"], "--template: is required. One of 2d-crappify"),
        (["new", "-o", "new.yaml", "--template", "4d"], "--template: 4d: must be one of"),
        (["runs", "nowhere"], "runs: nowhere: no such folder"),
        (["predict", "--input", "x", "--output", "y"], "--checkpoint: is required"),
        (["--nothing"], "--nothing: is no option"),
    ],
)
def test_wrong_words_are_one_line_with_a_remedy(here, say, words, fragment):
    if "epochs" in words:
        (here / "x").write_text("data: {train: .}\npretext: {task: crappify}\n")
    said = say(*words)
    assert said.code == 2
    assert fragment in said.error
    assert said.error.rstrip(".?")[-1] != ":"


def test_options_take_dashes_and_underscores_alike():
    dashed = parse(["run", "--config", "a_b", "--result-dir", "c-d", "--run-id=3"])
    scored = parse(["run", "--config", "a_b", "--result_dir", "c-d", "--run_id=3"])
    assert vars(dashed) == vars(scored)
    assert (dashed.config, dashed.result_dir, dashed.run_id) == ("a_b", "c-d", "3")


def test_every_command_has_help_and_a_module(say):
    _, commands = build()
    wanted = "run demo check new predict export transfer features runs doctor"
    assert set(commands) == set(wanted.split())
    for command in commands:
        said = say(command, "--help")
        assert said.code == 0
        assert "usage:" in said.out


def test_no_words_show_the_help(say):
    said = say()
    assert said.code == 0
    assert "to begin:" in said.out


def test_version(say):
    assert say("--version").out.startswith("napari-ssl-pretrain 0.")


def test_help_comes_at_once():
    def seconds() -> float:
        began = time.perf_counter()
        words = [sys.executable, "-m", "napari_ssl_pretrain", "--help"]
        subprocess.run(words, check=True, capture_output=True)
        return time.perf_counter() - began

    assert min(seconds() for _ in range(3)) < 0.5


def test_an_unforeseen_error_is_one_line_and_debug_shows_it_whole(say, monkeypatch):
    def broken(_):
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(runs, "command", broken)
    said = say("runs", ".")
    assert said.code == 1
    assert "ZeroDivisionError: two lines" in said.error
    said = say("runs", ".", "--debug")
    assert "Traceback" in said.err


def test_ctrl_c_before_training_exits_with_130(say, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "command", interrupted)
    assert say("runs", ".").code == 130


def test_other_packages_are_kept_quiet(say, monkeypatch):
    def noisy(_):
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.getLogger("some.library").error("it is not so bad")
        return 0

    monkeypatch.setattr(runs, "command", noisy)
    said = say("runs", ".")
    assert (said.code, said.out, said.err) == (0, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_the_output_is_said_and_hides_no_exit_code(tmp_path):
    command = [sys.executable, "-m", "napari_ssl_pretrain"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, "runs", tmp_path],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (
            1,
            "error: output: the disk is full. Free some space.\n",
        )
        words = [*command, "run", "--config", "none.yaml"]
        done = subprocess.run(words, stdout=full, stderr=full, check=False)
        assert done.returncode == 2
