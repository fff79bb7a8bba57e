"""Whole runs as a user starts them: in a process, through a pipe."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
import yaml
from PIL import Image

from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.run_dir import RunDir
from napari_ssl_pretrain.spec.status import read_events

pytestmark = pytest.mark.process

COMMAND = (sys.executable, "-m", "napari_ssl_pretrain")
FIELDS = {
    "name": "job",
    "result_dir": "out",
    "data": {"train": "images/train/x", "test": "images/test/x", "patch_size": [32, 32]},
    "pretext": {"task": "crappify"},
    "backbone": {"size": "tiny"},
    "training": {"epochs": 1, "steps_per_epoch": 2, "batch_size": 2},
    "compute": {"device": "cpu"},
}


@pytest.fixture
def place(images):
    (images.parent / "c.yaml").write_text(yaml.safe_dump(FIELDS))
    return images.parent


def run(place, *words):
    return subprocess.run(
        [*COMMAND, *words], cwd=place, capture_output=True, text=True, check=False
    )


def test_a_run_says_what_it_does_and_what_came_of_it(place):
    done = run(place, "run", "--config", "c.yaml")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].endswith("job (crappify), results go to out/job/results/job_1")
    assert lines[1].startswith("Images: 3 to train")
    for start in (
        "Training ",
        "step 1 of 2: loss ",
        "epoch 1 of 1: ",
        "Finished: 1 of 1 epoch",
        "Test images: ",
    ):
        assert any(line.startswith(start) for line in lines), (start, lines)
    assert "Results: out/job/results/job_1" in lines
    assert len(lines) < 16

    again = run(place, "run", "--config", "c.yaml")
    assert again.returncode == 2
    assert again.stderr.startswith("error: run_id: 1: this run exists already")

    checkpoint = str(RunDir(place / "out", "job").checkpoint("best"))
    words = (
        "predict",
        "--checkpoint",
        checkpoint,
        "--input",
        "images/test/x",
        "--output",
        "restored",
    )
    predicted = run(place, *words)
    assert predicted.returncode == 0, predicted.stderr
    assert "Written: 1 file in restored" in predicted.stdout
    (restored,) = (place / "restored").rglob("*.tif")
    assert restored.stem == "im3"

    listed = json.loads(run(place, "runs", "out", "--json").stdout)
    assert [(row["run"], row["state"]) for row in listed] == [("job_1", "finished")]


def test_json_is_the_events_file_and_ctrl_c_saves_the_state_for_a_resume(place):
    words = ("run", "--config", "c.yaml", "--json", "--set", "training.epochs=400")
    process = subprocess.Popen(
        [*COMMAND, *words], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if isinstance(ev.parse_event(line), ev.StepFinished):
            break
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "the state is being saved" in err
    events = [ev.parse_event(line) for line in [*lines, *rest.splitlines()]]
    job = RunDir(place / "out", "job")
    assert read_events(job) == events
    assert isinstance(events[0], ev.ProcessStarted)
    assert (events[-1].kind, events[-1].state) == ("run_finished", "stopped")

    epochs = json.loads(job.summary.read_text())["steps"] // 2 + 2
    done = run(place, "run", "--config", "c.yaml", "--resume", "--set", f"training.epochs={epochs}")
    assert done.returncode == 0, done.stderr
    summary = json.loads(job.summary.read_text())
    assert (summary["state"], summary["steps"]) == ("finished", 2 * epochs)


def test_a_reader_that_goes_away_does_not_end_the_run(place):
    process = subprocess.Popen(
        [*COMMAND, "run", "--config", "c.yaml", "--json"], cwd=place,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(120) == 0
    assert process.stderr.read() == ""
    assert read_events(RunDir(place / "out", "job"))[-1].state == "finished"


def test_ctrl_c_before_training_leaves_nothing_or_a_stopped_run(place):
    process = subprocess.Popen(
        [*COMMAND, "run", "--config", "c.yaml"],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err


def test_a_biapy_file_runs_as_it_is(place):
    theirs = {
        "PROBLEM": {
            "TYPE": "SELF_SUPERVISED",
            "NDIM": "2D",
            "SELF_SUPERVISED": {"PRETEXT_TASK": "masking"},
        },
        "DATA": {"PATCH_SIZE": "(32, 32, 3)", "TRAIN": {"PATH": "images/train/x"}},
        "MODEL": {
            "ARCHITECTURE": "mae",
            "VIT_EMBED_DIM": 48,
            "VIT_NUM_LAYERS": 1,
            "VIT_NUM_HEADS": 2,
        },
        "TRAIN": {"ENABLE": True, "EPOCHS": 1, "BATCH_SIZE": 2},
    }
    (place / "theirs.yaml").write_text(yaml.safe_dump(theirs))
    done = run(place, "run", "--config", "theirs.yaml", "--set", "training.steps_per_epoch=2")
    assert done.returncode == 0, done.stderr
    assert "BiaPy file, translated: PROBLEM.TYPE" in done.stdout
    assert "DATA.PATCH_SIZE says 3 channels, the images have 1: 1 are used" in done.stdout
    assert (
        place / "exp_results" / "theirs" / "checkpoints" / "theirs_1-checkpoint-best.pth"
    ).is_file()


def test_the_demonstration_runs(place):
    done = run(place, "demo", "--task", "crappify", "--minutes", "0.03", "--result_dir", "demo")
    assert done.returncode == 0, done.stderr
    assert "dB restored, " in done.stdout
    assert "Next: your own images:" in done.stdout
    restored = sorted(RunDir(place / "demo", "demo_crappify").per_image.glob("*.tif"))
    tests = sorted((place / "demo" / "crappify_images" / "test" / "x").glob("*.png"))
    assert [path.stem for path in restored] == [path.stem for path in tests]
    assert Image.open(tests[0]).mode == "RGB"


def test_two_processes_learn_what_one_learns(place):
    code = (
        "import sys; from napari_ssl_pretrain.cli import ranks;"
        f"sys.exit(ranks.supervise([*{COMMAND!r}, *sys.argv[2:]], [''] * int(sys.argv[1])))"
    )
    losses = {}
    for processes in (1, 2):
        words = ["run", "--config", "c.yaml", "--name", f"by{processes}", "--set",
                 "training.steps_per_epoch=3", "compute.precision=fp32"]  # fmt: skip
        start = [sys.executable, "-c", code, str(processes), *words]
        done = subprocess.run(start, cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Finished: ") == 1
        epochs = [
            e
            for e in read_events(RunDir(place / "out", f"by{processes}"))
            if e.kind == "epoch_finished"
        ]
        losses[processes] = epochs[-1].validation_loss
    assert losses[2] == pytest.approx(losses[1], rel=1e-4)
