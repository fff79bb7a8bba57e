r"""The most that a pretraining could teach: all labels, or labels made by a threshold.

    python benchmarks/pretrain_labels.py --like runs/a/checkpoints/a_1-checkpoint-best.pth \
        --data data/nuclei --steps 2000 --output labels.pth
    python benchmarks/transfer_steps.py --data data/nuclei labels=labels.pth

Trains the network of the checkpoint with supervision on all of train/x and train/y, prints its
score on the test images, and puts its weights into a copy of the checkpoint, whose fine-tuning
with few labels then shows what is left to gain. `--threshold train/x …` takes no labels: classes
of the clean image are asked for, beside the image itself, from a worsened and varied one: inside
and rim of what Otsu's threshold separates, and what is brighter or darker than its surroundings.
One thread; a fixed number of steps.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from pretrain_filters import BATCH, CRAPPIFY, RATES, WARMUP, draw, read
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.segmentation import find_boundaries
from torch import nn

from napari_ssl_pretrain.engine import checkpoint
from napari_ssl_pretrain.engine.backbones import build_backbone
from napari_ssl_pretrain.engine.load import spec_from, without_head
from napari_ssl_pretrain.engine.optim import learning_rate_at, make_optimizer, set_learning_rate
from napari_ssl_pretrain.engine.random import TorchRandom
from napari_ssl_pretrain.engine.transfer import finetune as ft
from napari_ssl_pretrain.engine.transfer.checks import check
from napari_ssl_pretrain.engine.transfer.study import Runner
from napari_ssl_pretrain.engine.transfer.vary import vary
from napari_ssl_pretrain.spec.transfer import TransferConfig

SURROUNDINGS, CLASSES, RATE, SEED = 12.0, 3, 4.5e-3, 77


class AllLabels(Runner):
    """Trains once, on every label."""

    def train(self, steps: int) -> nn.Module:
        """Train and print the mean IoU over the test images."""
        frames = [f for pair in self.study.learn.images for f in self._read(pair)]
        schedule = ft.Schedule("scratch", steps, RATE)
        model = self._start("scratch", SEED)
        drawer = self._drawer(frames, SEED)
        model = ft.finetune(model, self.setting, drawer, (), schedule, lambda _: None).model
        tests = [f for pair in self.study.test.images for f in self._read(pair)]
        made = [ft.predict_classes(model, self.setting, f.image, mirrored=True) for f in tests]
        found = [
            ft.mean_iou(m, f.classes, self.setting.classes)
            for m, f in zip(made, tests, strict=True)
        ]
        print(f"{len(frames)} labels, {steps} steps: {np.mean(found):.3f}")
        return model


def supervised(data: Path, like: Path, steps: int) -> nn.Module:
    """Train on all labels."""
    asked = TransferConfig(
        checkpoint=str(like),
        images=str(data / "train/x"),
        labels=str(data / "train/y"),
        test_images=str(data / "test/x"),
        test_labels=str(data / "test/y"),
        n_labels=(5,),
    )
    return AllLabels(check(asked), lambda _: None, lambda: False).train(steps)


def by_threshold(plane: np.ndarray) -> list[np.ndarray]:
    """Return two maps of three classes: objects and their rims; darker and brighter places."""
    smooth = ndimage.gaussian_filter(plane, 1.0)
    inside = np.clip(smooth, *np.percentile(smooth, [0.1, 99.9]))
    even = np.arcsinh(2 * (inside - np.median(inside)) / (inside.std() + 1e-6))
    objects = even > threshold_otsu(even)
    objects = ~objects if objects.mean() > 0.5 else objects
    rim = ndimage.binary_dilation(find_boundaries(objects, mode="inner")) & objects
    apart = smooth - ndimage.gaussian_filter(plane, SURROUNDINGS)
    limit = apart.std() / 2
    return [objects.astype(np.float32) + rim, 1.0 * (apart < -limit) + 2.0 * (apart > limit)]


def thresholded(folders: list[Path], like: Path, steps: int) -> nn.Module:
    """Train to restore an image, and to tell the classes that thresholds make of it."""
    images, random = read(folders, by_threshold), np.random.default_rng(0)
    spec = spec_from(checkpoint.load(like), like)
    count, rate = spec.out_channels, RATES["crappify"]
    model = build_backbone(spec._replace(out_channels=count + 2 * CLASSES))
    model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, rate, 0.01, betas=(0.9, 0.99))
    for step in range(steps):
        set_learning_rate(optimizer, learning_rate_at(step, steps, rate, WARMUP))
        patches, ends = draw(images, random)
        both = patches[:, count] * CLASSES + patches[:, count + 1]
        drawn = TorchRandom([(0, 9, step, k) for k in range(BATCH)], torch.device("cpu"))
        clean, both = vary(patches[:, :count].float(), both, drawn)
        objects, apart = both.long() // CLASSES, both.long() % CLASSES
        noise, loss = torch.rand(2, BATCH, 1, 1, 1)
        noise = noise * CRAPPIFY.noise * (ends[:, 1] - ends[:, 0]).clamp(max=6)
        worse = clean + torch.randn_like(clean) * noise
        worse = torch.lerp(worse, CRAPPIFY.resample(worse), loss)
        with torch.autocast("cpu", torch.bfloat16):
            made = model(worse.contiguous(memory_format=torch.channels_last), None).float()
        image = (worse + made[:, :count] - clean).square().mean()
        asked = ft.segmentation_loss(made[:, count : count + CLASSES], objects)
        asked = asked + ft.segmentation_loss(made[:, count + CLASSES :], apart) / 2
        optimizer.zero_grad()
        (image + asked).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--like", type=Path, required=True, help="a checkpoint of the network")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, help="train/x, train/y, test/x, test/y: all labels")
    what.add_argument("--threshold", type=Path, nargs="+", help="folders of 2D images")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)  # noqa: TID251 - a script of its own
    if args.data:
        model = supervised(args.data, args.like, args.steps)
    else:
        model = thresholded(args.threshold, args.like, args.steps)
    state = checkpoint.load(args.like)
    # the head is that of the checkpoint: a fine-tuning replaces it
    weights = {name: w.contiguous() for name, w in model.state_dict().items()}
    state["model"] |= without_head(weights, model)
    torch.save(state, args.output)


if __name__ == "__main__":
    main()
