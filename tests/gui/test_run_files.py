"""What is read of runs to be opened and compared, also where it is not as a run leaves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from run_tree import add_image, write_run

from napari_ssl_pretrain.gui import run_files
from napari_ssl_pretrain.gui.problem import Problem
from napari_ssl_pretrain.spec import events as ev

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from napari_ssl_pretrain.spec.run_dir import RunDir

PIXELS = np.arange(600, dtype=np.uint8).reshape(20, 30)


def say(run: RunDir, **fields: str) -> None:
    about = {"image": "im", "path": "/x/im.tif", "source": "", "axes": "YX"} | fields
    event = ev.ImageSaved(image_kind="restored", step=1, **about)
    with run.events.open("a") as file:
        file.write(event.to_line())


def test_sources_that_were_named_from_another_folder_are_found(tmp_path: Path) -> None:
    run = write_run(tmp_path / "exp")
    started = ev.ProcessStarted(pid=1, host="x", config="", resumed=True, folder=str(tmp_path))
    path = add_image(run, tmp_path / "im.tif", PIXELS)
    run.events.write_text(started.to_line())
    say(run, path=str(path), source="im.tif")
    (event,) = run_files.saved_images(run)
    assert event.source == str(tmp_path / "im.tif")


def test_names_without_end_and_images_without_number_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_files, "OFFERED_IMAGES", 5)
    runs = [write_run(tmp_path, run_id=k) for k in (1, 2)]
    for run in runs:
        say(run, image="n" * 10_000)
        for number in range(20):
            say(run, image=f"im{number}")
    assert list(run_files.common_images(runs)) == [f"im{k}" for k in range(5)]


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "exp", run_id=k) for k in (1, 2)]
    for run in runs:
        path = add_image(run, tmp_path / "im.tif", PIXELS)
    files = run_files.common_images(runs)["im"]["result"]
    path.unlink()
    found = run_files.read_panels(runs, files)
    assert isinstance(found, Problem)
    assert str(path) in str(found.error)


def test_without_the_image_itself_the_results_are_shown(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "exp", run_id=k) for k in (1, 2)]
    for run in runs:
        add_image(run, tmp_path / "im.tif", PIXELS)
    (tmp_path / "im.tif").unlink()
    found = run_files.read_panels(runs, run_files.common_images(runs)["im"]["result"])
    assert not isinstance(found, Problem)
    assert [panel.name for panel in found[1]] == ["im restored (job_1)", "im restored (job_2)"]


def test_settings_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    good, bad = write_run(tmp_path, "good"), write_run(tmp_path, "bad")
    lines = bad.events.read_text().splitlines(keepends=True)
    broken = ev.parse_event(lines[0])
    assert broken is not None
    lines[0] = broken.model_copy(update={"config": "a: [1"}).to_line()
    bad.events.write_text("".join(lines))
    found = run_files.compare([good, bad])
    assert [note.split(":")[0] for note in found.notes] == ["bad_1"]
    assert isinstance(run_files.read_config(bad), Problem)
    older = write_run(tmp_path, "older")
    text = older.events.read_text().replace("pretext:", "unknown_key: 1\\npretext:")
    older.events.write_text(text)
    assert ("unknown_key", ["–", "1"]) in run_files.compare([good, older]).rows  # noqa: RUF001
