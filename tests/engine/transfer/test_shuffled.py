"""The verdict can fail: a network that knows the task helps, the same one shuffled does not."""

# ruff: noqa: TID251

import json

import numpy as np
import pytest
import tifffile
import torch
from run_samples import config, pretrain, run_of
from scipy.ndimage import gaussian_filter

from napari_ssl_pretrain import load_backbone
from napari_ssl_pretrain.cli import main
from napari_ssl_pretrain.engine import checkpoint
from napari_ssl_pretrain.engine.transfer import study


def planes(seeds):
    """Coarse grains in the background, fine ones in the foreground; both as bright and as rough.

    So no threshold tells them apart, and turns and flips of a patch change nothing.
    """
    images, labels = [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        label = gaussian_filter(rng.normal(size=(48, 48)), 5, mode="wrap") > 0
        coarse, fine = (gaussian_filter(rng.normal(size=(48, 48)), s) for s in (2.0, 0.7))
        grains = np.where(label, fine / fine.std(), coarse / coarse.std())
        images.append(np.clip(128 + 40 * grains, 0, 255).astype(np.uint8))
        labels.append(label.astype(np.uint8))
    return np.stack(images), np.stack(labels)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Labelled planes, and a checkpoint whose network has been taught to segment their like."""
    folder = tmp_path_factory.mktemp("shuffled")
    for part, seeds in (("learn", range(3)), ("test", range(10, 14))):
        for seed, image, label in zip(seeds, *planes(seeds), strict=True):
            for kind, array in (("x", image), ("y", label)):
                (folder / part / kind).mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(folder / part / kind / f"{seed}.tif", array)
    asked = config(folder, "crappify", data={"train": str(folder / "learn/x"), "test": None})
    pretrain(asked)
    path = run_of(asked).checkpoint("best")
    model = load_backbone(path).train()
    images, labels = (torch.from_numpy(a).float()[:, None] for a in planes(range(20, 28)))
    images = (images - images.mean((2, 3), keepdim=True)) / images.std((2, 3), keepdim=True)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(400):
        optimizer.zero_grad()
        (model(images) - labels).square().mean().backward()
        optimizer.step()
    checkpoint.save(checkpoint.load(path) | {"model": model.state_dict()}, folder / "taught.pth")
    return folder


def shuffled(path, target):
    """Write the same checkpoint with the numbers within each tensor in another order."""
    state, generator = checkpoint.load(path), torch.Generator().manual_seed(0)
    state["model"] = {
        name: w.flatten()[torch.randperm(w.numel(), generator=generator)].reshape(w.shape)
        for name, w in state["model"].items()
    }
    checkpoint.save(state, target)


@pytest.mark.parametrize("helps", [True, False], ids=["taught", "shuffled"])
def test_a_shuffled_checkpoint_does_not_help(teacher, tmp_path, monkeypatch, helps):
    monkeypatch.setattr(study, "FEWEST_STEPS", 200)
    # the taught network needs it to leave its old answer in so few steps, and the sweep of this
    # toy, which knows only the first repetition, tosses a coin between it and a third of it
    monkeypatch.setattr(study, "RATES", (4.5e-3,))
    path = teacher / "taught.pth"
    if not helps:
        shuffled(path, tmp_path / "shuffled.pth")
        path = tmp_path / "shuffled.pth"
    words = ["transfer", "--checkpoint", str(path), "-o", str(tmp_path / "out")]
    for option, place in (("images", "learn/x"), ("labels", "learn/y")):
        words += [f"--{option}", str(teacher / place)]
        words += [f"--test_{option}", str(teacher / place.replace("learn", "test"))]
    # so short that each fine-tuning has the least number of steps, on any machine
    words += ["--n_labels", "2", "--seeds", "3", "--minutes", "1e-4", "--device", "cpu"]
    assert main([*words, "--precision", "fp32", "--arms", "scratch,pretrained,shuffled"]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["verdict"] == "helps") is helps, summary["sentence"]
    assert ("over the same weights shuffled." in summary["sentence"]) is helps
    assert (tmp_path / "out" / "report.html").is_file()
