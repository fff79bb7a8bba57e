"""Signs of life, and who may write a job: this machine's dead, another's silent, and the living."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest

from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.spec import claim, heartbeat
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.heartbeat import Heartbeat, Owner, Pulse, read_owner
from napari_ssl_pretrain.spec.last_word import last_event, missing_words
from napari_ssl_pretrain.spec.lock import Lock
from napari_ssl_pretrain.spec.run_dir import RunDir

STARTED = ev.ProcessStarted(pid=1, host="h", config="")
KILLED = ev.RunFinished(state="failed", reason="killed", message="gone")


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path, "job")
    run.results.mkdir(parents=True)
    return run


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(claim, "SECONDS", 0.1)
    monkeypatch.setattr(claim, "QUIET_SECONDS", 0.4)
    monkeypatch.setattr(heartbeat, "QUIET_SECONDS", 0.4)
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.05)


def write_owner(run, count=0, **fields):
    owner = replace(Owner.me(), **fields)
    run.heartbeat.write_text(json.dumps(asdict(owner) | {"beat": count}))
    return owner


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.usefixtures("quick")
def test_a_claim_beats_and_leaves_nothing(run):
    with claim.held(run) as mine:
        owner = read_owner(run.heartbeat)
        assert owner.pid == os.getpid()
        assert owner.lives()
        before = run.heartbeat.read_text()
        time.sleep(0.3)
        assert run.heartbeat.read_text() != before
        assert run.reserve.stat().st_size == claim.RESERVE
        assert not mine.lost
        mine.check()
    assert list(run.results.iterdir()) == []
    assert owner.lives() is False, "the process lives, this run of it does not"


@pytest.mark.usefixtures("quick")
def test_the_second_is_refused_in_one_sentence(run):
    with (
        claim.held(run),
        pytest.raises(ConfigError, match=rf"under way already .* by process {os.getpid()} on"),
        claim.held(run, value=1),
    ):
        pass
    with claim.held(run):
        pass


@pytest.mark.parametrize("known", ["dead", "another process got its number"])
def test_what_the_dead_of_this_machine_held_is_taken_over_at_once(run, known):
    if known == "dead":
        write_owner(run, pid=dead_pid())
    else:
        write_owner(run, pid=os.getppid(), started="1")
    run.lock.touch()
    began = time.monotonic()
    with claim.held(run):
        assert read_owner(run.heartbeat).pid == os.getpid()
    assert time.monotonic() - began < 15  # not watched for the thirty seconds of a stranger


@pytest.mark.usefixtures("quick")
def test_without_locks_the_living_of_this_machine_are_seen(run, monkeypatch):
    monkeypatch.setattr(Lock, "_try", lambda _: True)
    with (
        claim.held(run),
        pytest.raises(ConfigError, match="under way already"),
        claim.held(run),
    ):
        pass


@pytest.mark.parametrize("fields", [{"host": "elsewhere"}, {"boot": "another start"}])
@pytest.mark.usefixtures("quick")
def test_the_silent_of_another_machine_are_watched_then_taken_over(run, fields):
    write_owner(run, **fields)
    said = []
    began = time.monotonic()
    with claim.held(run, say=said.append):
        assert time.monotonic() - began > 0.35
    assert len(said) == 1


@pytest.mark.usefixtures("quick")
def test_the_living_of_another_machine_are_refused_whatever_the_clock_says(run):
    write_owner(run, host="elsewhere")
    over = threading.Event()

    def beat():
        count = 0
        while not over.wait(0.05):
            count += 1
            write_owner(run, count, host="elsewhere")
            os.utime(run.heartbeat, (10**9 - count, 10**9 - count))  # a clock that runs backwards

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with (
            pytest.raises(ConfigError, match=r"under way already .* on elsewhere"),
            claim.held(run),
        ):
            pass
    finally:
        over.set()
        thread.join()


@pytest.mark.usefixtures("quick")
def test_who_slept_while_another_took_over_writes_no_more(run):
    with claim.held(run) as mine:
        other = write_owner(run, host="elsewhere", token="other")  # noqa: S106 - no password
        time.sleep(0.3)
        assert mine.lost
        with pytest.raises(claim.TakenOver, match=r"taken over by process .* on elsewhere"):
            mine.check()
        assert read_owner(run.heartbeat) == other
    assert run.heartbeat.exists(), "it is the other one's"


def test_on_a_full_disk_the_time_of_the_file_is_the_sign(run, monkeypatch):
    heart = Heartbeat(run.heartbeat)
    heart.beat()
    os.utime(run.heartbeat, (1, 1))
    pulse = Pulse(run.heartbeat)
    pulse.look()

    def full(*_words, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(heartbeat.Path, "write_text", full)
    heart.beat()
    pulse.look()
    assert pulse.moved
    assert read_owner(run.heartbeat) == heart.owner


def test_silence_is_what_was_watched_not_what_clocks_say(run, monkeypatch):
    write_owner(run, host="elsewhere")
    os.utime(run.heartbeat, (1, 1))
    pulse = Pulse(run.heartbeat)
    assert pulse.silence() is None, "old by the clock is not silent"
    now = time.monotonic()
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now + 60)
    assert pulse.silence() > 60
    write_owner(run, 1, host="elsewhere")
    assert pulse.silence() is None
    monkeypatch.setattr(heartbeat.time, "time", lambda: 2**40)
    assert pulse.silence() is None
    run.heartbeat.unlink()
    assert pulse.silence() is None


HOSTILE = [
    b"",
    b"\xff\x00garbage",
    b"[" * 10**5,
    b"{}",
    b"[1]",
    b'{"pid": "1", "host": "h", "boot": "", "started": "", "token": ""}',
    b'{"pid": true, "host": "h", "boot": "", "started": "", "token": ""}',
    b'{"pid": 1, "host": {}, "boot": "", "started": "", "token": ""}',
    b"x" * 10**6,
]


@pytest.mark.parametrize("content", HOSTILE, ids=lambda c: c[:12].decode("latin-1"))
def test_files_that_are_no_sign_hold_nobody_up(run, content):
    run.heartbeat.write_bytes(content)
    assert read_owner(run.heartbeat) is None
    assert Pulse(run.heartbeat).silence() is None
    with claim.held(run):
        assert read_owner(run.heartbeat) is not None


@pytest.mark.parametrize("pid", [-1, 0, 10**30])
def test_numbers_that_are_no_process_are_dead(run, pid):
    assert write_owner(run, pid=pid).lives() is False


def test_a_pipe_instead_of_a_sign_is_not_opened(run):
    os.mkfifo(run.heartbeat)
    assert read_owner(run.heartbeat) is None


# --- locks ---


def test_one_lock_at_a_time_and_the_next_after_it(run):
    one, two = Lock(run.lock), Lock(run.lock)
    assert one.acquire()
    assert not two.acquire(0.1)
    one.release()
    assert not run.lock.exists()
    assert two.acquire()
    two.release()


def test_a_lock_on_a_file_that_is_gone_is_none(run, monkeypatch):
    one, two = Lock(run.lock), Lock(run.lock)
    assert one.acquire()
    opened = two._open()
    one.release()  # the file is removed between the other's opening and locking
    monkeypatch.setattr(two, "_open", lambda: opened)
    assert not two.acquire()


@pytest.fixture
def holder(run):
    """Another process that holds the run."""
    code = (
        "import sys,time;from pathlib import Path;"
        "from napari_ssl_pretrain.spec import claim,run_dir\n"
        "with claim.held(run_dir.RunDir(Path(sys.argv[1]),'job')):"
        " print('held',flush=True);time.sleep(60)"
    )
    words = [sys.executable, "-c", code, run.result_dir]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.kill()


def test_a_killed_holder_lets_go(run, holder):
    assert not Lock(run.lock).acquire()
    holder.kill()
    mine = Lock(run.lock)
    assert mine.acquire(2)
    mine.release()


# --- last words ---


def test_a_last_word_is_said_once_and_never_into_another_ones_log(run):
    run.events.write_text(STARTED.to_line() + '{"kind": "step_fin')
    with claim.held(run):
        assert claim.say_last_word(run, KILLED) == "held"
    write_owner(run, host="elsewhere")
    assert claim.say_last_word(run, KILLED) == "held"
    write_owner(run, pid=dead_pid())
    assert claim.say_last_word(run, KILLED) == "said"
    assert last_event(run.events) == KILLED
    assert claim.say_last_word(run, KILLED) == "held"
    lines = run.events.read_text().splitlines()
    assert [bool(ev.parse_event(line)) for line in lines] == [True, False, True]


def test_who_knows_that_a_holder_is_dying_waits_until_it_has_let_go(run, holder):
    run.events.write_text(STARTED.to_line())
    assert claim.say_last_word(run, KILLED) == "held"
    threading.Timer(0.5, holder.kill).start()
    assert claim.say_last_word(run, KILLED, sure=True) == "said"
    assert last_event(run.events) == KILLED


def test_a_process_that_has_let_go_and_is_just_ending_is_waited_for(run, holder, monkeypatch):
    run.lock.unlink()  # as if its files were closed already
    monkeypatch.setattr(claim, "SECONDS", 0.1)
    with pytest.raises(ConfigError, match=f"process {holder.pid}"), claim.held(run):
        pass
    monkeypatch.undo()
    run.lock.unlink(missing_ok=True)
    threading.Timer(0.5, holder.kill).start()
    with claim.held(run):
        assert read_owner(run.heartbeat).pid == os.getpid()


def test_where_nothing_can_be_written_that_is_told(run):
    run.events.mkdir()
    assert claim.say_last_word(run, KILLED) == "closed"


def test_what_is_missing_before_the_next_life(run):
    assert missing_words(run.events) == ""
    run.events.write_text(STARTED.to_line() + KILLED.to_line())
    assert missing_words(run.events) == ""
    run.events.write_text(STARTED.to_line() + KILLED.to_line().rstrip())
    assert missing_words(run.events) == "\n"
    run.events.write_text(STARTED.to_line())
    word = ev.parse_event(missing_words(run.events))
    assert (word.kind, word.reason, word.time) == ("run_finished", "killed", STARTED.time)
    run.events.write_text(STARTED.to_line() + "{torn")
    assert missing_words(run.events).startswith("\n{")
