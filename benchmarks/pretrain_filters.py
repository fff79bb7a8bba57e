r"""A pretraining that also asks for edges, ridges and blobs; made to be compared by transfer.

    python benchmarks/pretrain_filters.py --like runs/a/checkpoints/a_1-checkpoint-best.pth \
        --images em/train/x em/pretrain/x --weight 1 --output filters.pth
    python benchmarks/transfer_steps.py --data em filters=filters.pth

Beside the image the network restores responses of the clean image to filters at several scales:
length of the gradient, both curvatures. `--weight 0` leaves these out; `--vary` worsens each patch
by a random part of the usual; `--bend` bends the brightness of most patches beforehand, which the
network has to undo as well. The network, its task and its channels are those of the checkpoint,
in 2D. One thread; a fixed number of steps.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
import torch
from scipy import ndimage
from torch import nn

from napari_ssl_pretrain.engine import checkpoint
from napari_ssl_pretrain.engine.backbones import build_backbone
from napari_ssl_pretrain.engine.load import spec_from, without_head
from napari_ssl_pretrain.engine.optim import learning_rate_at, make_optimizer, set_learning_rate
from napari_ssl_pretrain.engine.random import TorchRandom
from napari_ssl_pretrain.pretext import Crappify, Masking
from napari_ssl_pretrain.pretext.base import Intensity, PretextBatch

if TYPE_CHECKING:
    from collections.abc import Callable

PATCH, BATCH, WARMUP = 128, 8, 50
SIGMAS = (1.0, 2.0, 4.0)
RATES = {"crappify": 3e-3, "masking": 2e-3}
CRAPPIFY = Crappify(noise=0.2, axis_factors=(4.0, 4.0))
MASKING = Masking(token_size=(8, 8))


def filters(plane: np.ndarray) -> list[np.ndarray]:
    """Return length of the gradient, greater and lesser curvature at each scale."""
    found = []
    for s in SIGMAS:
        yy, xx, xy = (
            s * s * ndimage.gaussian_filter(plane, s, order=o) for o in ((2, 0), (0, 2), (1, 1))
        )
        mean, apart = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
        slope = s * ndimage.gaussian_gradient_magnitude(plane, s)
        found += [slope, mean + apart, mean - apart]
    return found


def read(
    folders: list[Path], maps: Callable[[np.ndarray], list[np.ndarray]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return each image with maps made of it, and the ends of its range: normalised, padded."""
    found = []
    for path in sorted(p for folder in folders for p in folder.glob("*.tif*")):
        stored = tifffile.imread(path).astype(np.float32)
        stored = stored[None] if stored.ndim == 2 else np.moveaxis(stored, -1, 0)
        mean, deviation = (f(stored, axis=(1, 2), keepdims=True) for f in (np.mean, np.std))
        normal = (stored - mean) / (deviation + 1e-6)
        both = np.concatenate([normal, maps(normal.mean(axis=0))]).astype(np.float32)
        room = [(0, 0), *((0, max(0, PATCH - n)) for n in both.shape[1:])]
        ends = np.stack([-mean, stored.max((1, 2), keepdims=True) - mean]) / (deviation + 1e-6)
        found.append((np.pad(both, room, mode="reflect"), ends))
    return found


def read_filtered(folders: list[Path]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return images with their filters, which have a mean of 0 and a deviation of 1 over all."""
    images, count = read(folders, filters), 3 * len(SIGMAS)
    maps = [image[-count:] for image, _ in images]
    middle = np.mean([m.mean((1, 2)) for m in maps], axis=0)[:, None, None]
    spread = np.sqrt(np.mean([m.var((1, 2)) for m in maps], axis=0))[:, None, None]
    for one in maps:
        one[:] = (one - middle) / spread
    return images


def draw(images: list, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch of patches, turned and mirrored, with the ends of their ranges."""
    chance = np.sqrt([image[0].size for image, _ in images])
    patches, ends = [], []
    for number in random.choice(len(images), BATCH, p=chance / chance.sum()):
        image, end = images[number]
        y, x = (random.integers(0, n - PATCH + 1) for n in image.shape[1:])
        patch = np.rot90(image[:, y : y + PATCH, x : x + PATCH], random.integers(4), (1, 2))
        patches.append(patch[:, ::-1] if random.random() < 0.5 else patch)
        ends.append(end)
    return torch.from_numpy(np.stack(patches)), torch.from_numpy(np.stack(ends)).float()


def worsen(clean: torch.Tensor, ends: torch.Tensor, *, vary: bool) -> torch.Tensor:
    """Add noise and lose resolution, of each patch a random part if wished."""
    noise, loss = torch.rand(2, BATCH, 1, 1, 1) if vary else torch.ones(2, BATCH, 1, 1, 1)
    low, high = ends[:, 0], ends[:, 1]
    noisy = clean + torch.randn_like(clean) * CRAPPIFY.noise * noise * (high - low)
    noisy = torch.minimum(torch.maximum(noisy, low), high)
    return torch.lerp(noisy, CRAPPIFY.resample(noisy), loss)


def bend(clean: torch.Tensor) -> torch.Tensor:
    """Bend, scale and shift the brightness of four in five patches, after Models Genesis.

    Zhou et al., Medical Image Analysis 67 (2021), arXiv:2004.07882.
    """
    draws = torch.rand(BATCH, 5, 1, 1, 1)
    low, high = clean.amin((2, 3), keepdim=True), clean.amax((2, 3), keepdim=True)
    span = (high - low).clamp(min=1e-3)
    inside, exponent = ((clean - low) / span).clamp(0, 1), 4 ** (draws[:, 0] - 0.5)
    bent = torch.where(draws[:, 1] < 0.5, 1 - (1 - inside) ** exponent, inside**exponent)
    bent = bent * span + low
    mean = bent.mean((1, 2, 3), keepdim=True)
    bent = mean + (bent - mean) * 0.6 * (1.6 / 0.6) ** draws[:, 2] + draws[:, 3] - 0.5
    return torch.where(draws[:, 4] < 0.8, bent, clean)


def hide(clean: torch.Tensor, step: int) -> PretextBatch:
    """Hide tokens of normalised patches, which keep their own brightness."""
    random = TorchRandom([(0, 7, step, k) for k in range(BATCH)], torch.device("cpu"))
    none, one = torch.zeros(clean.shape[:2]), torch.ones(clean.shape[:2])
    return MASKING.make_batch(clean, Intensity(none, one, none[:, 0], one[:, 0]), random)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--like", type=Path, required=True, help="a checkpoint of the network")
    parser.add_argument("--images", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--weight", type=float, default=1.0)
    parser.add_argument("--vary", action="store_true")
    parser.add_argument("--bend", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)  # noqa: TID251 - a script of its own
    random = np.random.default_rng(0)
    state = checkpoint.load(args.like)
    spec, task, images = spec_from(state, args.like), state["task"], read_filtered(args.images)
    count = spec.out_channels
    model = build_backbone(spec._replace(out_channels=count + 3 * len(SIGMAS)))
    model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, RATES[task], 0.01, betas=(0.9, 0.99))
    for step in range(args.steps):
        set_learning_rate(optimizer, learning_rate_at(step, args.steps, RATES[task], WARMUP))
        patches, ends = draw(images, random)
        clean, tokens, scored = patches[:, :count], None, torch.ones(1)
        shown = bend(clean) if args.bend else clean
        if task == "crappify":
            seen = worsen(shown, ends, vary=args.vary)
        else:
            batch = hide(shown, step)
            seen, tokens, scored = batch.input, batch.hidden, batch.scored
        with torch.autocast("cpu", torch.bfloat16):
            made = model(seen.contiguous(memory_format=torch.channels_last), tokens).float()
        error = (seen + made[:, :count] - clean).square() * scored
        image = error.sum() / scored.expand_as(error).sum()
        asked = (made[:, count:] - patches[:, count:]).square().mean()
        optimizer.zero_grad()
        (image + args.weight * asked).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 99:
            print(f"step {step + 1}: image {image:.4f}, filters {asked:.4f}", flush=True)
    # the head is that of the checkpoint: a fine-tuning replaces it
    state["model"] |= without_head(model.state_dict(), model)
    torch.save(state, args.output)


if __name__ == "__main__":
    main()
