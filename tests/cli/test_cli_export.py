"""``export`` from the command line, and the examples that use what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_ssl_pretrain import PretrainConfig, pretrain

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The best checkpoint of the smallest run."""
    here = tmp_path_factory.mktemp("trained")
    (here / "x").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (48, 48), dtype=np.uint8)
    Image.fromarray(pixels).save(here / "x" / "a.png")
    run = pretrain(
        PretrainConfig(
            result_dir=str(here),
            data={"train": str(here / "x"), "patch_size": [16, 16]},
            pretext={"task": "crappify"},
            backbone={"name": "residual_unet", "features_per_stage": [4, 8]},
            training={"epochs": 1, "steps_per_epoch": 2, "batch_size": 2},
            compute={"device": "cpu"},
        )
    ).run_dir
    return run.checkpoint("best")


def words(checkpoint, fmt, output, *more):
    return ("export", "--checkpoint", str(checkpoint), "--format", fmt, "-o", str(output), *more)


def test_it_writes_weights_and_card(here, say, trained):
    said = say(*words(trained, "safetensors", "out/model"))
    assert said.code == 0
    assert "model.safetensors" in said.out
    assert "ResidualEncoderUNet" in said.out
    assert {p.name for p in (here / "out").iterdir()} == {"model.safetensors", "model.json"}
    said = say(*words(trained, "torch", "out/other.pth", "--json"))
    told = json.loads(said.out)
    assert Path(told["weights"]).name == "other.pth"
    assert told["architecture"]["library"] == "dynamic_network_architectures"


@pytest.mark.parametrize(
    "case",
    [
        ("tflite", "m", "--format: tflite: must be one of torch, safetensors, onnx"),
        ("safetensors", "m.pth", "--output: m.pth: is no name of a safetensors file. Name it"),
        ("torch", "m.safetensors", "or take --format safetensors"),
        ("torch", "m.json", "is no name of a torch file. Name it m.pt."),
        ("torch", ".", "is a folder. Name a file in it, such as model.pt"),
        ("torch", "taken", "taken.pt: is there already. Choose another name, or add --overwrite"),
        ("torch", "carded", "carded.json: is there already"),
        ("torch", "file/m", "cannot be written"),
    ],
)
def test_a_wrong_output_is_refused(here, say, trained, everything, case):
    fmt, output, sentence = case
    for name in ("taken.pt", "carded.json", "file"):
        (here / name).touch()
    before = everything(here)
    said = say(*words(trained, fmt, output))
    assert said.code == 2
    assert sentence in said.error
    assert everything(here) == before


def test_overwriting_is_asked_for(here, say, trained):
    (here / "m.pt").touch()
    assert say(*words(trained, "torch", "m.pt", "--overwrite")).code == 0
    assert (here / "m.pt").stat().st_size > 1000


def test_the_checkpoint_is_never_overwritten(say, trained):
    before = trained.read_bytes()
    said = say(*words(trained, "torch", trained, "--overwrite"))
    assert said.code == 2
    assert "is the checkpoint itself" in said.error
    assert trained.read_bytes() == before


def test_a_missing_or_foreign_checkpoint_is_refused(here, say):
    assert "nowhere.pth: no such file" in say(*words("nowhere.pth", "torch", "m")).error
    (here / "x.pth").write_text("no")
    said = say(*words("x.pth", "torch", "m"))
    assert said.code == 2
    assert "x.pth: is no checkpoint" in said.error


def run(*command):
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, check=False
    )


def test_the_example_without_this_package(here, say, trained):
    say(*words(trained, "safetensors", here / "m"))
    done = run(EXAMPLES / "use_safetensors_without_this_package.py", here / "m.safetensors")
    assert done.returncode == 0, done.stderr
    assert "residual_unet (crappify)" in done.stdout


@pytest.mark.process
def test_the_example_of_a_loop_of_your_own():
    began = time.monotonic()
    done = run(EXAMPLES / "finetune_your_own_loop.py")
    assert done.returncode == 0, done.stderr
    assert "% of the network loaded; fresh: net.decoder.seg_layers" in done.stdout
    assert float(done.stdout.split()[-1]) > 0.8
    assert time.monotonic() - began < 120  # under a minute where nothing else runs
