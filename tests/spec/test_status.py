"""Events survive their file, a run's state follows from them, and runs are found on disk."""

import os
import socket
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.run_dir import CHECK_KINDS, RunDir
from napari_ssl_pretrain.spec.status import process_lives, read_events, status_of

STARTED = ev.ProcessStarted(pid=os.getpid(), host=socket.gethostname(), config="a: ü\n")
TRAINING = ev.RunStarted(
    task="masking",
    backbone="unet",
    parameters=9,
    device="cpu",
    precision="fp32",
    patch_size=(8, 8),
    batch_size=2,
    epochs=3,
    steps_per_epoch=4,
    steps=12,
)
STEP = ev.StepFinished(
    step=5,
    steps=10,
    epoch=2,
    loss=0.5,
    learning_rate=1e-3,
    patches_per_second=50.0,
    seconds_left=7.0,
)


def epoch(number, loss):
    return ev.EpochFinished(
        epoch=number,
        epochs=3,
        step=4 * number,
        train_loss=1.0,
        validation_loss=loss,
        metrics={"psnr": 20.0},
        learning_rate=1e-3,
        best=True,
    )


ALL = [
    STARTED,
    ev.DataChecked(train=3, validation=0, test=1, ndim=2, axes="YX", channels=1, notes=("a\nb",)),
    ev.Progress(stage="prepare", done=1, total=2, seconds_left=None),
    TRAINING,
    ev.StepsPlanned(steps=10, epochs=3, seconds_a_step=0.1),
    STEP,
    epoch(1, 0.25),
    ev.ImageSaved(image_kind="masked", image="a", path="p.tif", source="s.tif", axes="YX", step=4),
    ev.CheckpointSaved(which="best", path="p.pth", step=4),
    ev.FineTuned(arm="scratch", n_labels=2, seed=0, iou=0.5),
    ev.Warned(message="\u2028 line separator, \x85 and ü"),
    ev.RunFinished(state="finished", reason="done", epochs_done=3, epochs_planned=3),
]


def test_there_is_one_of_every_event():
    assert {type(e) for e in ALL} == set(ev.AnyEvent.__args__)


@pytest.mark.parametrize("event", ALL, ids=lambda e: e.kind)
def test_events_survive_their_line(event):
    line = event.to_line()
    assert line.endswith("\n")
    assert len(line.splitlines()) == 1
    assert ev.parse_event(line) == event
    # the last line may be torn anywhere; nothing is made of a part
    assert all(ev.parse_event(line[:k]) is None for k in range(len(line) - 1))


@pytest.mark.parametrize(
    "line", ["", "{}", "[]", "3", "null", '{"kind": "new_kind"}', '{"kind": "warned", "x": 1}', "{"]
)
def test_foreign_lines_are_nothing(line):
    assert ev.parse_event(line) is None


@given(st.text())
def test_no_line_makes_reading_fail(line):
    assert ev.parse_event(line) is None


def test_a_number_that_is_none_cannot_be_said():
    with pytest.raises(ValueError, match="not JSON compliant"):
        STEP.replace(loss=float("nan")).to_line()


def test_only_whole_lines_are_read(tmp_path):
    run = RunDir(tmp_path, "job")
    assert read_events(run) == []
    run.results.mkdir(parents=True)
    lines = "".join(e.to_line() for e in ALL)
    run.events.write_text(lines[:-20], encoding="utf-8")
    assert read_events(run) == ALL[:-1]
    run.events.write_text(lines[:-20] + "\n" + STARTED.to_line(), encoding="utf-8")
    assert read_events(run) == [*ALL[:-1], STARTED]


# --- status ---


def test_the_status_follows_the_events():
    states = []
    status = status_of([])
    assert (status.state, status.ended, status.pid) == ("starting", False, None)
    for event in ALL:
        status = status.after(event)
        states.append(status.state)
        assert status.last_seen == event.time
    assert states == [
        *("starting", "preparing", "preparing", "training", "training", "training", "training"),
        *("training", "training", "training", "training", "finished"),
    ]
    assert status == status_of(ALL)
    assert status.ended
    assert (status.task, status.step, status.steps, status.epoch) == ("masking", 4, 10, 1)
    assert (status.loss, status.best_validation_loss) == (0.5, 0.25)
    assert status.seconds_left is None
    assert status.pid == os.getpid()


def test_the_best_loss_is_the_smallest():
    status = status_of([STARTED, TRAINING, epoch(1, 0.5), epoch(2, 0.2), epoch(3, 0.7)])
    assert status.best_validation_loss == 0.2
    assert status.epoch == 3


def test_testing_and_failure():
    testing = ev.Progress(stage="test", done=0, total=4, seconds_left=3.0)
    status = status_of([STARTED, TRAINING, STEP, testing])
    assert (status.state, status.seconds_left) == ("testing", 3.0)
    assert status.message == "Testing 0 of 4"
    failed = status.after(ev.RunFinished(state="failed", reason="killed", message="gone"))
    assert (failed.state, failed.message, failed.ended) == ("failed", "gone", True)


def test_a_resume_keeps_what_was_and_a_new_start_forgets_it():
    stopped = [*ALL[:-1], ev.RunFinished(state="stopped", reason="stop")]
    resumed = status_of([*stopped, STARTED.replace(resumed=True)])
    assert (resumed.state, resumed.ended) == ("starting", False)
    assert (resumed.step, resumed.best_validation_loss) == (4, 0.25)
    anew = status_of([*stopped, STARTED])
    assert (anew.step, anew.best_validation_loss) == (0, None)


def test_whether_a_process_lives():
    assert process_lives(status_of([]))
    assert process_lives(status_of([STARTED]))
    assert process_lives(status_of([STARTED.replace(host="elsewhere", pid=2**22 - 1)]))
    # the number was given to another process since
    assert not process_lives(status_of([STARTED.replace(time=time.time() - 10**8)]))
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    status = status_of([ev.ProcessStarted(pid=child.pid, host=socket.gethostname(), config="")])
    assert process_lives(status)
    child.kill()
    deadline = time.monotonic() + 20
    while process_lives(status) and time.monotonic() < deadline:  # a zombie is no living process
        time.sleep(0.02)
    assert not process_lives(status)
    child.wait()
    assert not process_lives(status)


# --- folders ---


def begun(root, name, run_id, when):
    run = RunDir(root, name, run_id)
    run.results.mkdir(parents=True)
    run.events.touch()
    os.utime(run.events, (when, when))
    return run


def test_runs_are_found_from_any_of_their_folders_oldest_first(tmp_path):
    a2 = begun(tmp_path, "a", 2, 300)
    a1 = begun(tmp_path, "a", 1, 200)
    b = begun(tmp_path, "b_1", 7, 100)
    (tmp_path / "a" / "results" / "a_9").mkdir()  # never began
    stray = tmp_path / "x" / "results" / "other_1"
    stray.mkdir(parents=True)
    (stray / "events.jsonl").touch()
    assert RunDir.find(tmp_path) == [b, a1, a2]
    assert RunDir.find(a1.job) == [a1, a2]
    assert RunDir.find(a1.results) == [a1]
    assert RunDir.find(tmp_path / "none") == []


@pytest.mark.parametrize("name", ["job", "job_1", "a b", "größe"])
def test_a_run_is_known_from_its_result_folder(tmp_path, name):
    run = RunDir(tmp_path, name, 12)
    assert RunDir.from_results(run.results) == run


@pytest.mark.parametrize("place", ["a/results/a_x", "a/results/b_1", "a/other/a_1", "a/results/a_"])
def test_other_folders_are_no_runs(tmp_path, place):
    with pytest.raises(ValueError, match="no result folder"):
        RunDir.from_results(tmp_path / place)


def test_paths_are_those_of_the_interface(tmp_path):
    run = RunDir(tmp_path, "job", 3)
    wanted = {
        run.config: "config_files/job.yaml",
        run.resolved_config: "config_files/job_3_resolved.yaml",
        run.checkpoint("best"): "checkpoints/job_3-checkpoint-best.pth",
        run.checkpoint("last"): "checkpoints/job_3-checkpoint-last.pth",
        run.normalization_mean: "checkpoints/normalization_mean_value.npy",
        run.normalization_std: "checkpoints/normalization_std_value.npy",
        run.aug: "results/job_3/aug",
        run.chart("loss"): "results/job_3/charts/job_3_loss.png",
        run.chart("psnr"): "results/job_3/charts/job_3_psnr.png",
        run.model_plot: "results/job_3/charts/model_plot_job_3.png",
        run.restored("a"): "results/job_3/per_image/a.tif",
        run.ssl_source(): "results/job_3/ssl_source",
        run.tensorboard: "results/job_3/tensorboard",
        run.train_log: "results/job_3/train_logs/job_3_log.csv",
        run.test_metrics: "results/job_3/test_metrics.csv",
        run.summary: "results/job_3/summary.json",
        run.events: "results/job_3/events.jsonl",
        **{
            run.mae_check("a", kind): f"results/job_3/MAE_checks/a_{kind}.tif"
            for kind in CHECK_KINDS
        },
    }
    for path, name in wanted.items():
        assert path == tmp_path / "job" / name
    assert str(run.ssl_source("/elsewhere")) == os.path.normpath("/elsewhere")
