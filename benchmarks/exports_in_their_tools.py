"""Open every export in its own tool and compare the outputs with those of the network.

    python benchmarks/exports_in_their_tools.py -o out --biapy .biapy/bin/python

onnxruntime and bioimageio.core run in this environment (the extra `export`), nnU-Net's own
functions as well where nnunetv2 can be imported. BiaPy runs in its own environment
(see benchmarks/README.md), from the configuration that `export` wrote: it builds the network,
loads the checkpoint, then fine-tunes one epoch on a few labelled squares. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

from napari_ssl_pretrain import PretrainConfig, load_backbone, pretrain
from napari_ssl_pretrain.engine.export import bioimageio, export, onnx_file
from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.spec.backbones import BACKBONES

SIDE = 64
NETWORKS: dict[str, dict[str, object]] = {
    "residual_unet": {},
    "residual_unet with instance norm": {"norm": "instance"},
    "unet": {},
    "unet with instance norm": {"norm": "instance"},
    "mae_vit": {},
    "segresnet": {},
    "attention_unet": {},
}
BIAPY = Path(__file__).with_name("biapy_opens_export.py")


def images(folder: Path) -> Path:
    """Write squares of two grey values, and their labels, and return the folder."""
    random = np.random.default_rng(0)
    for number in range(6):
        part = folder / ("test" if number == 0 else "train")
        labels = np.zeros((2 * SIDE, 2 * SIDE), np.uint8)
        for y, x in random.integers(0, 2 * SIDE - 20, (6, 2)):
            labels[y : y + 18, x : x + 18] = 1
        pixels = random.normal(80 + 90 * labels, 12).clip(0, 255).astype(np.uint8)
        for kind, array in (("x", pixels), ("y", labels)):
            (part / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(part / kind / f"{number}.tif")
    return folder


def trained(out: Path, data: Path, name: str, task: str) -> Path:
    """Pretrain for some steps and return the checkpoint."""
    backbone = {"name": name.split(maxsplit=1)[0], "size": "tiny", **NETWORKS[name]}
    run = pretrain(
        PretrainConfig(
            name=f"{name}_{task}".replace(" ", "_"),
            result_dir=str(out / "runs"),
            data={"train": str(data / "train" / "x"), "patch_size": [SIDE, SIDE]},
            pretext={"task": task},
            backbone=backbone,
            training={"epochs": 1, "steps_per_epoch": 20, "batch_size": 4},
            compute={"device": "cpu"},
        ),
        overwrite=True,
    ).run_dir
    return run.checkpoint("best")


def difference(got: np.ndarray, wanted: np.ndarray) -> str:
    """Return the largest difference as text."""
    return f"{np.abs(got - wanted).max():.1e}"


def opened(fmt: str, checkpoint: Path, out: Path, biapy: str | None) -> str:
    """Export, open and compare; return what came of it."""
    path = out / "exports" / f"{checkpoint.stem}_{fmt}"
    try:
        done = export(checkpoint, fmt, path, overwrite=True)
    except ConfigError as error:
        return f"refused: {error.rule}"
    network = load_backbone(checkpoint).eval()
    image = torch.randn(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = network(image).numpy()
    if fmt == "onnx":
        names = tuple(done.card.graph.inputs)
        got = onnx_file.run(done.weights.read_bytes(), names, (image, image * 0)[: len(names)])
        return difference(got[0].numpy(), wanted)
    if fmt == "bioimageio":
        return zoo(done.weights)
    if fmt == "nnunet":
        return nnunet(done, image, network)
    return in_biapy(done, image, network, out, biapy)


def zoo(package: Path) -> str:
    """Run the package's own test, and compare its test tensors."""
    from bioimageio.core import test_model  # noqa: PLC0415

    if test_model(package).status != "passed":
        return "FAILED"
    with zipfile.ZipFile(package) as files:
        arrays = {
            name.removesuffix(".npy"): np.load(files.open(name))
            for name in files.namelist()
            if name.endswith(".npy")
        }
    wanted = arrays.pop("restored")
    return difference(bioimageio.run(package, arrays), wanted)


def nnunet(done, image, network) -> str:
    """Build and load with nnU-Net's own functions."""
    try:
        from nnunetv2.run.load_pretrained_weights import load_pretrained_weights  # noqa: PLC0415
        from nnunetv2.utilities.get_network_from_plans import (  # noqa: PLC0415
            get_network_from_plans,
        )
    except ImportError as error:
        return f"not run ({error})"
    (configuration,) = json.loads(done.beside[0].read_text())["configurations"].values()
    about = configuration["architecture"]
    theirs = get_network_from_plans(
        about["network_class_name"],
        about["arch_kwargs"],
        about["_kw_requires_import"],
        1,
        2,
        allow_init=len(done.beside) == 1,
        deep_supervision=True,
    )
    load_pretrained_weights(theirs, str(done.weights))
    seen = image
    if network.sees_hidden:
        seen = torch.cat([image, image * 0], dim=1)
    features = {}

    def keep(name):
        def hook(_module, _inputs, output):
            features[name] = output

        return hook

    hooks = [
        theirs.decoder.stages[-1].register_forward_hook(keep("theirs")),
        network.net.decoder.stages[-1].register_forward_hook(keep("ours")),
    ]
    with torch.no_grad():
        theirs.eval()(image)
        network.net(seen)
    for hook in hooks:
        hook.remove()
    return difference(features["theirs"].numpy(), features["ours"].numpy())


def in_biapy(done, image, network, out: Path, biapy: str | None) -> str:
    """Let BiaPy run the configuration: one epoch, and the encoder's features before it."""
    if biapy is None:
        return "not run (give --biapy)"
    configuration = yaml.safe_load(done.beside[0].read_text())
    data = out / "data"
    for part in ("TRAIN", "TEST"):
        for key, kind in (("PATH", "x"), ("GT_PATH", "y")):
            configuration["DATA"][part][key] = str(data / part.lower() / kind)
    configuration["TRAIN"]["EPOCHS"] = 1
    configuration["SYSTEM"] = {"NUM_WORKERS": 0}
    path = out / "biapy.yaml"
    path.write_text(yaml.safe_dump(configuration))
    np.save(out / "image.npy", image.numpy())
    words = [biapy, BIAPY, path, out / "image.npy", out / "features.npz", out / "biapy_results"]
    said = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    (out / "biapy.log").write_text(said.stdout + said.stderr)
    if said.returncode:
        return f"FAILED: {said.stderr.strip().splitlines()[-1]}"
    seen = torch.cat([image, image * 0], dim=1) if network.sees_hidden else image
    with torch.no_grad():
        wanted = network.net.encoder(seen)
    found = np.load(out / "features.npz")
    worst = max(np.abs(found[f"arr_{k}"] - w.numpy()).max() for k, w in enumerate(wanted))
    return f"{worst:.1e} (encoder; then one epoch ran)"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--biapy", help="the Python of BiaPy's environment")
    args = parser.parse_args()
    out = args.output.resolve()
    data = images(out / "data")
    formats = ("onnx", "bioimageio", "nnunet", "biapy")
    print(f"| network | task | {' | '.join(formats)} |\n|---|---|{'---|' * len(formats)}")
    began, failed = time.monotonic(), False
    for name in NETWORKS:
        for task in BACKBONES[name.split(maxsplit=1)[0]].tasks:
            checkpoint = trained(out, data, name, task)
            found = [opened(fmt, checkpoint, out, args.biapy) for fmt in formats]
            failed |= any(text.startswith("FAILED") for text in found)
            print(f"| {name} | {task} | {' | '.join(found)} |", flush=True)
    print(f"\n{time.monotonic() - began:.0f} s", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
