"""Model FLOP utilisation: which part of a device's peak arithmetic a training reaches.

Two networks, fed from images on the disk by our own loop: the masked autoencoder at the size of
ViT-B (He et al. 2022, arXiv:2111.06377) and the 3D residual-encoder U-Net. The operations of a
forward and a backward pass are counted by torch; the peak is given or looked up. See README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from training_bench import TrainingBench

from napari_ssl_pretrain.data.writers import write_array

if TYPE_CHECKING:
    from collections.abc import Sequence

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12}
"""Dense bf16 operations a second, as the makers' data sheets say."""

WARM_UP = 5


@dataclass(frozen=True)
class Network:
    """One network with the patches and the batch that it is trained on."""

    title: str
    ndim: int
    patch: tuple[int, ...]
    batch: int
    task: str
    backbone: dict[str, Any]
    goal: float


VIT_B = {"embed_dim": 768, "depth": 12, "num_heads": 12, "mlp_ratio": 4.0}
DECODER = {"decoder_embed_dim": 512, "decoder_depth": 8, "decoder_num_heads": 16}
NARROW = {"embed_dim": 24, "depth": 1, "num_heads": 2, "decoder_embed_dim": 24}
NETWORKS = {
    "vit_b": Network(
        "ViT-B masked autoencoder", 2, (224, 224), 256, "masking", VIT_B | DECODER, 0.4
    ),
    "res_unet_3d": Network(
        "3D residual-encoder U-Net",
        3,
        (96, 96, 96),
        4,
        "crappify",
        {"features_per_stage": [32, 64, 128, 256, 320]},
        0.3,
    ),
}
TINY = {
    "vit_b": Network(
        "ViT, tiny",
        2,
        (32, 32),
        2,
        "masking",
        NARROW | {"decoder_depth": 1, "decoder_num_heads": 2},
        0.4,
    ),
    "res_unet_3d": Network(
        "3D U-Net, tiny", 3, (8, 16, 16), 1, "crappify", {"features_per_stage": [4, 8]}, 0.3
    ),
}


def config(network: Network, images: Path, results: Path) -> dict[str, Any]:
    """Return the configuration of a network's training."""
    mae = network.task == "masking"
    return {
        "name": "mfu",
        "result_dir": str(results),
        "data": {
            "train": str(images),
            "ndim": network.ndim,
            "patch_size": list(network.patch),
            "validation_fraction": 0.0,
        },
        "pretext": {"task": network.task, "token_size": 16 if mae else "auto"},
        "backbone": {"name": "mae_vit" if mae else "residual_unet", **network.backbone},
        "training": {"batch_size": network.batch},
    }


def write_images(network: Network, folder: Path, count: int = 4) -> Path:
    """Write images of noise, each of several patches; what they show does not change the speed."""
    folder.mkdir(parents=True)
    shape = tuple(2 * n for n in network.patch)
    random = np.random.default_rng(0)
    for number in range(count):
        array = random.integers(0, 256, shape, np.uint8)
        write_array(folder / f"{number}.tif", array, "ZYX"[-len(shape) :])
    return folder


def measure(network: Network, steps: int, peak: float | None, scratch: Path) -> dict[str, Any]:
    """Train and return operations a step, seconds a step, and their share of the peak."""
    images = write_images(network, scratch / "images")
    bench = TrainingBench(config(network, images, scratch / "runs"), scratch / "runs")
    with FlopCounterMode(display=False) as counter:
        bench.bare(1)
    flops = counter.get_total_flops()
    bench.ours(WARM_UP)
    bench.wait()
    began = time.perf_counter()
    bench.ours(steps)
    bench.wait()
    seconds = (time.perf_counter() - began) / steps
    bench.close()
    peak = peak or find_peak(bench.device)
    return {
        "network": network.title,
        "device": torch.cuda.get_device_name() if bench.device.type == "cuda" else "CPU",
        "precision": bench.config.compute.precision,
        "gigaflops_a_step": flops / 1e9,
        "seconds_a_step": seconds,
        "teraflops": flops / seconds / 1e12,
        "mfu": flops / seconds / peak if peak else None,
        "goal": network.goal,
    }


def find_peak(device: torch.device) -> float | None:
    """Return the peak of a known GPU; None for what must be given."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for word, peak in PEAKS.items() if word in name), None)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--networks", default=",".join(NETWORKS), help="names, with commas")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--peak", type=float, help="operations a second of the device, dense bf16")
    parser.add_argument("--tiny", action="store_true", help="the smallest networks, to try it")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure each network, print and return the figures."""
    args = parse(argv)
    torch.set_num_threads(args.threads)
    chosen, found = TINY if args.tiny else NETWORKS, []
    for name in args.networks.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            found.append(measure(chosen[name], args.steps, args.peak, Path(scratch)))
        print(json.dumps(found[-1]), flush=True)
    return found


if __name__ == "__main__":
    main()
