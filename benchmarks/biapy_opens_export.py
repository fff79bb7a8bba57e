"""Runs in BiaPy's environment: load a configuration, keep the encoder's features, train.

python biapy_opens_export.py CONFIGURATION IMAGE.npy FEATURES.npz RESULTS
"""

from __future__ import annotations

import sys

import numpy as np
import torch

# BiaPy's import needs two operators of torchvision that a CPU build may not load
try:
    import torchvision  # noqa: F401
except RuntimeError:
    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    operators = torch.library.Library("torchvision", "FRAGMENT")
    for op in ("nms", "qnms"):
        operators.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from biapy import BiaPy


def main() -> None:
    configuration, image, features, results = sys.argv[1:]
    job = BiaPy(configuration, result_dir=results, name="from_export", verbose=True)
    job.workflow.prepare_model()
    stages = []
    x = torch.from_numpy(np.load(image))
    with torch.no_grad():
        for stage in job.workflow.model.eval().conv_blocks_context:
            x = stage(x)
            stages.append(x.numpy())
    np.savez(features, *stages)
    job.workflow.model.train()
    job.train()


if __name__ == "__main__":
    main()
