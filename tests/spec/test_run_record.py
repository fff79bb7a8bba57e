"""Reading runs for a list: bounded, read-only, and never broken by what a folder holds."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from run_tree import DEAD, PSNR, losses, write_run

from napari_ssl_pretrain.spec import event_log, heartbeat
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.curve import sparkline
from napari_ssl_pretrain.spec.event_log import EventLog
from napari_ssl_pretrain.spec.heartbeat import Owner
from napari_ssl_pretrain.spec.run_record import RunReader, RunRecord, RunScanner

if TYPE_CHECKING:
    from napari_ssl_pretrain.spec.run_dir import RunDir


def read(run: RunDir) -> RunRecord:
    return RunReader(run).read()


def snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    files = (p for p in root.rglob("*") if p.is_file())
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}


def test_a_record_says_all_that_the_list_shows(tmp_path: Path) -> None:
    record = read(write_run(tmp_path))
    assert (record.state, record.status.task, record.images_of) == (
        "finished",
        "crappify",
        "data/nuclei/train (24)",
    )
    assert record.best == pytest.approx(1.1 * losses(10)[-1])
    assert record.score == "PSNR 30.00 (+1.50)"
    assert record.scores == PSNR
    assert record.curve[0] == tuple(range(10, 101, 10))
    assert record.curve[1] == pytest.approx([1.1 * loss for loss in losses(10)])
    assert (record.problem, record.saved, record.resumable) == ("", True, False)


@pytest.mark.parametrize(
    ("options", "state", "resumable", "goes_on"),
    [
        ({"state": "stopped"}, "stopped", True, False),
        ({"state": "failed"}, "failed", True, False),
        ({"state": None, "pid": DEAD}, "died", True, False),
        ({"state": None, "time": time.time()}, "training", False, True),
        ({"state": None, "pid": DEAD, "host": "another"}, "training", False, True),
    ],
)
def test_states_and_what_can_be_resumed(
    tmp_path: Path, options: dict, state: str, resumable: bool, goes_on: bool
) -> None:
    run = write_run(tmp_path, **options)
    record = read(run)
    assert (record.state, record.resumable, record.goes_on) == (state, resumable, goes_on)
    run.checkpoint("last").unlink()
    assert not read(run).resumable


def test_a_run_of_another_machine_that_falls_silent_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path, state=None, pid=DEAD, host="another")
    owner = Owner(DEAD, "another", "", "", "t")
    run.heartbeat.write_text(json.dumps(asdict(owner)))
    reader = RunReader(run)
    assert (reader.read().state, reader.read().goes_on, reader.doubtful) == (
        "training",
        True,
        False,
    )
    now = time.monotonic()
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now + 300)
    record = reader.read()
    assert (record.state, record.goes_on, record.resumable) == ("silent", False, True)
    assert "No sign of life from another for 5 minutes" in record.note
    run.heartbeat.write_text(json.dumps(asdict(owner) | {"beat": 2}))
    assert reader.read().state == "training"


def test_a_run_that_goes_on_grows_and_ends(tmp_path: Path) -> None:
    run = write_run(tmp_path, state=None, time=time.time(), epochs=3)
    reader = RunReader(run)
    assert reader.read().status.step == 30
    step = ev.StepFinished(
        step=40, steps=200, epoch=4, loss=0.1, learning_rate=1, patches_per_second=1, seconds_left=1
    )
    line = step.to_line()
    with run.events.open("a") as file:
        file.write(line[:20])
    assert reader.read().status.step == 30, "half a line waits for its end"
    with run.events.open("a") as file:
        file.write(line[20:])
    assert reader.read().status.step == 40
    with run.events.open("a") as file:
        file.write(ev.RunFinished(state="finished", reason="done").to_line())
    assert (reader.read().state, reader.read().problem) == ("finished", "summary.json is missing")
    begun_anew = write_run(tmp_path / "other", epochs=2)
    begun_anew.events.replace(run.events)
    assert len(reader.read().curve[0]) == 2, "nothing of the run before is left"


def test_reading_writes_nothing(tmp_path: Path) -> None:
    for number, state in enumerate(("finished", "failed", None), 1):
        write_run(tmp_path, run_id=number, state=state, pid=DEAD)
    before = snapshot(tmp_path)
    records, count = list(RunScanner(tmp_path).scan())[-1]
    assert (len(records), count) == (3, 3)
    assert snapshot(tmp_path) == before


def test_what_has_not_changed_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path)
    scanner = RunScanner(tmp_path)
    (first, _) = list(scanner.scan())[-1]
    monkeypatch.setattr(ev, "parse_event", lambda _line: pytest.fail("read again"))
    (second, _) = list(scanner.scan())[-1]
    assert second == first


SUMMARIES = {
    b"[1, 2]": "summary.json holds no keys and values",
    b'{"test": [1]}': "summary.json: test must hold scores by name",
    b'{"test": {"psnr": "30"}}': "summary.json: test.psnr is no number",
    b"{half": "summary.json cannot be read: it is no JSON",
    b"[" * 100_000: "summary.json cannot be read: it is no JSON",
    b'{"test": {"psnr": NaN, "psnr_input": 1e999}}': "",
    b'{"test": {"psnr": 1' + b"0" * 400 + b"}}": "",
    b"": "summary.json cannot be read: it is no JSON",
}


@pytest.mark.parametrize("text", SUMMARIES, ids=lambda text: text[:12].decode())
def test_a_wrong_summary_is_said(tmp_path: Path, text: bytes) -> None:
    run = write_run(tmp_path)
    run.summary.write_bytes(text)
    record = read(run)
    assert (record.state, record.problem, record.score) == ("finished", SUMMARIES[text], "")


def line(kind: str, **fields: object) -> str:
    return json.dumps({"kind": kind, "time": 1.0, **fields}) + "\n"


HERE = socket.gethostname()
STARTED = line("process_started", pid=DEAD, host=HERE, config="a: [")
EVENTS = {
    "": "events.jsonl is empty",
    "garbage\n\x00\xff\n": "events.jsonl holds no event of a run",
    STARTED[:30]: "events.jsonl is empty",
    "[" * 200_000 + "\n": "events.jsonl holds no event of a run",
    STARTED + line("steps_planned", steps=10**300, epochs=1, seconds_a_step=1): "",
    STARTED + '{"kind": "run_finished", "time": 1e300, "state": "failed", "reason": "error"}\n': "",
    line("process_started", pid=-1, host=HERE, config=""): "",
}


@pytest.mark.parametrize("text", EVENTS, ids=lambda text: text[:24])
def test_wrong_events_are_said(tmp_path: Path, text: str) -> None:
    run = write_run(tmp_path)
    run.events.write_text(text, encoding="latin-1")
    record = read(run)
    assert EVENTS[text] in record.problem
    assert (record.images_of, record.goes_on) == ("", False)
    assert list(RunScanner(tmp_path).scan())[-1][0] == [record]


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    pipe, folder = write_run(tmp_path, "pipe"), write_run(tmp_path, "folder")
    for run in (pipe, folder):
        run.events.unlink()
    os.mkfifo(pipe.events)
    folder.events.mkdir()
    for run in (pipe, folder):
        assert "no plain file" in read(run).problem
    summary = write_run(tmp_path, "summary")
    summary.summary.unlink()
    os.mkfifo(summary.summary)
    assert "no plain file" in read(summary).problem


def test_a_huge_file_is_read_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "MOST_BYTES", 1 << 16)
    monkeypatch.setattr(event_log, "CHUNK", 1 << 12)
    monkeypatch.setattr(event_log, "LONGEST_LINE", 1 << 13)
    run = write_run(tmp_path, epochs=400)
    text = run.events.read_text()
    assert len(text) > 1 << 17
    run.events.write_text("x" * 50_000 + "\n" + text)
    with monkeypatch.context() as patched:
        patched.setattr(event_log, "MOST_BYTES", 1 << 30)
        assert len(read(run).validation[0]) > 100, "a line without end is passed over"
    record = read(run)
    assert (record.state, record.status.step) == ("finished", 4000)
    assert "its middle was left out" in record.problem


def test_a_file_without_an_end_of_line_costs_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "MOST_BYTES", 1 << 26)
    run = write_run(tmp_path)
    with run.events.open("wb") as file:
        file.truncate(1 << 33)  # sparse: 8 GB of zeros
    log = EventLog(run.events, ("step_finished",))
    began = time.monotonic()
    assert log.news() == (True, [])
    assert time.monotonic() - began < 10
    assert log.cut


def test_the_curve_in_a_line_of_text() -> None:
    assert sparkline([4, 3, 2, 1]) == "█▆▃▁"
    assert sparkline([1.0]) == sparkline([]) == ""
    assert sparkline([2, 2, float("nan"), 2]) == "▁▁▁"
    assert len(sparkline(list(range(1000)))) == 12


def test_files_are_found_again_where_the_folder_is_now(tmp_path: Path) -> None:
    run = write_run(tmp_path / "now")
    run.restored("im").write_bytes(b"")
    for old in (
        "/mnt/lab/job/results/job_1/per_image/im.tif",
        r"Z:\job\results\job_1\per_image\im.tif",
    ):
        assert run.here(old) == run.restored("im")
    for other in (
        "/x/job_1/../../secret.tif",
        "/elsewhere/im.tif",
        "job_1/" + "n" * 5000,
        "job_1/\0",
    ):
        assert run.here(other) == Path(other)
