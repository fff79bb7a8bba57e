"""From a checkpoint to its card: what the network is, what it takes, what it returns."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain.data.intensity import PERCENTILES
from napari_ssl_pretrain.pretext.masking import LEAST_SPREAD
from napari_ssl_pretrain.spec import card

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ssl_pretrain.engine.backbones import Backbone

PLAIN_MAE = "examples/mae_vit_plain_torch.py"
"""Where the masked autoencoder stands in plain torch."""

DISTRIBUTIONS = {"dynamic_network_architectures": "dynamic-network-architectures"}

FORMULA = "normalised = (image - offset) / scale, each channel of an image for itself"
OFFSETS_AND_SCALES = {
    "zscore": ("mean of the whole image", "standard deviation of the whole image"),
    "percentile": (
        f"percentile {PERCENTILES[0]} of the whole image",
        f"percentile {PERCENTILES[1]} minus percentile {PERCENTILES[0]} of the whole image",
    ),
    "minmax": ("smallest value of the image", "largest minus smallest value of the image"),
    "divide": (
        "0",
        "255 for uint8, 127 for int8, 65535 for uint16, 32767 for int16; for other types the "
        "largest magnitude in the image where it is above 1, else 1",
    ),
    "custom": ("mean, as given here", "std, as given here"),
}
CONSTANT = "; 1 where that is 0"
HIDDEN = (
    "hidden: 1 where a pixel is hidden from the network, else 0. Feed zeros to show it everything"
)


def make_card(
    model: Backbone, state: dict[str, Any], spelling: tuple[str, str], path: Path
) -> card.ModelCard:
    """Return the card of a network.

    Parameters
    ----------
    model
        The network, loaded from the checkpoint.
    state
        The checkpoint.
    spelling
        Name of the format, and the line that loads it.
    path
        The file of the weights.
    """
    fmt, load = spelling
    config = state["config"]
    about = {key: value for key, value in state.items() if key != "model"}
    return card.ModelCard(
        name=f"{config['name']}_{config['run_id']}",
        task=state["task"],
        weights=card.Weights(
            file=path.name,
            format=fmt,
            parameters=sum(p.numel() for p in model.parameters()),
            tensors=len(model.state_dict()),
            names="those of python_class" if model.architecture else f"those of {PLAIN_MAE}",
            load=load.format(file=path.name),
        ),
        architecture=_architecture(model, state),
        input=_input(model, state),
        normalization=_normalization(state),
        output=_output(state),
        prefix=prefix_of(model),
        checkpoint=about | {"config": card.without_folders(config)},
    )


def prefix_of(model: Backbone) -> str:
    """Return what stands in front of the public class's names."""
    return model.architecture.prefix if model.architecture else ""


def spelled(value: Any) -> Any:
    """Return an argument as JSON takes it; a class by its full name."""
    if isinstance(value, type):
        module = "torch.nn" if value.__module__.startswith("torch.nn.") else value.__module__
        return f"{module}.{value.__name__}"
    if isinstance(value, dict):
        return {key: spelled(v) for key, v in value.items()}
    return [spelled(v) for v in value] if isinstance(value, list | tuple) else value


def _architecture(model: Backbone, state: dict[str, Any]) -> card.Architecture:
    public, prefix = model.architecture, prefix_of(model)
    library = public.kind.__module__.partition(".")[0] if public else None
    backbone = state["backbone"]
    own = {"in_channels": backbone["in_channels"], "out_channels": backbone["out_channels"]}
    note = "A class among the arguments stands there by its full name, such as torch.nn.Conv2d."
    if not public:
        note = (
            "No public library has this network: use load_backbone of napari-ssl-pretrain, or "
            f"the file {PLAIN_MAE} of its sources, which needs torch alone."
        )
    elif library == "monai":
        note += " Images of other sides are padded at their far ends and cut back."
    return card.Architecture(
        name=backbone["name"],
        library=library,
        library_version=_version(library),
        python_class=spelled(public.kind) if public else None,
        arguments=spelled(public.arguments if public else own | backbone["options"]),
        encoder=tuple(name.removeprefix(prefix) for name in model.encoder_prefixes()),
        head=tuple(name.removeprefix(prefix) for name in model.head_prefixes()),
        note=note,
    )


def _version(library: str | None) -> str | None:
    try:
        return version(DISTRIBUTIONS.get(library, library)) if library else None
    except PackageNotFoundError:
        return None


def _axes(state: dict[str, Any]) -> str:
    return "BC" + "ZYX"[-state["ndim"] :]


def _input(model: Backbone, state: dict[str, Any]) -> card.Input:
    channels = [f"channel {number} of the image" for number in range(state["in_channels"])]
    return card.Input(
        axes=_axes(state),
        channels=(*channels, *[HIDDEN] * bool(state["backbone"]["sees_hidden"])),
        patch_size=state["patch_size"],
        multiple_of=model.multiple,
        voxel_size=state["voxel_size"],
        image_axes=state["axes"],
    )


def _normalization(state: dict[str, Any]) -> card.Normalization:
    name = state["normalization"]
    offset, scale = OFFSETS_AND_SCALES[name]
    fixed = state.get("normalization_statistics") or {}
    return card.Normalization(
        name=name,
        formula=FORMULA,
        offset=offset,
        scale=scale + ("" if name in {"divide", "custom"} else CONSTANT),
        mean=fixed.get("mean"),
        std=fixed.get("std"),
    )


def _output(state: dict[str, Any]) -> card.Output:
    meaning = (
        "what is to be added to the normalised image to restore it: noise goes, sharpness comes "
        "back"
    )
    formula = "restored = (input + output) * scale + offset"
    if state["task"] == "masking":
        meaning = (
            "what is to be added to the normalised image, in whose hidden parts stands a smooth "
            "interpolation from the visible ones, when the network is shown input = (that image "
            "- centre) / spread; only hidden parts were learnt. centre: mean of each patch's and "
            f"channel's visible pixels; spread: sqrt(their variance + {LEAST_SPREAD}**2)"
        )
        formula = (
            "reconstruction = (image channels of input * spread + centre + output * spread)"
            " * scale + offset"
        )
        if state["config"]["pretext"]["normalize_target"]:
            meaning = "hidden tokens, each brought to zero mean and unit variance"
            formula = "output = (token - its mean) / its standard deviation"
    return card.Output(
        axes=_axes(state),
        channels=state["backbone"]["out_channels"],
        meaning=meaning,
        formula=formula,
    )
