"""Use an exported model without napari-ssl-pretrain: its card, torch and the public library.

napari-ssl-pretrain export --checkpoint CHECKPOINT.pth --format safetensors -o model.safetensors
python examples/use_safetensors_without_this_package.py model.safetensors [IMAGE.npy]

The image is an array of the axes C Y X (or C Z Y X); without one, random numbers are shown to
the network.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

LEAST_SPREAD = 0.1
"""Least deviation of a patch, as ``output.meaning`` in the card says."""


def main(file: str, image_file: str | None = None) -> None:
    """Rebuild the network, show it an image, and add up what it returns."""
    card = json.loads(Path(file).with_suffix(".json").read_text(encoding="utf-8"))
    network = build(card["architecture"])
    network.load_state_dict(load_file(file))
    network.eval()
    image = np.load(image_file) if image_file else random_image(card)
    result = restore(network, card, image)
    print(f"{card['architecture']['name']} ({card['task']}): image {image.shape} of mean ", end="")
    print(f"{image.mean():.4g}, result {result.shape} of mean {result.mean():.4g}")
    print(f"For a task of your own keep the weights {', '.join(card['architecture']['encoder'])}*")


def build(architecture: dict[str, Any]) -> torch.nn.Module:
    """Build the network that the card describes, with fresh weights."""
    path = architecture["python_class"] or "mae_vit_plain_torch.MaskedAutoencoder"
    network: torch.nn.Module = find(path)(
        **{k: resolved(v) for k, v in architecture["arguments"].items()}
    )
    return network


def resolved(value: Any) -> Any:
    """Return the class that an argument names; other arguments as they are."""
    return find(value) if isinstance(value, str) and value.startswith("torch.nn.") else value


def find(path: str) -> Any:
    """Import what a dotted name stands for."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def restore(network: torch.nn.Module, card: dict[str, Any], image: np.ndarray) -> np.ndarray:
    """Return the network's image of ``C *spatial``, in the units of the image.

    A network that was trained with ``pretext.normalize_target`` returns no image: its numbers
    are returned as they are.
    """
    axes = tuple(range(1, image.ndim))
    offset, scale = statistics(card["normalization"], image, axes)
    seen = torch.from_numpy(((image - offset) / scale).astype(np.float32))[None]
    centre, spread = torch.zeros(1), torch.ones(1)
    standardized = card["checkpoint"]["config"]["pretext"]["normalize_target"]
    if card["task"] == "masking" and not standardized:
        centre, spread = brightness(seen)
    channels = (seen - centre) / spread
    if any(channel.startswith("hidden") for channel in card["input"]["channels"]):
        channels = torch.cat([channels, torch.zeros_like(seen[:, :1])], dim=1)  # nothing is hidden
    with torch.no_grad():
        residual = network(channels)
    if standardized and card["task"] == "masking":
        tokens: np.ndarray = residual[0].numpy()
        return tokens
    restored: np.ndarray = (seen + residual * spread)[0].numpy() * scale + offset
    return restored


def brightness(seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return centre and spread of each channel, as in pretraining, where nothing is hidden."""
    axes = tuple(range(2, seen.ndim))
    centre = seen.mean(axes, keepdim=True)
    spread = ((seen - centre).square().mean(axes, keepdim=True) + LEAST_SPREAD**2).sqrt()
    return centre, spread


def statistics(
    normalization: dict[str, Any], image: np.ndarray, axes: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return offset and scale of each channel, for two of the five kinds of normalisation.

    Raises
    ------
    SystemExit
        It is another kind; the card says how it is done.
    """
    shape = (-1, *[1] * len(axes))
    if normalization["name"] == "custom":
        mean, std = (np.array(normalization[key]).reshape(shape) for key in ("mean", "std"))
        return mean, std
    if normalization["name"] != "zscore":
        raise SystemExit(f"Write this one yourself: {normalization}")
    spread = image.std(axes, keepdims=True)
    return image.mean(axes, keepdims=True), np.where(spread > 0, spread, 1.0)


def random_image(card: dict[str, Any]) -> np.ndarray:
    """Return random numbers in the shape of a patch that the network was trained on."""
    shape = (card["output"]["channels"], *card["input"]["patch_size"])
    return np.random.default_rng(0).normal(1000, 100, shape)


if __name__ == "__main__":
    main(*sys.argv[1:])
