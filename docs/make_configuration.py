"""Write docs/configuration.md from the configuration model: ``python docs/make_configuration.py``."""

from __future__ import annotations

import typing
from pathlib import Path

from pydantic import BaseModel

from napari_ssl_pretrain.spec.backbones import BACKBONES
from napari_ssl_pretrain.spec.config import PretrainConfig

PAGE = Path(__file__).with_name("configuration.md")

INTRODUCTION = """\
# Configuration

<!-- Written by docs/make_configuration.py from the model itself: change descriptions there. -->

One YAML file describes a run; the same keys serve the command line (`--set training.epochs=20`),
Python (`PretrainConfig.from_yaml`, or keyword arguments) and the form in napari. Only `data.train`
and `pretext.task` are required. A key that is not in these tables is an error that suggests the
nearest one.

- `auto` is turned into a value before training starts, from the images and the machine.
  `config_files/<name>_<run_id>_resolved.yaml` holds every value that was used, and is itself a
  valid configuration.
- Relative paths start at the working directory. Where nothing is found there, images and
  checkpoints are looked for from the folder of the YAML file.
- Options of the command line overrule the file.
- `napari-ssl-pretrain new --template 2d-crappify -o my.yaml` writes a file with every key of a task
  and its description.

A whole configuration can be this short:

```yaml
name: my_cells
data:
  train: data/train/x
  test: data/test/x
pretext:
  task: crappify
training:
  max_minutes: 30
```
"""

BIAPY = """\
## BiaPy's files

`run` and `check` take a BiaPy YAML of its self-supervised workflow (`PROBLEM.TYPE:
SELF_SUPERVISED`) as it is. It is recognised by its upper-case keys and translated, and every key
is accounted for on the screen: translated to a key here, needing no setting here, or without a
counterpart. Other workflows are refused by name. Where BiaPy's default differs from ours and the
file does not say, that is said too. A file is named after itself unless `--name` is given.
"""


def page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION, "## The job\n", *_table(PretrainConfig, "")]
    for name, field in PretrainConfig.model_fields.items():
        if inner := _model(field.annotation):
            parts += [f"\n## `{name}`\n", f"{(inner.__doc__ or '').splitlines()[0]}\n"]
            parts += _table(inner, f"{name}.")
            if name == "backbone":
                parts += ["", *_backbones()]
    return "\n".join([*parts, "", BIAPY])


def _model(annotation: object) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _table(model: type[BaseModel], prefix: str) -> list[str]:
    rows = ["| key | default | values | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if _model(field.annotation):
            continue
        default = "required" if field.is_required() else f"`{_shown(field.default)}`"
        values = ", ".join(dict.fromkeys(_values(field.annotation, field.metadata)))
        rows.append(f"| `{prefix}{name}` | {default} | {values} | {field.description} |")
    return rows


def _shown(value: object) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _values(annotation: object, rules: list[object]) -> list[str]:
    """Say in words what a field takes."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _values(inside[0], list(inside[1:]))
    if origin is typing.Literal:
        return [f"`{value}`" for value in inside]
    if origin is tuple:
        return ["list of numbers" if "int" in str(inside[0]) else "path, or list of paths"]
    if inside:
        return [word for part in inside for word in _values(part, rules)]
    words = {str: "text", int: "whole number", float: "number", type(None): "`null`"}
    if annotation is bool:
        return ["`true`", "`false`"]
    bounds = _bounds(rules) if annotation in {int, float} else ""
    return [f"{words.get(annotation, str(annotation))}{bounds}"]


def _bounds(rules: list[object]) -> str:
    """Say the bounds of a number."""
    said = []
    for rule in (r for rule in rules for r in getattr(rule, "metadata", [rule])):
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
            bound = getattr(rule, name, None)
            if bound is not None and abs(bound) < 2**31:
                said.append(f"{sign} {bound:g}")
    return f" {' and '.join(said)}" if said else ""


def _backbones() -> list[str]:
    rows = ["| `backbone.name` | tasks | network |", "|---|---|---|"]
    return rows + [f"| `{b.name}` | {', '.join(b.tasks)} | {b.about} |" for b in BACKBONES.values()]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
