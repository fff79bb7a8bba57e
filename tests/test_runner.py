"""The door: starting, watching, stopping and finding runs, with a stand-in for the real process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from napari_ssl_pretrain import runner
from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.spec import claim, event_log, heartbeat
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.run_dir import RunDir
from napari_ssl_pretrain.spec.run_record import RunReader

FAKE = [sys.executable, str(Path(__file__).parent / "gui" / "fake_run.py")]


@pytest.fixture
def config(tmp_path: Path) -> PretrainConfig:
    folder = tmp_path / "images"
    write_array(folder / "a.tif", np.arange(64 * 64, dtype=np.uint16).reshape(64, 64), "YX")
    return PretrainConfig(
        name="job",
        result_dir=str(tmp_path / "results"),
        data={"train": str(folder)},
        pretext={"task": "crappify"},
    )


def follow(handle: runner.RunHandle, until: str = "", seconds: float = 20) -> list[ev.AnyEvent]:
    events: list[ev.AnyEvent] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        events += handle.poll()
        if handle.ended or any(e.kind == until for e in events):
            return events
        time.sleep(0.02)
    raise AssertionError(f"nothing after {seconds} s; the last was {events[-1:]}")


def run_of(config: PretrainConfig) -> RunDir:
    return RunDir(Path(config.result_dir), config.name, config.run_id)


def step(number: int) -> ev.StepFinished:
    return ev.StepFinished(
        step=number, steps=30_000, epoch=1, loss=0.5, learning_rate=1e-3, patches_per_second=9,
        seconds_left=1,
    )  # fmt: skip


def started(run: RunDir, *, pid: int, host: str) -> None:
    run.results.mkdir(parents=True)
    event = ev.ProcessStarted(pid=pid, host=host, config="")
    run.events.write_text(event.to_line())


def test_a_run_is_watched_from_its_first_word_to_its_last(config: PretrainConfig) -> None:
    events = follow(runner.start(config, command=FAKE))
    assert events[0].kind == "process_started"
    assert events[-1].kind == "run_finished"
    assert [e.kind for e in events].count("run_finished") == 1
    assert events[-1].state == "finished"


def test_starting_does_not_wait_and_leaves_no_configuration_behind(config: PretrainConfig) -> None:
    handle = runner.start(config, command=FAKE)
    assert not any(e.kind == "run_finished" for e in handle.poll())
    config_file = handle._config_file
    follow(handle)
    assert config_file is not None
    assert not config_file.exists()


def test_stop_then_resume(config: PretrainConfig) -> None:
    handle = runner.start(config, command=FAKE)
    follow(handle, until="step_finished")
    handle.request_stop()
    assert follow(handle)[-1].state == "stopped"

    again = runner.start(config, resume=True, command=FAKE)
    events = follow(again)
    assert [e.kind for e in events].count("process_started") == 2, "the history comes first"
    assert again.status.state == "finished"
    assert again.status.step == again.status.steps


def test_a_wish_to_stop_that_comes_too_early_is_repeated(config: PretrainConfig) -> None:
    handle = runner.start(config, command=FAKE)
    handle.request_stop()
    events = follow(handle)
    assert events[-1].state == "stopped"


def test_a_killed_run_is_noticed_and_said_once(config: PretrainConfig) -> None:
    handle = runner.start(config.replace(name="crash"), command=FAKE)
    events = follow(handle)
    last = events[-1]
    assert (last.state, last.reason) == ("failed", "killed")
    assert last.message == "process ended with code -9; see run.log"
    assert handle.poll() == []
    found = runner.attach(handle.run)
    assert [e.kind for e in found.poll()].count("run_finished") == 1


def test_a_refusal_is_told_in_the_words_of_the_command_line(config: PretrainConfig) -> None:
    handle = runner.start(config.replace(name="usage"), command=FAKE)
    last = follow(handle)[-1]
    assert last.message == "compute.device: cuda: is not on this machine. Available: cpu."
    assert not run_of(config.replace(name="usage")).job.exists(), "nothing is left behind"


def test_a_run_that_is_found_is_followed_and_stopped(config: PretrainConfig) -> None:
    mine = runner.start(config, command=FAKE)
    follow(mine, until="step_finished")
    assert runner.find_running(Path(config.result_dir)) == [mine.run]
    other = runner.attach(mine.run)
    events = follow(other, until="step_finished")
    assert events[0].kind == "process_started"
    other.request_stop()
    assert follow(other)[-1].state == "stopped"
    follow(mine)
    assert runner.find_running(Path(config.result_dir)) == []


def test_a_run_under_way_is_not_started_again(config: PretrainConfig) -> None:
    handle = runner.start(config, command=FAKE)
    follow(handle, until="step_finished")
    with pytest.raises(ConfigError, match="is running already"):
        runner.start(config, command=FAKE)
    handle.kill()
    follow(handle)


def test_a_found_run_whose_process_is_gone_gets_its_last_word(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    run = RunDir(tmp_path, "job", 1)
    started(run, pid=process.pid, host=socket.gethostname())
    with run.events.open("a") as file:
        file.write('{"kind": "step_fin')  # torn by the death
    events = runner.attach(run).poll()
    assert [e.kind for e in events] == ["process_started", "run_finished"]
    again = runner.attach(run).poll()
    assert [e.kind for e in again] == ["process_started", "run_finished"], "written down"


def test_a_run_of_another_machine_is_never_declared_dead(tmp_path: Path) -> None:
    run = RunDir(tmp_path, "job", 1)
    started(run, pid=1, host="elsewhere")
    handle = runner.attach(run)
    handle.poll()
    assert handle.remote
    assert not handle.ended
    assert not handle.kill()
    assert handle.status.last_seen is not None


def test_a_run_of_another_machine_that_is_silent_for_long_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path, "job", 1)
    started(run, pid=1, host="elsewhere")
    run.heartbeat.write_text(json.dumps(asdict(heartbeat.Owner(1, "elsewhere", "", "", "t"))))
    before = run.events.read_bytes()
    handle = runner.attach(run)
    handle.poll()
    now = time.monotonic()
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now + 60)
    handle.poll()
    assert handle.silence >= 60
    assert not handle.ended
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now + 200)
    (last,) = handle.poll()
    assert last.message.startswith("no sign of life from elsewhere for 3 minutes")
    assert run.events.read_bytes() == before, "it is not this machine's to write"


def test_a_run_that_another_process_goes_on_with_gets_no_last_word(config: PretrainConfig) -> None:
    run = run_of(config)
    started(run, pid=2**22 + 1, host=socket.gethostname())
    handle = runner.attach(run)
    with claim.held(run):
        assert [e.kind for e in handle.poll()] == ["process_started"]
        assert not handle.ended
    handle._looked = 0
    assert [e.kind for e in handle.poll()] == ["run_finished"]
    assert handle.ended


def test_a_torn_line_waits_for_its_end(tmp_path: Path) -> None:
    run = RunDir(tmp_path, "job", 1)
    started(run, pid=os.getpid(), host=socket.gethostname())
    handle = runner.attach(run)
    assert len(handle.poll()) == 1
    line = ev.Warned(message="grüß Gott").to_line().encode()
    with run.events.open("ab") as file:
        file.write(line[:20])
        file.flush()
        assert handle.poll() == []
        file.write(line[20:])
    assert [e.message for e in handle.poll() if e.kind == "warned"] == ["grüß Gott"]


def test_a_folder_that_cannot_be_written_is_told(config: PretrainConfig, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ConfigError, match="result_dir"):
        runner.start(config.replace(result_dir=str(blocked)), command=FAKE)


def test_a_long_history_is_thinned_but_keeps_its_last_step_and_all_else(tmp_path: Path) -> None:
    run = RunDir(tmp_path, "job", 1)
    started(run, pid=os.getpid(), host=socket.gethostname())
    lines = [step(number).to_line() for number in range(30_000)]
    lines.insert(100, ev.Warned(message="here").to_line())
    with run.events.open("a") as file:
        file.writelines(lines)
    handle = runner.attach(run)
    found = handle.poll()
    steps = [e.step for e in found if e.kind == "step_finished"]
    assert 1000 < len(steps) <= 1.1 * runner.MAX_STEPS_READ
    assert steps[-1] == handle.status.step == 29_999
    assert [e.message for e in found if e.kind == "warned"] == ["here"]


def test_only_what_is_new_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDir(tmp_path, "job", 1)
    started(run, pid=os.getpid(), host=socket.gethostname())
    with run.events.open("a") as file:
        file.writelines(step(number).to_line() for number in range(20_000))
    handle = runner.attach(run)
    handle.poll()
    read: list[int] = []
    real = event_log.open_plain

    class Counted:
        def __init__(self, file: Any) -> None:
            self._file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def read(self, size: int) -> bytes:
            found: bytes = self._file.read(size)
            read.append(len(found))
            return found

    monkeypatch.setattr(event_log, "open_plain", lambda path: Counted(real(path)))
    with run.events.open("a") as file:
        file.write(step(20_000).to_line())
    assert [e.step for e in handle.poll() if e.kind == "step_finished"] == [20_000]
    assert sum(read) < 2000


def test_a_file_that_is_replaced_is_read_from_its_beginning(tmp_path: Path) -> None:
    run = RunDir(tmp_path, "job", 1)
    started(run, pid=os.getpid(), host=socket.gethostname())
    handle = runner.attach(run)
    handle.poll()
    here = {"pid": os.getpid(), "host": socket.gethostname(), "config": ""}
    anew = ev.ProcessStarted(**here, time=5.0).to_line() + step(1).to_line()
    run.events.write_text(anew)  # longer than before, in the same file
    assert [e.kind for e in handle.poll()] == ["process_started", "step_finished"]
    run.events.write_text(ev.ProcessStarted(**here, time=6.0).to_line())
    assert [e.kind for e in handle.poll()] == ["process_started"]
    assert handle.status.step == 0
    other = tmp_path / "other"
    other.write_text(anew)
    other.replace(run.events)
    assert len(handle.poll()) == 2


def test_a_clock_that_was_set_back_hides_nothing(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10**6)
    handle = runner.start(config, command=FAKE)
    monkeypatch.undo()
    events = follow(handle)
    assert (events[0].kind, events[-1].state) == ("process_started", "finished")


def hostile_lines() -> list[bytes]:
    good = step(3).model_dump()
    wrong = [
        {"kind": "step_finished"},
        {**good, "step": "../../etc"},
        {**good, "step": 10**400},
        {**good, "loss": float("nan")},
        {**good, "seconds_left": float("inf")},
        {**good, "loss": [[1]]},
        {"kind": ["step_finished"]},
        {"kind": "process_started", "pid": 10**30, "host": "h", "config": ""},
        {"kind": "image_saved", "image_kind": "../../x", "image": "..", "path": "../../etc/passwd"},
    ]
    return [
        *(json.dumps(fields).encode() for fields in wrong),
        b"\xff\xfe\x00\x01" * 100,
        b"[" * 100_000,
        b'{"kind": "step_finished", "step": ' + b"9" * 10_000 + b"}",
        b'{"kind": "warned", "message": "' + b"x" * (1 << 20),
        b"null",
        b"3",
        b"[]",
        b"",
    ]


def test_hostile_lines_are_passed_over(tmp_path: Path) -> None:
    run = RunDir(tmp_path, "job", 1)
    started(run, pid=os.getpid(), host=socket.gethostname())
    with run.events.open("ab") as file:
        file.write(b"\n".join(hostile_lines()) + b"\n")
        file.write(ev.Warned(message="m" * 100_000).to_line().encode())
        file.write(step(7).to_line().encode())
    handle = runner.attach(run)
    assert [e.kind for e in handle.poll()] == ["process_started", "warned", "step_finished"]
    assert handle.status.step == 7
    assert RunReader(run).read().state == "training"


def test_a_flood_of_events_costs_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "MOST_EVENTS", 100)
    run = RunDir(tmp_path, "job", 1)
    started(run, pid=os.getpid(), host=socket.gethostname())
    with run.events.open("a") as file:
        file.writelines(ev.Warned(message=str(k)).to_line() for k in range(1000))
    assert [e.message for e in runner.attach(run).poll()] == [str(k) for k in range(900, 1000)]


def test_what_is_no_file_is_waited_for(tmp_path: Path) -> None:
    run = RunDir(tmp_path, "job", 1)
    run.results.mkdir(parents=True)
    os.mkfifo(run.events)
    assert runner.attach(run).poll() == []
    assert not runner.find_running(tmp_path)
    run.console_log.write_bytes(b"x" * 10)
    run.console_log.unlink()
    os.mkfifo(run.console_log)
    assert runner.last_error(run.console_log) == ""


def test_a_run_begun_anew_forgets_what_was_there(config: PretrainConfig) -> None:
    run = run_of(config)
    run.results.mkdir(parents=True)
    old = ev.RunFinished(time=time.time() - 60, state="finished", reason="done")
    run.events.write_text(old.to_line())
    handle = runner.start(config, overwrite=True, command=FAKE)
    assert follow(handle)[0].kind == "process_started"


def test_a_run_outlives_whoever_started_it_and_was_killed(
    config: PretrainConfig, tmp_path: Path
) -> None:
    code = """
        import sys, time
        from napari_ssl_pretrain import runner
        from napari_ssl_pretrain.spec.config import PretrainConfig
        runner.start(PretrainConfig.from_yaml(sys.argv[1]), command=sys.argv[2:])
        print("started", flush=True)
        time.sleep(60)
    """
    asked = tmp_path / "asked.yaml"
    asked.write_text(config.to_yaml())
    words = [sys.executable, "-c", textwrap.dedent(code), str(asked), *FAKE]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        parent.kill()
    run = run_of(config)
    deadline = time.monotonic() + 20
    while not run.events.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    handle = runner.attach(run)
    assert follow(handle)[-1].state == "finished"
