"""Exports for BiaPy: the encoder of the plain U-Net as that of BiaPy's ``stunet``.

A stage of it is two convolutions, each with instance normalisation and a leaky ReLU, the first
with a stride. A residual block of ``stunet`` is the same plus a 1x1 convolution of its input,
which is zero here. So the encoders agree to the last digit. The decoders do not: transposed
convolutions here, nearest neighbours there. No other network of either has a counterpart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import yaml

from napari_ssl_pretrain.engine.export.base import Format, FormatRefused, Made, alone, torch_bytes

if TYPE_CHECKING:
    from napari_ssl_pretrain.engine.export.base import Job

Tensors = dict[str, torch.Tensor]

CONFIGURATION = ".yaml"
LOAD = "biapy --config my.yaml --result_dir results  # the .yaml beside {file}"
CONVOLUTIONS = 2
"""Convolutions of a stage, and of one residual block there."""

NORMALIZATIONS = {"zscore": "zero_mean_unit_variance", "divide": "div", "minmax": "scale_range"}
REMEDY = "Pretrain backbone.name: unet with backbone.norm: instance, size tiny, small or base"


def make(job: Job) -> Made:
    """Return BiaPy's checkpoint, and a configuration that loads it.

    Raises
    ------
    FormatRefused
        BiaPy has no network with this encoder.
    """
    reason = unlike(job)
    if reason:
        raise FormatRefused("biapy", reason, f"{REMEDY}, or take --format bioimageio.")
    options = job.state["backbone"]["options"]
    stages = len(options["strides"])
    model = network(options)
    content = {
        "model": alone(renamed(job.tensors, stages, job.state["in_channels"])),
        "cfg": {"PROBLEM": {"NDIM": f"{job.state['ndim']}D"}, "MODEL": model},
        "card": job.card.model_dump(mode="json"),
    }
    load = f"biapy --config {job.path.stem}.yaml --result_dir results"
    told = job.card.weights.model_copy(
        update={"load": load, "names": "those of BiaPy's stunet: the encoder alone"}
    )
    kind = job.state["normalization"]
    other = "" if kind in NORMALIZATIONS else OTHER_NORMALIZATION.format(kind)
    text = COMMENT + other + yaml.safe_dump(configuration(job, model), sort_keys=False)
    return Made(
        torch_bytes(content),
        job.card.model_copy(update={"weights": told}),
        {CONFIGURATION: text.encode()},
    )


COMMENT = """\
# A segmentation in BiaPy that starts from the pretrained encoder; the decoder starts fresh.
# Set the folders under DATA; everything else runs as it is.
"""

OTHER_NORMALIZATION = """\
# BiaPy cannot normalise as in pretraining ({}); zero mean and unit variance come nearest.
"""


def unlike(job: Job) -> str:
    """Return why BiaPy has no such encoder, or nothing."""
    backbone = job.state["backbone"]
    name, options = backbone["name"], backbone["options"]
    if name != "unet":
        return f"BiaPy has no network like {name}"
    if options["norm"] != "instance":
        return "BiaPy has no such network without normalisation layers"
    if max(CONVOLUTIONS, options["blocks_per_stage"]) != CONVOLUTIONS:
        count = options["blocks_per_stage"]
        return f"BiaPy has no such network with {count} convolutions a stage"
    if any(side != 1 for side in options["strides"][0]):
        return "BiaPy has no such network with a stride in its first stage"
    return ""


def renamed(tensors: Tensors, stages: int, channels: int) -> Tensors:
    """Return the encoder by BiaPy's names, with the 1x1 convolutions that it has beside.

    The channel that says what is hidden is left out: where nothing is hidden it adds nothing.
    """
    result: Tensors = {}
    for stage in range(stages):
        ours, theirs = f"encoder.stages.{stage}.0.convs", f"conv_blocks_context.{stage}.0"
        for number in range(CONVOLUTIONS):
            for layer in ("conv", "norm"):
                for part in ("weight", "bias"):
                    value = tensors[f"{ours}.{number}.{layer}.{part}"]
                    result[f"{theirs}.{layer}{number + 1}.{part}"] = value
        first = f"{theirs}.conv1.weight"
        if stage == 0:
            result[first] = result[first][:, :channels]
        out, inside, *kernel = result[first].shape
        result[f"{theirs}.conv3.weight"] = torch.zeros(out, inside, *[1 for _ in kernel])
        result[f"{theirs}.conv3.bias"] = torch.zeros(out)
    return result


def network(options: dict[str, Any]) -> dict[str, Any]:
    """Return BiaPy's entries of the network."""
    stages = len(options["strides"])
    return {
        "ARCHITECTURE": "stunet",
        "STUNET": {
            "VARIANT": "custom",
            "PRETRAINED": False,
            "DEPTH": [1] * stages,
            "DIMS": [int(n) for n in options["features_per_stage"][:stages]],
            "POOL_OP_KERNEL_SIZES": [[int(n) for n in s] for s in options["strides"][1:]],
            "CONV_KERNEL_SIZES": [[int(n) for n in k] for k in options["kernel_sizes"]],
        },
    }


def configuration(job: Job, model: dict[str, Any]) -> dict[str, Any]:
    """Return a segmentation of BiaPy that loads the checkpoint."""
    state = job.state
    pairs = zip(state["patch_size"], job.model.multiple, strict=True)
    patch = tuple(-(-side // m) * m for side, m in pairs)
    kind = NORMALIZATIONS.get(state["normalization"], NORMALIZATIONS["zscore"])
    return {
        "PROBLEM": {"TYPE": "SEMANTIC_SEG", "NDIM": f"{state['ndim']}D"},
        "DATA": {
            "PATCH_SIZE": str((*patch, state["in_channels"])),
            "TRAIN": {"PATH": "data/train/x", "GT_PATH": "data/train/y"},
            "VAL": {"SPLIT_TRAIN": 0.1},
            "TEST": {"PATH": "data/test/x", "GT_PATH": "data/test/y", "LOAD_GT": True},
            "NORMALIZATION": {"TYPE": kind},
        },
        "MODEL": model
        | {
            "LOAD_CHECKPOINT": True,
            "ITEMS_TO_LOAD_FROM_CHECKPOINT": ["weights"],
            "SKIP_UNMATCHED_LAYERS": True,
        },
        "TRAIN": {
            "ENABLE": True,
            "OPTIMIZER": ["ADAMW"],
            "LR": [1e-4],
            "BATCH_SIZE": 4,
            "EPOCHS": 100,
        },
        "TEST": {"ENABLE": True},
        "PATHS": {"CHECKPOINT_FILE": str(job.path)},
    }


BIAPY = Format((".pth",), LOAD, make, beside=(CONFIGURATION,))
