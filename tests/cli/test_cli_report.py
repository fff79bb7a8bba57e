from __future__ import annotations

import io
import json
import os
import signal

import pytest
from rich.console import Console

from napari_ssl_pretrain.cli import report as reports
from napari_ssl_pretrain.cli import text
from napari_ssl_pretrain.cli.bars import BarReport
from napari_ssl_pretrain.cli.stopping import StopOnSignal
from napari_ssl_pretrain.spec import events as ev


def story(steps=40):
    """The events of a whole run."""
    yield ev.ProcessStarted(pid=1, host="h", config="")
    skipped = tuple(f"f{k}.tif: is flat. Leave it out." for k in range(7))
    yield ev.DataChecked(
        train=3,
        validation=0,
        test=1,
        ndim=2,
        axes="YX",
        channels=1,
        skipped=skipped,
        notes=("assumed",),
    )
    yield ev.Progress(stage="prepare", done=1, total=3, seconds_left=20)
    yield ev.RunStarted(
        task="crappify", backbone="unet", parameters=1_234_567, device="cpu", precision="fp32",
        patch_size=(8, 8), batch_size=4, epochs=2, steps_per_epoch=steps // 2, steps=steps,
    )  # fmt: skip
    yield ev.StepsPlanned(steps=steps, epochs=2, seconds_a_step=0.5)
    for step in range(1, steps + 1):
        yield ev.StepFinished(
            step=step, steps=steps, epoch=1, loss=0.5, learning_rate=1e-3,
            patches_per_second=8.25, seconds_left=100.0,
        )  # fmt: skip
        if step % (steps // 2) == 0:
            yield ev.EpochFinished(
                epoch=step * 2 // steps, epochs=2, step=step, train_loss=0.4, validation_loss=0.3,
                metrics={}, learning_rate=1e-3, best=True,
            )  # fmt: skip
    yield ev.Warned(message="look out")
    yield ev.RunFinished(state="finished", reason="done", epochs_done=2, epochs_planned=2)


def test_a_pipe_gets_few_plain_lines(capsys):
    report = reports.PlainReport()
    for event in story():
        report(event)
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0]
        == "Images: 3 to train, validated on parts of them, 1 to test; 2D, 1 channel, axes YX"
    )
    assert sum(line.startswith("skipped: ") for line in lines) == reports.SKIPPED_SHOWN + 1
    assert (
        "Training unet (1.2 million parameters) on cpu in fp32: 2 epochs of 20 steps"
        in "\n".join(lines)
    )
    assert "step 1 of 40: loss 0.5000, 8.2 patches/s, 1 min 40 s left" in lines
    assert "epoch 2 of 2: training loss 0.4000, validation loss 0.3000 (best so far)" in lines
    assert lines[-1] == "Finished: 2 of 2 epochs"
    assert len(lines) < 20


def test_a_terminal_gets_a_bar_with_the_time_left():
    screen = io.StringIO()
    report = BarReport(Console(file=screen, force_terminal=True, width=120, color_system=None))
    for event in story():
        report(event)
    report.note("[the end]")
    report.close()
    shown = screen.getvalue()
    assert "40/40" in shown
    assert "1 min 40 s left" in shown
    assert "validation 0.3000 (best)" in shown
    assert "[the end]" in shown


def test_json_is_one_event_a_line(capsys):
    report = reports.JsonReport()
    events = list(story())
    for event in events:
        report(event)
    report.note("by the way")
    lines = capsys.readouterr().out.splitlines()
    assert [ev.parse_event(line) for line in lines[:-1]] == events
    assert json.loads(lines[-1])["message"] == "by the way"


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        (
            {"test": {"psnr": 27.5, "psnr_input": 25.0}},
            "27.50 dB restored, 25.00 dB worsened (PSNR, +2.50 dB)",
        ),
        (
            {"test": {"hidden_mse": 0.2, "hidden_mse_mean": 1.0, "hidden_mse_inpaint": 0.4}},
            "error in hidden parts 0.200, filled with the mean 1.000, filled by smooth",
        ),
    ],
)
def test_scores_are_said_in_words(summary, expected):
    assert expected in reports.score_lines(summary)[0]


def test_no_scores_no_words():
    assert reports.score_lines({"test": {}}) == reports.score_lines({}) == []


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (1800, "30 min"),
        (11_460, "3 h 11 min"),
    ],
)
def test_durations(seconds, expected):
    assert text.duration(seconds) == expected


def test_a_table_is_aligned():
    assert text.table(["a", "long"], [["wide one", "1"]]) == "a         long\nwide one  1"


def test_the_first_signal_asks_the_second_ends(capsys):
    with StopOnSignal() as stop:
        stop.training = True
        assert not stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        assert stop.interrupted
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert "the state is being saved. Press Ctrl-C again" in capsys.readouterr().err


def test_a_term_signal_asks_too_but_is_no_interrupt():
    with StopOnSignal() as stop:
        stop.training = True
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        assert not stop.interrupted
