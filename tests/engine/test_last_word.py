"""Whatever ends a run, its events end with a last word, one for each of its lives."""

import os
import signal

import pytest
from run_samples import config, do, events, last_state, raising, run_of, stop_after

from napari_ssl_pretrain.cli.stopping import StopOnSignal
from napari_ssl_pretrain.engine import report, testing
from napari_ssl_pretrain.engine.run import pretrain
from napari_ssl_pretrain.errors import RunFailed
from napari_ssl_pretrain.spec import claim
from napari_ssl_pretrain.spec import events as ev

pytestmark = pytest.mark.usefixtures("quick")
LONG = {"epochs": 50, "steps_per_epoch": 4}


@pytest.fixture
def _heard(number):
    """Make a signal heard where the tests themselves run under ``nohup``, which ignores one."""
    before = signal.signal(number, signal.SIG_DFL)
    yield
    signal.signal(number, before)


def words(asked):
    return [(e.state, e.reason) for e in events(run_of(asked)) if e and e.kind == "run_finished"]


@pytest.mark.parametrize("torn", ["", '{"kind": "step_fin', "\x00\x00"])
def test_a_life_that_was_killed_gets_its_last_word_before_the_next(planes, torn):
    asked = config(planes, "masking")
    do(asked, should_stop=stop_after(1))
    path = run_of(asked).events
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + torn)
    do(asked, resume=True)
    assert words(asked) == [("failed", "killed"), ("finished", "done")]
    kinds = [e.kind for e in events(run_of(asked)) if e]
    assert kinds[kinds.index("run_finished") + 1] == "process_started"


@pytest.mark.usefixtures("_heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_it_trains_saves_and_says_so(planes, number):
    asked = config(planes, "masking", training=LONG)
    steps = []
    with StopOnSignal() as stop:
        stop.training = True

        def ask():
            steps.append(0)
            if len(steps) == 5:
                os.kill(os.getpid(), number)
            return stop()

        result, _ = do(asked, should_stop=ask)
    assert words(asked) == [("stopped", "interrupt")]
    step = result.summary["steps"]
    assert 1 <= step < 10
    assert last_state(asked)["step"] == step
    assert result.summary["message"].startswith(f"Interrupted at step {step} of 200")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_prepares_ends_it_at_once(planes, number):
    asked = config(planes, "masking", training=LONG)

    def emit(event):
        if event.kind == "run_started":
            os.kill(os.getpid(), number)

    with StopOnSignal() as stop, pytest.raises(KeyboardInterrupt):
        pretrain(asked, emit=emit, should_stop=stop)
    assert words(asked) == [("stopped", "interrupt")]


def test_a_wish_while_it_tests_is_heard_and_the_test_done_by_resume(planes, monkeypatch):
    asked = config(planes, "masking")
    testing_now = []
    real = testing.Tester.test
    monkeypatch.setattr(
        testing.Tester, "test", lambda *args: (testing_now.append(0), real(*args))[1]
    )
    result, _ = do(asked, should_stop=lambda: bool(testing_now))
    assert result.summary["state"] == "stopped"
    assert "after the training; the state is saved" in result.summary["message"]
    assert not run_of(asked).test_metrics.exists()
    result, _ = do(asked, resume=True)
    assert result.summary["state"] == "finished"
    assert run_of(asked).test_metrics.exists()


def test_events_that_cannot_be_written_end_the_run_with_a_sentence(planes, monkeypatch):
    asked = config(planes, "masking", training=LONG)
    said = []
    full = OSError(28, "No space left on device")

    def emit(event):
        said.append(event)
        if event.kind == "run_started":
            monkeypatch.setattr(report, "write_whole", raising(full))

    with pytest.raises(RunFailed, match=r"disk is full .*resume"):
        pretrain(asked, emit=emit)
    assert (said[-1].kind, said[-1].state) == ("run_finished", "failed"), "who listens hears it"
    monkeypatch.undo()
    run = run_of(asked)
    assert not run.heartbeat.exists()
    assert claim.say_last_word(run, ev.RunFinished(state="failed", reason="killed")) == "said"


def test_a_torn_line_ends_before_the_next_one(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    reporter = report.Reporter(None)
    reporter.open(path, append=False)
    real = report.write_whole

    def part(file, text):
        real(file, text[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "write_whole", part)
    with pytest.raises(OSError, match="No space"):
        reporter(ev.Warned(message="one"))
    monkeypatch.setattr(report, "write_whole", real)
    reporter(ev.Warned(message="two"))
    reporter.close()
    lines = path.read_text().splitlines()
    assert [e.message for line in lines if (e := ev.parse_event(line))] == ["two"]
