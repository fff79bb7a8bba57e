"""Exports: the same outputs in a process without this package, read back here, foreign refused."""

import json
import pickle
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from export_samples import CASES, SIDES, make, outputs
from run_samples import config, do, write

from napari_ssl_pretrain import load_backbone
from napari_ssl_pretrain.cli.parser import EXPORT_FORMATS
from napari_ssl_pretrain.engine import checkpoint
from napari_ssl_pretrain.engine.backbones import BackboneSpec
from napari_ssl_pretrain.engine.export import FORMATS, export
from napari_ssl_pretrain.engine.predict import predict
from napari_ssl_pretrain.errors import CheckpointError, ConfigError
from napari_ssl_pretrain.pretext.base import Intensity
from napari_ssl_pretrain.pretext.masking import Masking
from napari_ssl_pretrain.spec.card import without_folders

EXAMPLES = Path(__file__).parents[2] / "examples"
ELSEWHERE = """
import json, sys
from pathlib import Path
sys.modules["napari_ssl_pretrain"] = None  # any import of it fails
sys.path.insert(0, sys.argv[1])
import torch
from safetensors.torch import load_file
from use_safetensors_without_this_package import build
for card_file in Path(sys.argv[2]).glob("*.json"):
    card = json.loads(card_file.read_text())
    network = build(card["architecture"])
    network.load_state_dict(load_file(card_file.with_name(card["weights"]["file"])))
    seen = torch.load(card_file.with_suffix(".in"))
    if card["input"]["channels"][-1].startswith("hidden"):
        seen = torch.cat([seen, torch.zeros_like(seen[:, :1])], dim=1)
    assert seen.shape[1] == len(card["input"]["channels"])
    with torch.no_grad():
        torch.save(network.eval()(seen), card_file.with_suffix(".out"))
"""


def test_a_process_without_this_package_gets_the_same_outputs(tmp_path):
    wanted = {}
    for number, (name, task, ndim) in enumerate(CASES):
        path = tmp_path / f"{number}.pth"
        make(path, name, task, ndim)
        images = torch.randn(2, 2, *SIDES[ndim], generator=torch.Generator().manual_seed(number))
        wanted[number] = outputs(path, images)
        assert wanted[number].abs().max() > 0.01
        export(path, "safetensors", tmp_path / "out" / f"{number}")
        torch.save(images, tmp_path / "out" / f"{number}.in")
    words = [sys.executable, "-c", ELSEWHERE, str(EXAMPLES), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for number, expected in wanted.items():
        got = torch.load(tmp_path / "out" / f"{number}.out")  # noqa: TID251 - the test's own
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5, msg=str(CASES[number]))


@pytest.mark.parametrize("fmt", ["torch", "safetensors"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_an_export_is_read_like_the_checkpoint(tmp_path, case, fmt):
    state = make(tmp_path / "a.pth", *case)
    done = export(tmp_path / "a.pth", fmt, tmp_path / "model")
    assert done.weights.suffix == FORMATS[fmt].suffixes[0]
    images = torch.randn(1, 2, *SIDES[case[2]])
    assert torch.equal(outputs(tmp_path / "a.pth", images), outputs(done.weights, images))
    again = checkpoint.load(done.weights)
    assert again.keys() == set(checkpoint.KEYS)
    assert again["model"].keys() == state["model"].keys()
    assert BackboneSpec(**again["backbone"]) == BackboneSpec(**state["backbone"])


def test_the_plain_torch_autoencoder_hides_as_ours_does(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    plain_kind = import_module("mae_vit_plain_torch").MaskedAutoencoder
    make(tmp_path / "a.pth", "mae_vit", "masking", 2)
    done = export(tmp_path / "a.pth", "safetensors", tmp_path / "model")
    plain = plain_kind(**done.card.architecture.arguments)
    plain.load_state_dict(safetensors.torch.load_file(done.weights))
    ours = load_backbone(done.weights).eval()
    images = torch.randn(2, 2, *SIDES[2])
    score = torch.rand(2, 4 * 6, generator=torch.Generator().manual_seed(1))
    hidden = (score.argsort(1).argsort(1) < 15).reshape(2, 4, 6)
    torch.testing.assert_close(plain(images, hidden), ours(images, hidden), rtol=0, atol=1e-5)
    everything = torch.arange(24).expand(2, -1)
    torch.testing.assert_close(
        plain.encode(images), ours.encode(images, everything), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("case", [case for case in CASES if case[1] == "masking"])
def test_the_example_restores_as_in_pretraining(tmp_path, monkeypatch, case):
    monkeypatch.syspath_prepend(EXAMPLES)
    example = import_module("use_safetensors_without_this_package")
    make(tmp_path / "a.pth", *case)
    done = export(tmp_path / "a.pth", "safetensors", tmp_path / "model")
    card = json.loads(done.card_file.read_text())
    network = example.build(card["architecture"])
    network.load_state_dict(safetensors.torch.load_file(done.weights))
    image = np.random.default_rng(0).normal(1000, 100, (2, *SIDES[case[2]])).astype(np.float32)
    axes = tuple(range(1, image.ndim))
    mean, std = (torch.from_numpy(f(image, axes)[None]) for f in (np.mean, np.std))
    intensity = Intensity(mean, std, mean[:, 0], mean[:, 0])
    task = Masking(token_size=(4,) * case[2])
    hidden = torch.zeros(1, *(n // 4 for n in SIDES[case[2]]), dtype=torch.bool)
    batch = task.hide(torch.from_numpy(image)[None], intensity, hidden)
    ours = load_backbone(tmp_path / "a.pth").eval()
    with torch.no_grad():
        wanted = intensity.denormalize(batch.restored(lambda seen, _: ours(seen)))
    got = torch.from_numpy(example.restore(network.eval(), card, image))
    torch.testing.assert_close(got, wanted[0], rtol=1e-4, atol=0.05, check_dtype=False)


def test_the_card_says_how_to_use_it(tmp_path):
    make(tmp_path / "a.pth", "residual_unet", "masking", 3)
    done = export(tmp_path / "a.pth", "safetensors", tmp_path / "model.safetensors")
    text = done.card_file.read_text()
    card = json.loads(text)
    assert card == done.card.model_dump(mode="json")
    assert "somebody" not in text
    assert card["checkpoint"]["config"]["data"]["train"] == ["x"]
    assert "model" not in card["checkpoint"]
    assert "optimizer" not in card["checkpoint"]
    assert card["licence"] is None
    network = card["architecture"]
    assert network["python_class"].endswith("unet.ResidualEncoderUNet")
    assert network["arguments"]["conv_op"] == "torch.nn.Conv3d"
    assert network["arguments"]["input_channels"] == len(card["input"]["channels"]) == 3
    assert "Feed zeros" in card["input"]["channels"][-1]
    assert card["input"]["axes"] == "BCZYX"
    assert card["normalization"]["offset"] == "mean of the whole image"
    assert "smooth" in card["output"]["meaning"]
    names = safetensors.torch.load_file(done.weights)
    assert any(name.startswith(tuple(network["encoder"])) for name in names)
    assert any(name.startswith(tuple(network["head"])) for name in names)
    assert not any(name.startswith("net.") for name in names)


def test_custom_statistics_are_kept(tmp_path):
    fixed = {"mean": [3.0, 4.0], "std": [1.0, 2.0]}
    made = {"normalization_statistics": fixed, "data": {"normalization": "custom"}}
    make(tmp_path / "a.pth", "unet", "crappify", 2, **made)
    done = export(tmp_path / "a.pth", "safetensors", tmp_path / "m")
    assert (done.card.normalization.mean, done.card.normalization.std) == ((3, 4), (1, 2))
    assert checkpoint.load(done.weights)["normalization_statistics"] == fixed


def test_paths_keep_their_last_part_alone():
    before = {
        "result_dir": "C:\\Users\\me\\out",
        "data": {"train": ["/a/b/x", "/a/*.tif"], "validation": None, "ndim": 2},
        "pretext": {"ssl_source_dir": "auto"},
        "training": {"load_checkpoint": "/a/b.pth"},
    }
    after = without_folders(before)
    assert after["data"] == {"train": ["x", "*.tif"], "validation": None, "ndim": 2}
    assert after["result_dir"] == "out"
    assert after["training"]["load_checkpoint"] == "b.pth"
    assert before["data"]["train"][0] == "/a/b/x"


def test_load_backbone_reports(tmp_path):
    make(tmp_path / "a.pth", "residual_unet", "crappify", 2)
    export(tmp_path / "a.pth", "safetensors", tmp_path / "m")
    whole = load_backbone(tmp_path / "m.safetensors")
    assert whole.load_report.share == 1
    assert not whole.load_report.random
    fresh = load_backbone(tmp_path / "m.safetensors", out_channels=5)
    assert fresh(torch.zeros(1, 2, *SIDES[2])).shape == (1, 5, *SIDES[2])
    assert 0.9 < fresh.load_report.share < 1
    assert all(name.startswith(fresh.head_prefixes()) for name in fresh.load_report.random)
    assert "% of the network loaded; fresh: net.decoder.seg_layers" in str(fresh.load_report)


def test_an_export_predicts_resumes_nothing_and_starts_a_training(tmp_path):
    write(tmp_path / "images" / "a.tif", "YX", (40, 32), "uint8", 1)
    asked = config(tmp_path, "crappify", data={"test": None})
    result, _ = do(asked)
    done = export(result.run_dir.checkpoint("best"), "safetensors", tmp_path / "m")
    (one,) = predict(result.run_dir.checkpoint("best"), tmp_path / "images", tmp_path / "p")
    (two,) = predict(done.weights, tmp_path / "images", tmp_path / "q")
    assert one.read_bytes() == two.read_bytes()
    again = config(tmp_path, "crappify", data={"test": None}, name="again")
    start = again.training.replace(load_checkpoint=str(done.weights))
    _, said = do(again.replace(training=start))
    assert any("100% of the network loaded" in getattr(event, "message", "") for event in said)


@dataclass
class Stamped:
    when: datetime


def lightning(path):
    torch.save({"pytorch-lightning_version": "2.4", "state_dict": {"w": torch.zeros(3)}}, path)


def nnunet(path):
    weights = {"encoder.stages.0": torch.zeros(3)}
    logging = {"epoch_start_timestamps": [np.float64(1.5)], "when": Stamped(datetime(2024, 1, 1))}
    torch.save({"network_weights": weights, "logging": logging, "trainer_name": "nnUNet"}, path)


def biapy(path):
    state = {"model_build_kwargs": {}, "model": {"w": torch.zeros(3)}, "biapy_version": "3.6"}
    torch.save(state, path)


def cut(path):
    safetensors.torch.save_file({"w": torch.zeros(100)}, path, {"card": "{}"})
    path.write_bytes(path.read_bytes()[:-40])


def carded(card):
    return lambda path: safetensors.torch.save_file({"w": torch.zeros(3)}, path, {"card": card})


def sent(fmt):
    """An export for another program."""

    def build(path):
        make(path.with_name("a.pth"), "unet", "crappify", 2, network={"norm": "instance"})
        export(path.with_name("a.pth"), fmt, path)

    return build


def zoo(path):
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("rdf.yaml", "type: model")


FOREIGN = {
    "for_nnunet.pth": (sent("nnunet"), "is a checkpoint of this program for nnU-Net"),
    "for_biapy.pth": (sent("biapy"), "is a checkpoint of this program for BiaPy"),
    "zoo.zip": (zoo, "is a bioimage.io package"),
    "graph.onnx": (lambda p: p.write_bytes(b"\x08\x0a\x12\x07pytorch..."), "is an ONNX file"),
    "nnunet.pth": (nnunet, "is a checkpoint of nnU-Net"),
    "biapy.pth": (biapy, "is a checkpoint of BiaPy"),
    "lightning.ckpt": (lightning, "is a checkpoint of PyTorch Lightning"),
    "plain.pt": (lambda p: torch.save({"w": torch.zeros(3)}, p), "no checkpoint of this program"),
    "net.pkl": (lambda p: p.write_bytes(pickle.dumps({"w": 1})), "is a Python pickle"),
    "keras.h5": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "is an HDF5 file"),
    "timm.safetensors": (
        lambda p: safetensors.torch.save_file({"w": torch.zeros(3)}, p, {"format": "pt"}),
        "is a safetensors file of other software",
    ),
    "cut.safetensors": (cut, "is a damaged safetensors file"),
    "word.safetensors": (carded("no json"), "is a damaged safetensors file"),
    "list.safetensors": (carded("[1]"), "safetensors file of other software"),
    "empty.safetensors": (carded("{}"), "safetensors file of other software"),
    "text.pth": (lambda p: p.write_text("weights"), "is no checkpoint"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_refused_with_a_sentence(tmp_path, name):
    build, sentence = FOREIGN[name]
    build(tmp_path / name)
    with pytest.raises(CheckpointError, match=sentence) as caught:
        load_backbone(tmp_path / name, out_channels=2)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert "an export of it" in str(caught.value)


def test_the_card_is_not_the_weights(tmp_path):
    make(tmp_path / "a.pth", "unet", "crappify", 2)
    done = export(tmp_path / "a.pth", "torch", tmp_path / "m")
    with pytest.raises(CheckpointError, match="is the card of an export"):
        load_backbone(done.card_file)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    make(tmp_path / "a.pth", "unet", "crappify", 2)
    done = export(tmp_path / "a.pth", "safetensors", tmp_path / "out" / "m")
    before = done.weights.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(ConfigError, match=r"cannot be written \(No space left"):
        export(tmp_path / "a.pth", "safetensors", tmp_path / "out" / "m", overwrite=True)
    assert done.weights.read_bytes() == before
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["m.json", "m.safetensors"]


def test_a_bare_checkpoint_is_refused(tmp_path):
    state = make(tmp_path / "a.pth", "unet", "crappify", 2)
    bare = {key: state[key] for key in ("format_version", "model", "backbone")}
    checkpoint.save(bare, tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match="lacks task, axes"):
        export(tmp_path / "bare.pth", "torch", tmp_path / "m")


def test_the_command_line_offers_what_there_is():
    assert tuple(FORMATS) == EXPORT_FORMATS
