"""What a killed process was writing is removed by the next one; what is being written stays."""

import os
import subprocess
import sys

import pytest

from napari_ssl_pretrain.data import parts
from napari_ssl_pretrain.data.parts import clear_parts, part_of


@pytest.fixture
def dead():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_only_what_the_dead_left_goes(tmp_path, dead, monkeypatch):
    mine = part_of(tmp_path / "a.tif")
    machine = mine.name.split("-")[-1].removesuffix(".part")
    with monkeypatch.context() as patched:
        patched.setattr(parts.os, "getpid", lambda: dead)
        left = part_of(tmp_path / "b.tif"), part_of(tmp_path / "c.ome.zarr", "old")
    left[0].write_text("half")
    (left[1] / "0").mkdir(parents=True)
    (left[1] / "0" / "0").write_text("half")
    living = tmp_path / f".d.tif.{os.getppid()}-{machine}.part"
    elsewhere = tmp_path / f".e.tif.{dead}-00000000.part"
    kept = [
        mine, living, elsewhere, tmp_path / ".hidden.part", tmp_path / "f.tif",
        tmp_path / f".g.{dead}-{machine}.parts", tmp_path / f"h.{dead}-{machine}.part",
    ]  # fmt: skip
    for path in kept:
        path.write_text("keep")
    clear_parts(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in kept}
    os.utime(elsewhere, (1, 1))
    clear_parts(tmp_path)
    assert not elsewhere.exists()


def test_links_are_removed_not_followed(tmp_path, dead, monkeypatch):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis").write_text("keep")
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(parts.os, "getpid", lambda: dead)
    part_of(folder / "a").symlink_to(precious)
    monkeypatch.undo()
    clear_parts(folder)
    assert list(folder.iterdir()) == []
    assert (precious / "thesis").read_text() == "keep"


def test_a_folder_that_is_none_is_no_error(tmp_path):
    clear_parts(tmp_path / "none")
