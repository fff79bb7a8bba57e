"""A configuration as YAML with a comment at every key, from the model's own descriptions."""

from __future__ import annotations

import shlex
import textwrap
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.yaml_io import dump_yaml

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

WIDTH = 96


def template_values(template: str) -> dict[str, Any]:
    """Return what a template sets, by dotted key; everything else keeps its default."""
    dims, task = template.split("-")
    return {
        "name": f"my_{dims}_{task}",
        "data.train": "data/train/x",
        "data.ndim": int(dims[0]),
        "pretext.task": task,
    }


def render(values: dict[str, Any], config_file: str) -> str:
    """Return the commented YAML of a configuration.

    Parameters
    ----------
    values
        Values by dotted key; others are written with their defaults. Keys of the other
        pretext task are left out.
    config_file
        Path that the comments at the top name.
    """
    quoted = shlex.quote(config_file)
    head = [
        "Self-supervised pretraining of microscopy images.",
        f"See what would be trained on:  napari-ssl-pretrain check --config {quoted}",
        f"Pretrain:                      napari-ssl-pretrain run --config {quoted}",
        "Every key but data.train and pretext.task may be left out; `auto` is chosen for the "
        "images and the machine, and the result folder holds what was chosen.",
    ]
    lines = [line for sentence in head for line in _comment(sentence, "")] + [""]
    lines += _group(PretrainConfig, values, "")
    return "\n".join(lines) + "\n"


def _group(model: type[BaseModel], values: dict[str, Any], prefix: str) -> list[str]:
    indent = "  " if prefix else ""
    task = values["pretext.task"]
    lines: list[str] = []
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        about = field.description or ""
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            title = (field.annotation.__doc__ or "").strip().splitlines()[0]
            lines += ["", *_comment(title, ""), f"{name}:"]
            lines += _group(field.annotation, values, f"{path}.")
        elif field.is_required():
            lines += _comment(f"{about} Required.", indent)
            lines += [f"{indent}{_pair(name, values[path])}"]
        elif not about.startswith(_other(task)):
            lines += _comment(about.removeprefix(f"{task}: "), indent)
            lines += [f"{indent}{_pair(name, values.get(path, _default(field)))}"]
    return lines


def _other(task: str) -> str:
    return {"crappify": "masking: ", "masking": "crappify: "}[task]


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


def _pair(name: str, value: Any) -> str:
    return dump_yaml({name: list(value) if isinstance(value, tuple) else value}).rstrip("\n")


def _comment(sentence: str, indent: str) -> list[str]:
    first = sentence.split(" ", 1)[0]
    if not set(first) & set(",:_"):  # a value such as `zscore,` keeps its small letter
        sentence = sentence[:1].upper() + sentence[1:]
    start = f"{indent}# "
    return textwrap.wrap(sentence, WIDTH, initial_indent=start, subsequent_indent=start)
