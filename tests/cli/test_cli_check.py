from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from napari_ssl_pretrain.cli import check
from napari_ssl_pretrain.cli import report as reports

LIGHT = ("--set", "backbone.size=tiny", "training.batch_size=2", "data.patch_size=[32, 32]")
"""Settings whose trial steps take no time."""


@pytest.fixture
def mixed(images):
    """The images, and among them one damaged file and one of text."""
    folder = images / "train" / "x"
    whole = (folder / "im0.png").read_bytes()
    (folder / "torn.tif").write_bytes(b"II*\x00" + whole[:20])
    (folder / "notes.txt").write_text("hello")
    return images


def test_a_folder_is_enough(images, say):
    before = sorted(images.parent.rglob("*"))
    said = say("check", "images", *LIGHT)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0].split() == [
        "image",
        "set",
        "axes",
        "shape",
        "dtype",
        "channels",
        "pixel",
        "size",
    ]
    assert [line.split()[:2] for line in lines[1:5]] == [
        ["im0.png", "train"], ["im1.png", "train"], ["im2.png", "train"], ["im3.png", "test"],
    ]  # fmt: skip
    assert "48 x 48" in lines[1]
    assert "3 to train, 1 to test; 2D, 1 channel" in said.out
    assert re.search(r"^crappify: \w+ \(tiny, ", said.out, re.MULTILINE)
    assert re.search(r"^masking: \w+ \(tiny, ", said.out, re.MULTILINE)
    assert said.out.count(" of training at ") == said.out.count(" GB of memory") == 2
    assert sorted(images.parent.rglob("*")) == before


@pytest.mark.parametrize("given", ["images/train", "images/train/x", "images/train/x/*.png"])
def test_other_ways_to_name_images(images, say, given):
    assert images.is_dir()
    assert "3 to train; 2D" in say("check", given, *LIGHT).out


def test_what_is_skipped_is_named_with_the_reason(mixed, say):
    said = say("check", str(mixed), *LIGHT)
    assert said.code == 0
    skipped = [line for line in said.out.splitlines() if line.startswith("skipped: ")]
    assert len(skipped) == 2
    assert any("torn.tif: " in line for line in skipped)
    assert any("notes.txt: " in line for line in skipped)


def test_json_says_the_same(mixed, say):
    said = say("check", str(mixed), "--full", "--json", *LIGHT)
    fields = json.loads(said.out)
    assert [image["set"] for image in fields["images"]] == ["train", "train", "train", "test"]
    image = fields["images"][0]
    assert (image["axes"], image["shape"], image["dtype"], image["channels"]) == (
        "YX",
        [48, 48],
        "uint8",
        1,
    )
    assert 0 <= image["range"][0] < image["range"][1] <= 255
    assert len(fields["skipped"]) == 2
    assert {plan["task"] for plan in fields["plans"]} == {"crappify", "masking"}
    for plan in fields["plans"]:
        assert len(plan["patch_size"]) == 2
        assert plan["fits"]
        assert min(plan["training_seconds"], plan["memory_gb"], plan["parameters"]) > 0


def test_full_reads_every_pixel(images, say):
    dark = np.zeros((48, 48), np.uint8)
    dark[40, 40] = 77
    Image.fromarray(dark).save(images / "train" / "x" / "dark.png")
    assert "0 to 77" in say("check", "images", "--full", *LIGHT).out
    assert "0 to 77" not in say("check", "images", *LIGHT).out


def test_a_configuration_and_its_options(images, say):
    fields = {"data": {"train": "images/train/x"}, "pretext": {"task": "masking"}}
    (images.parent / "c.yaml").write_text(yaml.safe_dump(fields))
    said = say(
        "check",
        "--config",
        "c.yaml",
        "--set",
        "training.batch_size=3",
        "data.patch_size=[32, 32]",
        "backbone.size=tiny",
    )
    assert re.search(r"^masking: \w+ \(.*\), 3 patches of 32 x 32 a step", said.out, re.MULTILINE)
    assert "crappify" not in said.out


def test_wrong_settings_are_refused_as_by_run(images, say):
    assert images.is_dir()
    assert "data.ndim: 3:" in say("check", "images", "--set", "data.ndim=3").error
    assert "data.train: nowhere: does not exist" in say("check", "nowhere").error


def test_the_table_needs_no_torch(images):
    code = (
        "import sys; from napari_ssl_pretrain.cli import check; "
        "check.plan = lambda *a: {}; check.plan_lines = list; "
        "from napari_ssl_pretrain.cli import main; "
        "code = main(['check', 'images']); assert 'torch' not in sys.modules; sys.exit(code)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=images.parent, capture_output=True)


@pytest.mark.usefixtures("images")
def test_how_many_files_and_pixels_are_read_goes_to_the_error_stream(say, monkeypatch):
    monkeypatch.setattr(check, "TELL_SECONDS", -1)
    monkeypatch.setattr(reports, "SECONDS_BETWEEN_LINES", 0)
    monkeypatch.setattr(reports, "MOST_SECONDS_BETWEEN_LINES", 0)
    said = say("check", "images", "--full", "--json", *LIGHT)
    assert json.loads(said.out)["images"]
    assert "Reading headers: 4 of 4" in said.err
    pixels = 4 * 48 * 48
    assert f"Reading pixels: {pixels} of {pixels}" in said.err
