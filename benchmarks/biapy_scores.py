"""One scoring function a task, for the images of both programs."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING

import numpy as np
import tifffile

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path) -> np.ndarray:
    """Return an image without axes of length one, float64."""
    return np.squeeze(tifffile.imread(path)).astype(np.float64)


def psnr(original: np.ndarray, image: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB, its range the original's."""
    extent = original.max() - min(0.0, original.min())
    return 10 * math.log10(extent**2 / np.mean((image - original) ** 2))


def restored_psnr(originals: Path, restored: Path) -> float:
    """Return the mean PSNR of every image of a folder against the original of its name."""
    return float(np.mean([psnr(read(p), read(restored / p.name)) for p in tiffs(originals)]))


def hidden_error(original: np.ndarray, prediction: np.ndarray, hidden: np.ndarray) -> float:
    """Return the error over hidden pixels, over that of the visible pixels' mean."""
    truth = original[hidden]
    mean = original[~hidden].mean()
    return float(np.mean((prediction[hidden] - truth) ** 2) / np.mean((mean - truth) ** 2))


def our_hidden_error(originals: Path, checks: Path) -> float:
    """Return the mean hidden error of the images in ``MAE_checks``."""
    return float(
        np.mean(
            [
                hidden_error(
                    read(path),
                    read(checks / f"{path.stem}_reconstruction.tif"),
                    read(checks / f"{path.stem}_hidden.tif") > 0,
                )
                for path in tiffs(originals)
            ]
        )
    )


def inpainting_error(test_metrics: Path) -> float:
    """Return the hidden error of smooth interpolation, which our network starts from."""
    with test_metrics.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    errors = [float(r["hidden_mse_inpaint"]) / float(r["hidden_mse_mean"]) for r in rows]
    return float(np.mean(errors))


def biapy_hidden_error(originals: Path, per_image: Path) -> float:
    """Return the mean hidden error of BiaPy's images, which are in units of each image's own.

    Raises
    ------
    SystemExit
        The visible pixels are not the original's: the units were taken wrongly.
    """
    errors = []
    for path in tiffs(originals):
        original = read(path)
        unit = (original - original.mean()) / original.std()
        hidden = read(per_image / f"{path.stem}_masked.tif") == 0
        prediction = read(per_image / f"{path.stem}_reconstruction_and_visible.tif")
        off = np.abs(prediction[~hidden] - unit[~hidden]).max()
        if off > 1e-2:
            raise SystemExit(f"error: {path.name}: visible pixels differ by {off:.3g}.")
        errors.append(hidden_error(unit, prediction, hidden))
    return float(np.mean(errors))


def tiffs(folder: Path) -> list[Path]:
    """Return the TIFF files of a folder, sorted."""
    return sorted(folder.glob("*.tif"))
