"""Sample images for *File, Open Sample*: two that scikit-image carries; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imageio.v3 as iio
import skimage

LayerData = tuple[Any, dict[str, Any], str]


def tissue() -> list[LayerData]:
    """Return stained tissue, 512 x 512 RGB."""
    return _sample("ihc.png", rgb=True)


def cell() -> list[LayerData]:
    """Return one cell in quantitative phase contrast, 660 x 550."""
    return _sample("cell.png", rgb=False)


def _sample(file: str, *, rgb: bool) -> list[LayerData]:
    path = Path(skimage.__file__).parent / "data" / file
    return [(iio.imread(path), {"name": path.stem, "rgb": rgb}, "image")]
