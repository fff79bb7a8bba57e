"""From a file and the words of the command line to one configuration."""

from __future__ import annotations

import os
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.spec.biapy_yaml import is_biapy, translate
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.yaml_io import load_yaml, parse_yaml

if TYPE_CHECKING:
    from argparse import Namespace

PATH_KEYS = (
    ("data", "train"),
    ("data", "validation"),
    ("data", "test"),
    ("training", "load_checkpoint"),
)
"""Keys whose relative paths may also be meant from the file's own folder."""


@dataclass(frozen=True)
class Loaded:
    """A configuration and what the user should know about how it came to be.

    Attributes
    ----------
    config
        The configuration, checked as far as is possible without the images.
    notes
        Sentences for the user.
    channels
        Channels that a BiaPy file expects, or None.
    """

    config: PretrainConfig
    notes: tuple[str, ...] = ()
    channels: int | None = None


def load_config(args: Namespace) -> Loaded:
    """Read ``--config``, translate it if it is BiaPy's, and let the other options overrule it."""
    path = Path(args.config)
    fields, notes, channels = load_yaml(path), [], None
    if is_biapy(fields):
        translation = translate(fields)
        fields, channels = {"name": path.stem} | translation.fields, translation.channels
        notes += translation.lines()
    notes += _from_file_folder(fields, Path(os.path.abspath(path)).parent)  # noqa: PTH100 - `..` goes, links stay
    apply_options(fields, args)
    return Loaded(PretrainConfig.from_dict(fields), tuple(notes), channels)


def apply_options(fields: dict[str, Any], args: Namespace) -> None:
    """Write ``--set``, ``--name``, ``--run_id`` and ``--result_dir`` over the fields."""
    for setting in args.set:
        key, value = read_setting(setting)
        put(fields, key, value)
    for name in ("name", "result_dir"):
        if getattr(args, name) is not None:
            fields[name] = getattr(args, name)
    if args.run_id is not None:
        fields["run_id"] = int(args.run_id) if args.run_id.isdecimal() else args.run_id


def read_setting(text: str) -> tuple[str, Any]:
    """Split ``key=value``; the value is read as YAML.

    Raises
    ------
    ConfigError
        There is no ``=``, or the value is no YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            "--set", "must be key=value", value=text, remedy="For example --set training.epochs=20."
        )
    if value.lstrip()[:1] in {"*", "?", "&", "!", "%", "@", "`"}:
        return key.strip(), value  # a glob such as *.tif would be no YAML
    return key.strip(), parse_yaml(f"value: {value}", f"--set {key.strip()}")["value"]


def put(fields: dict[str, Any], key: str, value: Any) -> None:
    """Set one dotted key.

    Raises
    ------
    ConfigError
        A part of the key is no group.
    """
    *groups, last = key.split(".")
    here = fields
    for depth, group in enumerate(groups, start=1):
        inner = here.get(group)
        if inner is None:
            inner = here[group] = {}
        if not isinstance(inner, dict):
            raise ConfigError(
                key,
                f"is no known key: {'.'.join(groups[:depth])} is no group",
                remedy="See docs/configuration.md.",
            )
        here = inner
    here[last] = value


def _from_file_folder(fields: dict[str, Any], folder: Path) -> list[str]:
    """Take paths that are found only beside the file from there; return what was done."""
    notes = []
    for group, key in PATH_KEYS:
        inner = fields.get(group)
        if not isinstance(inner, dict) or not isinstance(inner.get(key), str | list):
            continue
        value = inner[key]
        moved = (
            [_nearer(p, folder) for p in value]
            if isinstance(value, list)
            else _nearer(value, folder)
        )
        if moved != value:
            inner[key] = moved
            notes.append(f"{group}.{key}: taken from the folder of the configuration, {folder}.")
    return notes


def _nearer(path: Any, folder: Path) -> Any:
    if not isinstance(path, str) or not path or Path(path).is_absolute() or _found(path):
        return path
    beside = str(folder / path)
    return beside if _found(beside) else path


def _found(path: str) -> bool:
    return Path(path).exists() or bool(glob(path))  # noqa: PTH207 - the pattern may hold folders
