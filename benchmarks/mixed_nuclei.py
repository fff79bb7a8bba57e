r"""Make a set of nuclei of two kinds: bright on dark, and stained tissue in grey values.

    python benchmarks/mixed_nuclei.py --out data/mixed data/nuclei data/tissue

Both folders hold train/x, train/y, test/x and test/y as TIFFs; colours become one channel of luma.
Of each kind 32 images are taken to train on and 8 to test on, evenly spread over the sorted names,
and named so that the kinds alternate. For `transfer_quality.py` and `transfer_steps.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from napari_ssl_pretrain.data.writers import write_array

COUNTS = {"train": 32, "test": 8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("kinds", type=Path, nargs=2, metavar="FOLDER")
    args = parser.parse_args()
    for part, count in COUNTS.items():
        for which, folder in enumerate(args.kinds):
            files = sorted((folder / part / "x").iterdir())
            for number, file in enumerate(files[:: max(1, len(files) // count)][:count]):
                for side in ("x", "y"):
                    image = tifffile.imread(folder / part / side / file.name)
                    if image.ndim == 3:
                        image = np.asarray(Image.fromarray(image).convert("L"))
                    write_array(args.out / part / side / f"{number:03d}_{which}.tif", image, "YX")


if __name__ == "__main__":
    main()
