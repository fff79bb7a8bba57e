"""``new``: write a commented configuration."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ssl_pretrain.cli.parser import TEMPLATES, UsageError
from napari_ssl_pretrain.cli.template import render, template_values
from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.yaml_io import parse_yaml

if TYPE_CHECKING:
    from argparse import Namespace


def command(args: Namespace) -> int:
    """Write a configuration and say what to do with it.

    Raises
    ------
    UsageError
        Neither a template nor the guide was asked for.
    """
    output = Path(args.output)
    check_output(output)
    if args.guide:
        from napari_ssl_pretrain.cli.guide import ask_all  # noqa: PLC0415 - reads images

        values = ask_all(args)
    elif args.template is None:
        known = ", ".join(TEMPLATES)
        raise UsageError("--template", "is required", remedy=f"One of {known}; or --guide asks.")
    else:
        values = template_values(args.template)
        given = {f"data.{key}": getattr(args, key) for key in ("train", "test")}
        values |= {key: path for key, path in given.items() if path}
    write(output, render(values, args.output))
    print(f"Written: {output}")
    if not args.guide and args.train is None:
        print("Set data.train in it to your images.")
    print(f"Next:    napari-ssl-pretrain check --config {shlex.quote(str(output))}")
    return 0


def check_output(path: Path) -> None:
    """Refuse a file that cannot be written anew.

    Raises
    ------
    ConfigError
        It exists, or its folder does not.
    """
    if path.exists():
        remedy = "Give another name, or remove it first."
        raise ConfigError("--output", "exists already", value=path, remedy=remedy)
    if not path.absolute().parent.is_dir():
        rule = "is in a folder that does not exist"
        raise ConfigError("--output", rule, value=path, remedy="Create the folder first.")


def write(path: Path, text: str) -> None:
    """Check the text and write it whole.

    Raises
    ------
    ConfigError
        The file came into being meanwhile, or its folder cannot be written.
    """
    PretrainConfig.from_dict(parse_yaml(text, str(path)))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        rule = f"cannot be written ({error.strerror})"
        raise ConfigError("--output", rule, value=path, remedy="Choose another folder.") from None
