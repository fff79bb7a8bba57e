"""Fine-tune a pretrained network in a loop of your own: load_backbone and plain torch.

python examples/finetune_your_own_loop.py CHECKPOINT.pth IMAGES LABELS
python examples/finetune_your_own_loop.py

IMAGES and LABELS are folders of 2D TIFFs with one channel and equal names; a label above 0 is
foreground. Without arguments it makes images of its own and pretrains on them for some seconds.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile
import torch

from napari_ssl_pretrain import PretrainConfig, load_backbone, pretrain
from napari_ssl_pretrain.data.writers import write_array

STEPS, WARM_UP, BATCH, PATCH = 120, 40, 8, 64
RATE = 2e-3

Pair = tuple[np.ndarray, np.ndarray]


def main(checkpoint: str | None = None, images: str = "", labels: str = "") -> None:
    """Load, fine-tune the decoder alone, then everything, and score."""
    with tempfile.TemporaryDirectory() as folder:
        if checkpoint is None:
            checkpoint, images, labels = make_all(Path(folder))
        *train, test = read_pairs(Path(images), Path(labels))
        network = load_backbone(checkpoint, out_channels=2)
    print(f"{network.load_report}")
    encoder = [p for n, p in network.named_parameters() if n.startswith(network.encoder_prefixes())]
    optimizer = torch.optim.AdamW(network.parameters(), RATE)
    random = np.random.default_rng(0)
    for step in range(STEPS):
        for parameter in encoder:  # the fresh head first, or its noise would spoil the encoder
            parameter.requires_grad_(step >= WARM_UP)
        rate = RATE * min(1, (step % WARM_UP + 1) / 10) * (1 - step / STEPS)
        for group in optimizer.param_groups:
            group["lr"] = rate
        seen, wanted = draw(train, random)
        loss = torch.nn.functional.cross_entropy(network(seen), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == STEPS - 1:
            print(f"step {step + 1} of {STEPS}: loss {loss.item():.3f}")
    print(f"IoU on an image that was not learnt from: {score(network, test):.3f}")


def normalise(image: np.ndarray) -> np.ndarray:
    """Bring an image to zero mean and unit variance, as the checkpoint's normalization says."""
    return ((image - image.mean()) / max(1e-6, image.std())).astype(np.float32)


def read_pairs(images: Path, labels: Path) -> list[Pair]:
    """Read images and labels of equal names; the last pair is for the score."""
    found = []
    for path in sorted(images.glob("*.tif*")):
        image = normalise(tifffile.imread(path))
        label = (tifffile.imread(labels / path.name) > 0).astype(np.int64)
        ends = [(0, max(0, PATCH - n)) for n in image.shape]  # small images are mirrored
        found.append((np.pad(image, ends, "symmetric"), np.pad(label, ends, "symmetric")))
    return found


def draw(pairs: list[Pair], random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut random patches from random images, turned and flipped at random."""
    seen, wanted = [], []
    for _ in range(BATCH):
        image, label = pairs[random.integers(len(pairs))]
        y, x = (random.integers(n - PATCH + 1) for n in image.shape)
        turns, flip = random.integers(4), 1 - 2 * random.integers(2)
        for part, patches in ((image, seen), (label, wanted)):
            patches.append(np.rot90(part[y : y + PATCH, x : x + PATCH], turns)[::flip].copy())
    return torch.from_numpy(np.stack(seen))[:, None], torch.from_numpy(np.stack(wanted))


@torch.no_grad()
def score(network: torch.nn.Module, pair: Pair) -> float:
    """Return the intersection over union of the foreground of one image."""
    image, label = pair
    sides = [n // 32 * 32 for n in image.shape]  # the network halves the image several times
    image, label = (part[: sides[0], : sides[1]] for part in pair)
    found = network.eval()(torch.from_numpy(image.copy())[None, None]).argmax(1)[0].numpy() > 0
    return float((found & (label > 0)).sum() / max(1, (found | (label > 0)).sum()))


def make_all(folder: Path) -> tuple[str, str, str]:
    """Make images of bright discs under noise, pretrain on them, and return the three places."""
    for number in range(6):
        image, label = discs(number)
        for name, part in (("images", image), ("labels", label)):
            write_array(folder / name / f"{number}.tif", part, "YX")
    config = PretrainConfig(
        result_dir=str(folder),
        data={"train": str(folder / "images"), "patch_size": [PATCH, PATCH]},
        pretext={"task": "crappify"},
        backbone={"size": "tiny"},
        training={"epochs": 1, "steps_per_epoch": 60},
    )
    print("Pretraining for 60 steps on images made here")
    run = pretrain(config).run_dir
    return str(run.checkpoint("best")), str(folder / "images"), str(folder / "labels")


def discs(seed: int) -> Pair:
    """Return an image of bright discs under noise, and where the discs are."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:160, :160]
    label = np.zeros((160, 160), np.uint8)
    for cy, cx, r in zip(*random.uniform(0, 160, (2, 14)), random.uniform(6, 14, 14), strict=True):
        label[(y - cy) ** 2 + (x - cx) ** 2 < r**2] = 1
    image = 90 + 50 * label + random.normal(0, 25, label.shape)
    return image.clip(0, 255).astype(np.uint8), label


if __name__ == "__main__":
    main(*sys.argv[1:])
