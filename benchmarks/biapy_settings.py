"""The four jobs that are compared, and the two configurations of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

VALIDATION = {2: 0.06, 3: 0.25}
"""Part of the training images that validates: one of 16 planes, one of 4 volumes."""

ENCODER = {"embed_dim": 192, "depth": 6, "num_heads": 6}
MLP_RATIO = 4.17
"""BiaPy's is 4; the rest makes up for the class token, which we do not have."""


@dataclass(frozen=True)
class Setting:
    """One job.

    Attributes
    ----------
    name, title
        For the command line and for the table.
    ndim, task, patch, batch
        The same for both programs.
    token
        Pixels of a token on each axis (masking).
    speed_goal
        How many times as many training patches a second we promised.
    """

    name: str
    title: str
    ndim: int
    task: str
    patch: tuple[int, ...]
    batch: int
    token: int = 0
    speed_goal: float = 3.0

    @property
    def masking(self) -> bool:
        """Whether the job is masking."""
        return self.task == "masking"


SETTINGS = {
    s.name: s
    for s in (
        Setting("2d_crappify", "2D crappify", 2, "crappify", (256, 256), 12),
        Setting("2d_masking", "2D masking", 2, "masking", (128, 128), 12, 16, 10.0),
        Setting("3d_crappify", "3D crappify", 3, "crappify", (20, 128, 128), 2),
        Setting("3d_masking", "3D masking", 3, "masking", (32, 32, 32), 12, 8, 10.0),
    )
}


def patches_an_epoch(setting: Setting, shape: tuple[int, ...], images: int) -> int:
    """Return how many patches BiaPy cuts from its training images, without its validation's."""
    learn = images - math.ceil(images * VALIDATION[setting.ndim])
    return learn * math.prod(math.ceil(n / p) for n, p in zip(shape, setting.patch, strict=True))


def mae_encoder_parameters(setting: Setting, *, ours: bool) -> int:
    """Return the size of a masked autoencoder's encoder, positions (fixed in both) not counted."""
    width, depth = ENCODER["embed_dim"], ENCODER["depth"]
    inner = int(width * (MLP_RATIO if ours else 4))
    attention = 4 * width * width + 4 * width
    feed_forward = 2 * width * inner + inner + width
    block = attention + feed_forward + 4 * width
    embedding = setting.token**setting.ndim * width + width
    return embedding + depth * block + 2 * width + (0 if ours else width)


def biapy_config(
    setting: Setting, data: Path, *, epochs: int, threads: int, test: bool
) -> dict[str, Any]:
    """Return BiaPy's configuration: its template's optimiser and augmentation, our patch."""
    folder = data / f"{setting.ndim}d"
    augment = {"ENABLE": True, "DA_PROB": 0.5, "RANDOM_ROT": True, "VFLIP": True, "HFLIP": True}
    model: dict[str, Any] = {"ARCHITECTURE": "resunet", "LOAD_CHECKPOINT": False}
    tests: dict[str, Any] = {"IN_MEMORY": True, "PATH": str(folder / "test" / "x")}
    if setting.masking:
        model = _biapy_mae(setting)
    else:
        tests |= {"PADDING": "(32,32)" if setting.ndim == 2 else "(2,16,16)", "LOAD_GT": True}
    if setting.ndim == 3:
        augment["ZFLIP"] = True
        if not setting.masking:
            model |= {"FEATURE_MAPS": [16, 32, 64, 128], "Z_DOWN": [1, 1, 1]}
    return {
        "SYSTEM": {"NUM_CPUS": threads},
        "PROBLEM": {
            "TYPE": "SELF_SUPERVISED",
            "NDIM": f"{setting.ndim}D",
            "SELF_SUPERVISED": {"PRETEXT_TASK": setting.task},
        },
        "DATA": {
            "PATCH_SIZE": str((*setting.patch, 1)),
            "TRAIN": {"PATH": str(folder / "train" / "x"), "IN_MEMORY": True},
            "VAL": {"SPLIT_TRAIN": VALIDATION[setting.ndim]},
            "TEST": tests,
        },
        "AUGMENTOR": augment,
        "MODEL": model,
        "TRAIN": {
            "ENABLE": True,
            "OPTIMIZER": "ADAMW",
            "LR": 0.0001,
            "BATCH_SIZE": setting.batch,
            "EPOCHS": epochs,
        },
        "TEST": {"ENABLE": test, "AUGMENTATION": False},
    }


def _biapy_mae(setting: Setting) -> dict[str, Any]:
    return {
        "ARCHITECTURE": "mae",
        "VIT_TOKEN_SIZE": setting.token,
        "VIT_EMBED_DIM": ENCODER["embed_dim"],
        "VIT_NUM_LAYERS": ENCODER["depth"],
        "VIT_NUM_HEADS": ENCODER["num_heads"],
        "MAE_MASK_TYPE": "random",
        "MAE_MASK_RATIO": 0.75,
    }


def our_config(
    setting: Setting, data: Path, results: Path, *, minutes: float, precision: str, test: bool
) -> dict[str, Any]:
    """Return our configuration: the same patch, batch and tokens, the defaults otherwise."""
    folder = data / f"{setting.ndim}d"
    pretext: dict[str, Any] = {"task": setting.task}
    backbone: dict[str, Any] = {"size": "small"}
    if setting.masking:
        pretext |= {"token_size": setting.token, "mask_type": "random", "mask_ratio": 0.75}
        backbone |= {"name": "mae_vit", "mlp_ratio": MLP_RATIO, **ENCODER}
    elif setting.ndim == 3:
        # a little wider than small's last stage, to have no fewer parameters than BiaPy's
        backbone["features_per_stage"] = [16, 32, 64, 160, 336]
    return {
        "name": setting.name,
        "result_dir": str(results),
        "data": {
            "train": str(folder / "train" / "x"),
            "test": str(folder / "test" / "x") if test else None,
            "ndim": setting.ndim,
            "patch_size": list(setting.patch),
            "validation_fraction": VALIDATION[setting.ndim],
        },
        "pretext": pretext,
        "backbone": backbone,
        "training": {"batch_size": setting.batch, "max_minutes": minutes},
        "compute": {"precision": precision},
    }
