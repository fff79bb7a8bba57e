"""Stands in for ``features``: says and writes what it does, without a network.

The name of the checkpoint says how it ends: ``needs3`` takes images of three channels only,
``crash`` ends without a word, ``slow`` takes its time.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from napari_ssl_pretrain.data.feature_map import FeatureMap, to_rgb, write_about
from napari_ssl_pretrain.data.intensity import measure
from napari_ssl_pretrain.data.survey import open_image
from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.spec import events as ev


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("checkpoint", "input", "output"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    how = Path(args.checkpoint).stem
    for done in range(3):
        event = ev.Progress(stage="features", done=done, total=3, message="a", seconds_left=1.0)
        sys.stdout.write(event.to_line())
        sys.stdout.flush()
        time.sleep(30 if how.startswith("slow") else 0.02)
    image = open_image(args.input)
    if how.startswith("crash"):
        sys.exit(1)
    if how.startswith("needs") and image.in_channels != int(how[-1]):
        rule = f"was trained on {how[-1]} channels, the images have {image.in_channels}"
        sys.stderr.write(f"error: {args.checkpoint}: {rule}. Use others.\n")
        sys.exit(2)
    write(image, Path(args.output), args.checkpoint)


def write(image, output: Path, checkpoint: str) -> None:
    known = measure(image, "zscore")
    axes = image.frame_axes + image.spatial_axes
    shape = (*(image.info.length(a) for a in image.frame_axes), *image.spatial)
    step = (*(1,) * (len(shape) - 2), 2, 2)
    frames = np.stack([image.read(f).mean(axis=0) for f in range(image.frames)]).reshape(shape)
    padded = np.pad(frames, [(0, -n % s) for n, s in zip(shape, step, strict=True)], mode="edge")
    coarse = (padded[..., ::2, ::2] - known.mean.mean()) / known.scale.mean()
    values = np.stack([coarse, np.gradient(coarse, axis=-1), np.gradient(coarse, axis=-2)])
    output.mkdir(parents=True)
    name = image.info.name
    np.save(output / f"{name}_features.npy", values.astype(np.float16))
    about = {
        "source": str(image.info.path),
        "checkpoint": checkpoint,
        "opened": {"axes": image.info.axes, "ndim": image.ndim, "channels": list(image.channels)},
        "intensity": {k: getattr(known, k).tolist() for k in ("offset", "scale", "mean")},
    }
    found = FeatureMap(values, axes, step, shape, about)
    write_about(output / f"{name}_features.json", found)
    limits = np.array([[-2.0, 2]] * 3)
    planes = [to_rgb(found.enlarge(found.plane(p)), limits) for p in found.planes()]
    colours = np.stack(planes).reshape(*shape, 3)
    write_array(output / f"{name}_features.tif", colours, f"{axes}S")


if __name__ == "__main__":
    main()
