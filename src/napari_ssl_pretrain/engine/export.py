"""Models for other tools: the weights by the names of a public class, and a card beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import safetensors.torch

from napari_ssl_pretrain.data.writers import write_bytes, write_text
from napari_ssl_pretrain.engine import checkpoint
from napari_ssl_pretrain.engine.cards import make_card, prefix_of
from napari_ssl_pretrain.engine.inputs import config_of
from napari_ssl_pretrain.engine.load import load_network
from napari_ssl_pretrain.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from napari_ssl_pretrain.spec.card import ModelCard

    Tensors = dict[str, torch.Tensor]


class Exported(NamedTuple):
    """The files that were written, and the card's content."""

    weights: Path
    card_file: Path
    card: ModelCard


class Format(NamedTuple):
    """A kind of file: how it may be named, how it is loaded, and what writes it."""

    suffixes: tuple[str, ...]
    load: str
    write: Callable[[Path, Tensors, ModelCard], None]


def _write_torch(path: Path, tensors: Tensors, card: ModelCard) -> None:
    checkpoint.save({"state_dict": tensors, "card": card.model_dump(mode="json")}, path)


def _write_safetensors(path: Path, tensors: Tensors, card: ModelCard) -> None:
    # a name each, although some share a tensor: so the file loads with strict=True everywhere
    alone = {name: value.contiguous().clone() for name, value in tensors.items()}
    write_bytes(path, safetensors.torch.save(alone, {"format": "pt", "card": card.to_json()}))


FORMATS: dict[str, Format] = {
    "torch": Format(
        (".pt", ".pth"),
        'network.load_state_dict(torch.load("{file}", weights_only=True)["state_dict"])',
        _write_torch,
    ),
    "safetensors": Format(
        (".safetensors",),
        'network.load_state_dict(safetensors.torch.load_file("{file}"))',
        _write_safetensors,
    ),
}


def export(
    checkpoint_file: str | Path, fmt: str, output: str | Path, *, overwrite: bool = False
) -> Exported:
    """Write a trained network for other tools, and its card as ``.json`` beside it.

    Parameters
    ----------
    checkpoint_file
        A ``.pth`` of a run.
    fmt
        A key of :data:`FORMATS`.
    output
        The file to write; without a suffix it gets that of the format.
    overwrite
        Replace files that are there.

    Raises
    ------
    CheckpointError
        The checkpoint cannot be loaded, or lacks what the card says.
    ConfigError
        The format is unknown, or the output is no name for it, is taken, or cannot be written.
    """
    if fmt not in FORMATS:
        raise ConfigError(
            "--format", f"must be one of {', '.join(FORMATS)}", value=fmt, remedy="Choose one."
        )
    row, source = FORMATS[fmt], Path(checkpoint_file)
    path = _named(Path(output).expanduser(), fmt)
    beside = path.with_suffix(".json")
    _refuse_taken((path, beside), source, overwrite=overwrite)
    model, state = load_network(source)
    _refuse_partial(source, state)
    config_of(state, source)  # refuses entries that are damaged
    kept = {key: state[key] for key in (*checkpoint.KEYS, *checkpoint.EXTRAS) if key in state}
    card = make_card(model, kept, (fmt, row.load), path)
    prefix = prefix_of(model)
    tensors = {name.removeprefix(prefix): value for name, value in model.state_dict().items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        row.write(path, tensors, card)
        write_text(beside, card.to_json())
    except OSError as error:
        rule = f"cannot be written ({error.strerror or error})"
        raise ConfigError("--output", rule, value=path, remedy="Choose another place.") from None
    return Exported(path, beside, card)


def _named(path: Path, fmt: str) -> Path:
    """Return the output with the format's suffix.

    Raises
    ------
    ConfigError
        It is a folder, or has the suffix of something else.
    """
    suffixes = FORMATS[fmt].suffixes
    if path.is_dir():
        remedy = f"Name a file in it, such as {path / 'model'}{suffixes[0]}."
        raise ConfigError("--output", "is a folder", value=path, remedy=remedy)
    if path.suffix.lower() in suffixes:
        return path
    others = {s: name for name, row in FORMATS.items() for s in row.suffixes}
    other = others.get(path.suffix.lower())
    if other or path.suffix.lower() in {".json", ".onnx", ".zip"}:
        remedy = f"Name it {path.stem}{suffixes[0]}"
        remedy += f", or take --format {other}." if other else "."
        raise ConfigError("--output", f"is no name of a {fmt} file", value=path, remedy=remedy)
    return path.with_name(path.name + suffixes[0])


def _refuse_taken(paths: tuple[Path, ...], source: Path, *, overwrite: bool) -> None:
    """Keep what is there.

    Raises
    ------
    ConfigError
        A file is there already, or it is the checkpoint itself.
    """
    for path in paths:
        if path.resolve() == source.resolve():
            rule = "is the checkpoint itself"
            raise ConfigError("--output", rule, value=path, remedy="Choose another name.")
        if path.exists() and not (overwrite and path.is_file()):
            remedy = "Choose another name, or add --overwrite."
            raise ConfigError("--output", "is there already", value=path, remedy=remedy)


def _refuse_partial(source: Path, state: dict[str, Any]) -> None:
    """Refuse a checkpoint that does not say how it was trained.

    Raises
    ------
    CheckpointError
        Entries are missing.
    """
    missing = [key for key in checkpoint.KEYS if key not in state]
    if missing:
        raise CheckpointError(
            source, f"lacks {', '.join(missing)}", remedy="Give a checkpoint that a run left."
        )
