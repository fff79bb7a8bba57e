"""Files made to do harm: refused in one sentence or passed over by name; nothing runs or leaks.

What SECURITY.md promises. Each input is given to every command that reads its kind.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import hostile_files as hostile
import numpy as np
import pytest
import torch
import yaml
from one_step import config, train_one_step
from PIL import Image

from napari_ssl_pretrain.cli import text
from napari_ssl_pretrain.data.ssl_source import prepare_ssl_source
from napari_ssl_pretrain.data.survey import open_image
from napari_ssl_pretrain.pretext import Crappify

SECONDS = 20
MEGABYTES = 300
CONFIG = config("images/good")
NAMES = [
    *("-rf", "--help", "$(touch hurt)", "`touch hurt`", ";touch hurt", "x..", "~", "=1+1"),
    *("<img src=x onerror=alert(1)>", "<b>bold", "[1]", "[bold", "*?", "{a,b}", "{0}", "%s%n"),
    *("a'b\"c", "a\\b", "x$\\frac$", "ünï中文🧪", "\u202etxt", "\udcff\udcfe", "x" * 240),
    *("new\nline", "tab\tx", "red\x1b[31m"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Good images and labels, a checkpoint after one step."""
    place = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(0)
    for folder in ("images/good", "labels"):
        (place / folder).mkdir(parents=True)
        for number in range(3):
            array = rng.integers(0, 255, (48, 48)).astype(np.uint8)
            array = (array > 128).astype(np.uint8) if folder == "labels" else array
            Image.fromarray(array).save(place / folder / f"im{number}.png")
    train_one_step(place, CONFIG)
    return place


@pytest.fixture
def place(trained, tmp_path, monkeypatch):
    """A copy of it to work in, two folders below one that has to stay as it is."""
    work = tmp_path / "above" / "work"
    shutil.copytree(trained, work)
    (tmp_path / "canary").write_text("alive")
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def safely(say, place, everything):
    """Run a command; the canary lives, nothing outside its output changes, all stays small."""
    above = place.parents[1]

    def run(*words, output=""):
        before, began = everything(above), time.monotonic()
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        said = say(*words)
        assert time.monotonic() - began < SECONDS
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) >> 10
        assert grown < MEGABYTES, f"{grown} MB"
        assert (above / "canary").read_text() == "alive"
        inside = f"above/work/{output}"
        made = everything(above) - before
        assert not {p for p in made if not output or f"{p}/".find(f"{inside}/") != 0}
        assert "\x1b" not in said.out + said.err
        return said

    return run


def config(path, **changed):
    """Write a configuration."""
    path.write_text(yaml.safe_dump({**CONFIG, **changed}))
    return str(path)


def uses(checkpoint, images, output, labels="labels"):
    """Return the commands that use a checkpoint, without ``export``."""
    short = ["--n_labels", "2", "--seeds", "1", "--minutes", "0.01", "--device", "cpu"]
    given = ["--checkpoint", checkpoint, "--output", output]
    return (
        ["predict", *given, "--input", images],
        ["features", *given, "--input", images],
        ["transfer", *given, "--images", images, "--labels", labels, *short],
    )


def test_configurations(place, safely):
    for name, content in hostile.yaml_files(place.parents[1] / "canary").items():
        (place / "h.yaml").write_text(content)
        for command in ("check", "run"):
            said = safely(command, "--config", "h.yaml")
            assert said.code == 2, (name, said.err)
            assert len(said.error) < 900, name


@pytest.mark.parametrize("option", ["../../x", "/x", "..", "a/b", "a\nb", "", "~/x"])
def test_names_that_leave_the_result_folder(safely, option):
    for words in (["--name", option], ["--set", f"name={option!r}"]):
        assert "name" in safely("run", "--config", "c.yaml", *words).error


def test_images_alone(place, safely):
    """``check`` of each file alone: one sentence that names it."""
    folder, canary = place / "h", place.parents[1] / "canary"
    folder.mkdir()
    for name, data in hostile.image_files(canary).items():
        (folder / name).write_bytes(data)
    hostile.special_images(folder, canary, place / "outside")
    (place / "labels" / "h").mkdir()
    for path in sorted(folder.iterdir()):
        fields = {"data": {"train": str(path)}}
        said = safely("check", "--config", config(place / "h.yaml", **fields))
        if path.name == "shaped.tif" and said.code == 0:
            continue
        assert (said.code, path.name in said.error) == (2, True), (path.name, said.err)
        assert len(said.error) < 900


def test_images_among_others(place, safely):
    """Every command passes them over by name and does its work on the others."""
    folder, canary = place / "images" / "good", place.parents[1] / "canary"
    for name, data in hostile.image_files(canary).items():
        (folder / name).write_bytes(data)
    hostile.special_images(folder, canary, place / "outside")
    hostile.unreadable_images(folder)
    for path in [p for p in folder.iterdir() if not p.name.startswith("im")]:
        shutil.copy(place / "labels" / "im0.png", place / "labels" / f"{path.stem}.png")
    names = {p.name for p in folder.iterdir() if not p.name.startswith(("im0", "im1", "im2"))}
    said = safely("check", "--config", "c.yaml", "--json")
    assert said.code == 0, said.err
    skipped = {Path(row["path"]).name for row in json.loads(said.out)["skipped"]}
    read = {"outside.zarr", "endless.zarr", "waits.zarr", "sparse.zarr"}
    assert names - skipped - read <= {"loop.tif"}
    assert safely("run", "--config", "c.yaml", output="out").code == 0
    for words in uses("best.pth", "images/good", "o"):
        said = safely(*words, output="o")
        assert said.code in {0, 2}, said.err
        shutil.rmtree("o", ignore_errors=True)


def test_checkpoints(place, safely):
    """Each file that poses as one, through every command that loads one."""
    good = torch.load("best.pth", weights_only=True)  # noqa: TID251 - entries to change
    for name, data in hostile.checkpoint_files(good, place.parents[1] / "canary").items():
        (place / name).write_bytes(data)
        for words in (
            *uses(name, "images/good/im0.png", "o"),
            ["export", "--checkpoint", name, "--format", "torch", "--output", "o"],
        ):
            said = safely(*words)
            assert (said.code, name in said.error) == (2, True), (name, said.err)
        if "network" in said.error or "damaged" in said.error or "configuration" in said.error:
            continue  # only weights are taken from it
        fields = {"training": {**CONFIG["training"], "load_checkpoint": name}}
        said = safely("run", "--config", config(place / "h.yaml", **fields))
        assert (said.code, name in said.error) == (2, True), (name, said.err)


def test_names(place, safely):
    """Files with awkward names are images like others, and stay files."""
    folder = place / "named"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        shutil.copy(f"images/good/im{number % 3}.png", folder / f"{name}.png")
        shutil.copy(f"labels/im{number % 3}.png", place / "labels" / f"{name}.png")
    fields = {"data": {**CONFIG["data"], "train": str(folder), "test": str(folder)}}
    path = config(place / "h.yaml", **fields, pretext={"task": "crappify", "fresh": False})
    for command in ("check", "run"):
        said = safely(command, "--config", path, output="out")
        assert said.code == 0, said.err
    for words in uses("best.pth", str(folder), "o"):
        assert safely(*words, output="o").code == 0
        if words[0] == "predict":
            assert len(list((place / "o").iterdir())) == len(NAMES)
        shutil.rmtree("o") if words[0] != "transfer" else None
    page = (place / "o" / "report.html").read_text("utf-8")
    assert "<img src=x" not in page
    assert "<b>bold" not in page
    assert not list(place.rglob("hurt"))


@pytest.mark.parametrize("name", ["-x", "[1]", "a'b", "*", "$(touch hurt)"])
def test_a_folder_with_such_a_name(place, safely, name):
    (place / name).mkdir()
    shutil.copy("images/good/im0.png", place / name / "im0.png")
    given = f"--input={name}"
    said = safely("predict", "--checkpoint", "best.pth", given, "--output", "o", output="o")
    assert (said.code, sorted(p.name for p in Path("o").iterdir())) == (0, ["im0.tif"])
    fields = {"result_dir": str(place / "out;touch hurt")}
    words = ["run", "--config", config(place / "h.yaml", **fields), "--set", f"data.train={name}"]
    if name.isascii() and name[0] not in "*[-":
        said = safely(*words, output="out;touch hurt")
        assert f"'{place}/out;touch hurt/job/checkpoints" in said.out


def test_what_a_terminal_would_obey_is_shown():
    assert text.plain("a\x1b[31mb\x9b\u202e\udcff\tü\n") == "a\\x1b[31mb\\x9b\\u202e\\udcff\\tü\n"
    assert text.table(["x"], [["a\nb"]]).splitlines()[-1] == "a\\nb"


def test_a_record_of_copies_names_only_its_own_files(place):
    """A record that came with a folder cannot have other files removed."""
    canary, folder = place.parents[1] / "canary", place / "copies"
    image, task = open_image(place / "images" / "good" / "im0.png"), Crappify(axis_factors=(2, 2))
    prepare_ssl_source([image], task, folder, 0)
    record = json.loads((folder / "ssl_source.json").read_text())
    for name in (os.path.relpath(canary, folder), str(canary)):
        record["copies"][name] = {}
    (folder / "ssl_source.json").write_text(json.dumps(record))
    prepare_ssl_source([image], task, folder, 0)
    assert canary.exists()


def test_a_process_under_a_memory_limit(place):
    """Nothing is set aside for what a header claims, not even on paper."""
    folder, canary = place / "images" / "good", place.parents[1] / "canary"
    for name, data in hostile.image_files(canary).items():
        (folder / name).write_bytes(data)
    code = (
        "import resource, sys; from napari_ssl_pretrain.data.survey import open_image;"
        "from napari_ssl_pretrain.errors import UserError\n"
        "import tifffile, imagecodecs, zarr\n"
        "now = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (now + (200 << 20),) * 2)\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        image = open_image(path)\n"
        "    except UserError as error:\n"
        "        assert 'Memory' not in str(error), error\n"
        "    else:\n"
        "        image.read(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, sorted(folder.iterdir()))],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-900:]
    assert canary.exists()
