"""``features``: the files it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_ssl_pretrain.engine.run import pretrain
from napari_ssl_pretrain.spec.config import PretrainConfig


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A network after one step."""
    folder = tmp_path_factory.mktemp("trained")
    pixels = np.random.default_rng(0).integers(0, 255, (48, 48), np.uint8)
    (folder / "images").mkdir()
    Image.fromarray(pixels).save(folder / "images" / "a.png")
    config = PretrainConfig.from_dict(
        {
            "name": "job",
            "result_dir": str(folder / "out"),
            "data": {"train": str(folder / "images"), "patch_size": [16, 16]},
            "pretext": {"task": "crappify"},
            "backbone": {"size": "tiny"},
            "training": {"epochs": 1, "steps_per_epoch": 1, "batch_size": 1},
            "compute": {"device": "cpu", "workers": 1},
        }
    )
    pretrain(config)
    return folder / "out" / "job" / "checkpoints" / "job_1-checkpoint-best.pth"


def test_a_folder_gets_colours_numbers_and_similarity(say, images, everything, checkpoint):
    said = say(
        *("features", "--checkpoint", str(checkpoint), "--input", str(images / "train" / "x")),
        *("--output", "out", "--point", "10,20"),
    )
    assert said.code == 0, said.err
    assert "Written: 12 files in out" in said.out
    assert everything(Path("out")) == {
        f"im{k}_{end}"
        for k in range(3)
        for end in ("features.tif", "features.npy", "features.json", "similarity.tif")
    }
    assert tifffile.imread("out/im0_features.tif").shape == (48, 48, 3)
    likeness = tifffile.imread("out/im0_similarity.tif")
    assert likeness[10, 20] == pytest.approx(1, abs=1e-5)
    about = json.loads(Path("out/im0_features.json").read_text())
    numbers = np.load("out/im0_features.npy", mmap_mode="r")
    assert numbers.dtype == np.float16
    assert numbers.shape == (about["channels"], *about["grid"])
    assert about["step"] == [2, 2]
    assert about["shape"] == [48, 48]


def test_json_is_one_event_a_line(say, images, checkpoint):
    said = say(
        *("features", "--checkpoint", str(checkpoint), "--json"),
        *("--input", str(images / "test" / "x" / "im3.png"), "--output", "out"),
    )
    events = [json.loads(line) for line in said.out.splitlines()]
    assert {e["kind"] for e in events} == {"progress", "image_saved"}
    assert events[0]["stage"] == "features"
    assert events[-1]["done"] == events[-1]["total"]


BAD = {
    "no checkpoint": ({"--checkpoint": "none.pth"}, "--checkpoint: none.pth: no such file"),
    "foreign checkpoint": ({"--checkpoint": "foreign.pth"}, "foreign.pth: is no checkpoint"),
    "no input": ({"--input": "none"}, "--input: none: does not exist"),
    "nothing readable": ({"--input": "notes"}, "--input"),
    "output is input": ({"--output": "images/train/x"}, "--output: images/train/x: is the folder"),
    "colours": ({"--input": "colours"}, "was trained on 1 channels, the images have 3"),
    "point is no pixel": ({"--point": "a,b"}, "--point: a,b: must be a pixel"),
    "point lies outside": ({"--point": "48,1"}, "--point: 48,1: lies outside im0, which has"),
    "point in depth": ({"--point": "1,2,3"}, "--point: 1,2,3: must be y,x of im0"),
    "device": ({"--device": "cuda:63"}, "cuda:63: is not on this machine"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_can_be_mended_is_named_and_nothing_is_written(say, here, images, checkpoint, case):
    del images
    (here / "foreign.pth").write_text("nothing")
    (here / "notes").mkdir()
    (here / "notes" / "a.tif").write_text("nothing")
    (here / "colours").mkdir()
    Image.fromarray(np.zeros((48, 48, 3), np.uint8)).save(here / "colours" / "c.png")
    changed, wanted = BAD[case]
    words = {"--checkpoint": str(checkpoint), "--input": "images/train/x", "--output": "out"}
    said = say("features", *(w for pair in (words | changed).items() for w in pair))
    assert said.code == 2
    assert wanted in said.error
    assert not (here / "out").exists()
