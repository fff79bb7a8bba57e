"""Links planted where results go, tricks in Zarr and checkpoints: a canary stays as it is."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import zipfile
from pathlib import Path

import hostile_files as hostile
import numpy as np
import pytest
import torch
import zarr
from one_step import config, train_one_step
from PIL import Image

from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.runner import start
from napari_ssl_pretrain.spec.config import PretrainConfig

CONFIG = config("images")
RUN = "job/results/job_1"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Images, a configuration and a checkpoint after one step."""
    place = tmp_path_factory.mktemp("trained")
    (place / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(rng.integers(0, 255, (48, 48)).astype(np.uint8)).save(
            place / "images" / f"im{number}.png"
        )
    train_one_step(place, CONFIG)
    return place


@pytest.fixture
def place(trained, tmp_path, monkeypatch):
    """A copy of it to work in, beside a folder with a canary that nothing may touch."""
    shutil.copytree(trained, tmp_path / "work")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "canary").write_text("alive")
    monkeypatch.chdir(tmp_path / "work")
    yield tmp_path / "work"
    outside = list((tmp_path / "outside").rglob("*"))
    assert [p.name for p in outside] == ["canary"]
    assert outside[0].read_text() == "alive"


@pytest.mark.parametrize("way", [[], ["--overwrite"], ["--resume"]])
@pytest.mark.parametrize(
    ("link", "target"),
    [
        (f"{RUN}/events.jsonl", "canary"),
        (f"{RUN}/run.log", "canary"),
        (f"{RUN}/train_logs", ""),
        (f"{RUN}/tensorboard", ""),
        (f"{RUN}/MAE_checks/deeper/im0.tif", "canary"),
        (RUN, ""),
        ("job/checkpoints", ""),
        ("job/checkpoints/job_1-checkpoint-last.pth", "canary"),
        ("job/config_files/job.yaml", "canary"),
        ("job", ""),
    ],
)
def test_links_planted_in_the_result_folder(place, say, link, target, way):
    path = place / "out" / link
    path.parent.mkdir(parents=True)
    path.symlink_to(place.parent / "outside" / target)
    said = say("run", "--config", "c.yaml", *way)
    assert said.code == 2
    if not way:
        assert "a link" in said.error or "exists" in said.error
    with pytest.raises(ConfigError, match="link that leads out"):
        start(PretrainConfig.from_dict(CONFIG), overwrite=True)
    assert path.is_symlink()


def test_links_that_stay_inside_and_a_linked_result_folder_are_fine(place, say):
    (place / "real" / "job" / "elsewhere").mkdir(parents=True)
    (place / "out").symlink_to("real")
    (place / "out" / "job" / "checkpoints").symlink_to("elsewhere")
    assert say("run", "--config", "c.yaml").code == 0
    assert list((place / "real/job/elsewhere").glob("*.pth"))


@pytest.mark.parametrize("command", ["predict", "features"])
def test_links_planted_in_an_output_folder(place, say, command):
    """A result takes the link's place."""
    (place / "o").mkdir()
    say(command, "--checkpoint", "best.pth", "--input", "images", "--output", "o")
    made = [p.name for p in (place / "o").iterdir() if p.is_file()]
    assert made
    shutil.rmtree(place / "o")
    (place / "o").mkdir()
    for name in made:
        (place / "o" / name).symlink_to(place.parent / "outside" / "canary")
    said = say(command, "--checkpoint", "best.pth", "--input", "images", "--output", "o")
    assert said.code in {0, 2}, said.err


def test_links_planted_where_a_study_and_an_export_go(place, say):
    canary = place.parent / "outside" / "canary"
    (place / "o").mkdir()
    (place / "o" / "events.jsonl").symlink_to(canary)
    words = ["--images", "images", "--labels", "labels", "--output", "o", "--device", "cpu"]
    assert say("transfer", "--checkpoint", "best.pth", *words).code == 2
    for name in ("w.pth", "w.safetensors"):
        (place / name).symlink_to(canary)
        given = ["--checkpoint", "best.pth", "--format", "torch", "--output", name]
        assert say("export", *given).code in {0, 2}


@pytest.mark.parametrize("output", ["a'b\"c", "-x", "[1]", "ünï中文", "a b", "x..", "%s{0}", "a;b"])
def test_output_of_any_name(place, say, output):
    given = ["--checkpoint", "best.pth", "--input", "images"]
    said = say("predict", *given, f"--output={output}")
    assert said.code == 0, said.err
    assert sorted(p.name for p in (place / output).iterdir()) == ["im0.tif", "im1.tif"]


def zarr_with(path, **changed):
    """An OME-Zarr image of format 3 whose description is changed."""
    group = zarr.open_group(path, mode="w")
    group.create_array("0", shape=(48, 48), dtype="u1", chunks=(16, 16))[:] = 7
    axes = [{"name": a, "type": "space"} for a in "yx"]
    entry = {"axes": axes, "datasets": [{"path": "0"}]} | changed
    group.attrs["ome"] = {"version": "0.5", "multiscales": [entry]}


def test_zarr_tricks(place, say):
    """Levels outside of the store, links for chunks and metadata, names of axes as paths."""
    outside = place.parent / "outside"
    folder = place / "z"
    folder.mkdir()
    for number, level in enumerate(
        ["../../outside", "..", "/etc", str(outside), "0/../../..", "\0", "0" * 5000, 7, None, [0]]
    ):
        zarr_with(folder / f"level{number}.zarr", datasets=[{"path": level}])
    zarr_with(folder / "axes.zarr", axes=["../y", "x"])
    zarr_with(folder / "none.zarr", axes=[None, 3])
    zarr_with(folder / "scale.zarr", coordinateTransformations=[{"type": "scale", "scale": "ab"}])
    zarr_with(folder / "chunk.zarr")
    chunk = next(
        p for p in (folder / "chunk.zarr" / "0").rglob("*") if p.is_file() and not p.suffix
    )
    chunk.unlink()
    chunk.symlink_to(outside / "canary")
    zarr_with(folder / "meta.zarr")
    (folder / "meta.zarr" / "zarr.json").unlink()
    (folder / "meta.zarr" / "zarr.json").symlink_to(outside / "canary")
    zarr_with(folder / "circle.zarr")
    (folder / "circle.zarr" / "more").symlink_to(folder / "circle.zarr")
    with zipfile.ZipFile(folder / "store.zip", "w") as archive:
        archive.writestr("../../outside/new", "written")
    (folder / "big.zarr").mkdir()
    told = {"zarr_format": 2, "shape": [48, 48], "chunks": [0, 0], "dtype": "|u1"}
    told |= {"compressor": None, "filters": None, "order": "C", "fill_value": "x"}
    (folder / "big.zarr" / ".zarray").write_text(json.dumps(told))
    for path in sorted(folder.iterdir()):
        said = say("check", "--config", "c.yaml", "--set", f"data.train={path}")
        assert "Traceback" not in said.err
        if path.name not in {"chunk.zarr", "circle.zarr", "level7.zarr", "scale.zarr"}:
            assert (said.code, path.name in said.error) == (2, True), (path.name, said.err)
    said = say("run", "--config", "c.yaml", "--set", f"data.train={folder}")
    assert "Traceback" not in said.err


def onnx_like(name):
    """The first bytes of an ONNX file that asks for data in another file."""
    return b"\x08\x08\x12\x07pytorch" + struct.pack("B", len(name)) + name.encode() * 50


def claims(**entry):
    """A safetensors file with one entry."""
    head = json.dumps({"a": entry}).encode()
    return struct.pack("<Q", len(head)) + head + bytes(16)


def test_what_poses_as_a_checkpoint(place, say):
    canary = place.parent / "outside" / "canary"
    slip = io.BytesIO()
    with zipfile.ZipFile(slip, "w") as archive:
        archive.writestr("../../outside/new", "written")
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    good = torch.load("best.pth", weights_only=True)  # noqa: TID251 - entries to change
    files = {
        "net.onnx": onnx_like("../outside/canary"),
        "net.pth": onnx_like("../outside/canary"),
        "slip.pth": slip.getvalue(),
        "archive.zip": slip.getvalue(),
        "text.pth": b"!!python/object/apply:os.system ['true']\n",
        "empty.pth": b"",
        "half.pth": Path("best.pth").read_bytes()[:-5000],
        "names.pth": hostile.torch_file({**good, "config": {**good["config"], "result_dir": "/x"}}),
        "loops.pth": hostile.torch_file({**good, "model": {"a": [[]]}}),
        "back.safetensors": claims(dtype="F32", shape=[2], data_offsets=[8, 0]),
        "minus.safetensors": claims(dtype="F32", shape=[-2], data_offsets=[0, 8]),
        "type.safetensors": claims(dtype="os.system", shape=[2], data_offsets=[0, 8]),
        "over.safetensors": claims(dtype="F32", shape=[2**62, 2**62], data_offsets=[0, 8]),
    }
    for name, data in files.items():
        Path(name).write_bytes(data)
        for words in (
            ["predict", "--checkpoint", name, "--input", "images", "--output", "o"],
            ["run", "--config", "c.yaml", "--set", f"training.load_checkpoint={name}"],
        ):
            said = say(*words)
            assert "Traceback" not in said.err
            if name == "names.pth" or (words[0] == "run" and said.code == 0):
                assert not Path("/x").exists()
                shutil.rmtree("out", ignore_errors=True)
                continue
            assert (said.code, name in said.error) == (2, True), (name, words[0], said.err)
        shutil.rmtree("o", ignore_errors=True)
    assert canary.exists()
    assert not os.path.lexists(place.parent / "outside" / "new")
