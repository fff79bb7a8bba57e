"""Exports for nnU-Net: weights for ``-pretrained_weights``, and the configuration of its plans."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from napari_ssl_pretrain.engine.cards import spelled
from napari_ssl_pretrain.engine.export.base import (
    TOLERANCE,
    Format,
    FormatRefused,
    Made,
    alone,
    far_from,
    torch_bytes,
)

if TYPE_CHECKING:
    from torch import nn

    from napari_ssl_pretrain.engine.export.base import Job

LIBRARY = "dynamic_network_architectures"
PARENTS = {2: "2d", 3: "3d_fullres"}
PLANS = ".plans.json"
IMPORTED = ("conv_op", "norm_op", "dropout_op", "nonlin")
TRAINER_FILE = "_nnunet_trainer.py"
LOAD = "nnUNetv2_train DATASET {configuration} FOLD -pretrained_weights {file}"
LOAD_BARE = (
    "nnUNet_extTrainer=FOLDER nnUNetv2_train DATASET {configuration} FOLD "
    "-tr nnUNetTrainerBare -pretrained_weights {file}"
)
TRAINER = '''"""A trainer of nnU-Net 2.8 for networks without normalisation layers.

Its own cannot start a residual encoder without them: it would initialise layers that are not there.
Tell nnU-Net the folder of this file, and nothing else in it: export nnUNet_extTrainer=FOLDER
"""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans


class nnUNetTrainerBare(nnUNetTrainer):
    @staticmethod
    def build_network_architecture(
        plans_manager,
        configuration_manager,
        num_input_channels,
        num_output_channels,
        enable_deep_supervision=True,
    ):
        return get_network_from_plans(
            configuration_manager.network_arch_class_name,
            configuration_manager.network_arch_init_kwargs,
            configuration_manager.network_arch_init_kwargs_req_import,
            num_input_channels,
            num_output_channels,
            allow_init=False,
            deep_supervision=enable_deep_supervision,
        )
'''


def make(job: Job) -> Made:
    """Return the weights by nnU-Net's names, and the configuration that builds the network.

    Raises
    ------
    FormatRefused
        nnU-Net has no network like it, or not quite.
    """
    public = job.model.architecture
    if public is None or not public.kind.__module__.startswith(LIBRARY):
        name = job.state["backbone"]["name"]
        remedy = "Pretrain residual_unet or unet, or take --format safetensors."
        raise FormatRefused("nnunet", f"nnU-Net has no network like {name}", remedy)
    channels = job.state["in_channels"]
    arguments = public.arguments | {"input_channels": channels}
    network: nn.Module = public.kind(**arguments).eval()
    weights = without_hidden(job.tensors, network)
    _check(job, network, weights)
    name, configuration = plan(job, public.kind, arguments)
    beside = {PLANS: json.dumps({"configurations": {name: configuration}}, indent=2).encode()}
    # its initialisation reads the last normalisation layer of each residual block
    bare = "n_blocks_per_stage" in arguments and arguments["norm_op"] is None
    if bare:
        beside[TRAINER_FILE] = TRAINER.encode()
    load = (LOAD_BARE if bare else LOAD).format(file=job.path.name, configuration=name)
    told = job.card.weights.model_copy(update={"load": load})
    return Made(
        torch_bytes({"network_weights": weights, "card": job.card.model_dump(mode="json")}),
        job.card.model_copy(update={"weights": told}),
        beside,
    )


def without_hidden(tensors: dict[str, torch.Tensor], network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights less those of the channel that says what is hidden.

    Where nothing is hidden that channel is zero, and so is what they add to the output.
    """
    wanted = network.state_dict()
    return alone(
        {
            name: value if value.shape == wanted[name].shape else value[:, :-1]
            for name, value in tensors.items()
        }
    )


def plan(job: Job, kind: type, arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return name and content of a configuration that inherits nnU-Net's own."""
    given = {"dropout_op": None, "dropout_op_kwargs": None} | arguments
    kept = {key: v for key, v in given.items() if key not in {"input_channels", "num_classes"}}
    parent = PARENTS[job.state["ndim"]]
    sides = zip(job.state["patch_size"], job.model.multiple, strict=True)
    return f"{parent}_pretrained", {
        "inherits_from": parent,
        "patch_size": [-(-side // m) * m for side, m in sides],
        "architecture": {
            "network_class_name": spelled(kind),
            "arch_kwargs": spelled(kept),
            "_kw_requires_import": list(IMPORTED),
        },
    }


def _check(job: Job, network: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Load the weights into the network as nnU-Net builds it, and compare the outputs.

    Raises
    ------
    FormatRefused
        They differ.
    """
    random = torch.Generator().manual_seed(0)
    sides = [2 * m for m in job.model.multiple]
    image = torch.randn(2, job.state["in_channels"], *sides, generator=random)
    network.load_state_dict(weights)
    with torch.no_grad():
        worst = far_from(network(image), job.model(image))
    if not worst <= TOLERANCE:
        rule = f"the network there would differ by {worst:.1g}"
        raise FormatRefused("nnunet", rule, "Take --format safetensors.")


NNUNET = Format((".pth",), "nnUNetv2_train", make, beside=(PLANS, TRAINER_FILE))
