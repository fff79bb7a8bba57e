"""Models for other tools: the weights by the names of a public class, and a card beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_ssl_pretrain.data.writers import write_bytes, write_text
from napari_ssl_pretrain.engine import checkpoint
from napari_ssl_pretrain.engine.cards import make_card, prefix_of
from napari_ssl_pretrain.engine.export.base import Format, Job, require
from napari_ssl_pretrain.engine.export.biapy import BIAPY
from napari_ssl_pretrain.engine.export.bioimageio import BIOIMAGEIO
from napari_ssl_pretrain.engine.export.nnunet import NNUNET
from napari_ssl_pretrain.engine.export.onnx_file import ONNX
from napari_ssl_pretrain.engine.export.plain_files import SAFETENSORS, TORCH
from napari_ssl_pretrain.engine.inputs import config_of
from napari_ssl_pretrain.engine.load import load_network
from napari_ssl_pretrain.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from napari_ssl_pretrain.spec.card import ModelCard


class Exported(NamedTuple):
    """The files that were written, and the card's content."""

    weights: Path
    card_file: Path
    card: ModelCard
    beside: tuple[Path, ...] = ()


VOWELS = "aeiou"

FORMATS: dict[str, Format] = {
    "torch": TORCH,
    "safetensors": SAFETENSORS,
    "onnx": ONNX,
    "bioimageio": BIOIMAGEIO,
    "nnunet": NNUNET,
    "biapy": BIAPY,
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
    beside = {end: path.with_name(path.stem + end) for end in row.beside}
    card_file = path.with_suffix(".json")
    _refuse_taken((path, card_file, *beside.values()), source, overwrite=overwrite)
    _refuse_card_of_another(card_file, path)
    require(row.needs, fmt)
    made = row.make(_job(source, path, (fmt, row.load)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, made.weights)
        for end, content in made.beside.items():
            write_bytes(beside[end], content)
        write_text(card_file, made.card.to_json())
    except OSError as error:
        rule = f"cannot be written ({error.strerror or error})"
        raise ConfigError("--output", rule, value=path, remedy="Choose another place.") from None
    return Exported(path, card_file, made.card, tuple(beside[end] for end in made.beside))


def _job(source: Path, path: Path, spelling: tuple[str, str]) -> Job:
    """Load the checkpoint.

    Raises
    ------
    CheckpointError
        It cannot be loaded, or lacks what the card says.
    """
    model, state = load_network(source)
    _refuse_partial(source, state)
    config_of(state, source)  # refuses entries that are damaged
    kept = {key: state[key] for key in (*checkpoint.KEYS, *checkpoint.EXTRAS) if key in state}
    card = make_card(model, kept, spelling, path)
    prefix = prefix_of(model)
    tensors = {name.removeprefix(prefix): value for name, value in model.state_dict().items()}
    del kept["model"]
    return Job(path, model, kept, tensors, card)


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
    others = {s: name for name, row in reversed(FORMATS.items()) for s in row.suffixes}
    other = others.get(path.suffix.lower())
    if other or path.suffix.lower() in {".json", ".zip"}:
        remedy = f"Name it {path.stem}{suffixes[0]}"
        remedy += f", or take --format {other}." if other else "."
        raise ConfigError(
            "--output",
            f"is no name of {'an' if fmt[0] in VOWELS else 'a'} {fmt} file",
            value=path,
            remedy=remedy,
        )
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


def _refuse_card_of_another(card_file: Path, path: Path) -> None:
    """Keep the card of another export, although the files may be overwritten.

    Raises
    ------
    ConfigError
        The card that is there belongs to another file.
    """
    try:
        other = Path(json.loads(card_file.read_text("utf-8"))["weights"]["file"]).name
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # none there, or no card
    if other != path.name and path.with_name(other).exists():
        remedy = f"Choose another name than {path.name}."
        rule = f"is the card of {other}"
        raise ConfigError("--output", rule, value=card_file, remedy=remedy)


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
