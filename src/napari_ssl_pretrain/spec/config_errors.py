"""One line for what pydantic found: the key, its value, the rule, the remedy."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from napari_ssl_pretrain.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_NAMED = 8
_RULES = {
    "missing": "is required",
    "extra_forbidden": "is no known key",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be greater than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "too_short": "needs at least {min_length} entries",
    "too_long": "may have at most {max_length} entries",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "literal_error": "must be {expected}",
    "tuple_type": "must be a list",
    "string_pattern_mismatch": "is none of the known words",
    "model_type": "must be a group of keys",
    "model_attributes_type": "must be a group of keys",
}


def first_error(error: ValidationError, model: type[BaseModel]) -> ConfigError:
    """Turn the first finding into one sentence and count the others."""
    by_field: dict[str, list[ErrorDetails]] = {}
    for one in error.errors():
        by_field.setdefault(dotted_path(one["loc"], model), []).append(one)
    # a typo explains a missing key, so unknown keys come first
    path = next(
        (p for p, these in by_field.items() if these[0]["type"] == "extra_forbidden"),
        next(iter(by_field)),
    )
    found = by_field[path]
    value = "" if found[0]["type"] in {"missing", "value_error"} and not path else found[0]["input"]
    if found[0]["type"] == "missing" or isinstance(value, dict):
        value = ""
    remedy = _remedy(path, found, model)
    if len(by_field) > 1:
        others = [p or "the file" for p in by_field if p != path]
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        remedy += f" (Also wrong: {', '.join(others[:_NAMED])}{more}.)"
    return ConfigError(path or "configuration", _rule(found), value=_shown(value), remedy=remedy)


def _shown(value: object) -> str:
    text = (
        "true"
        if value is True
        else "false"
        if value is False
        else "null"
        if value is None
        else str(value)
    )
    return text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004


def _rule(found: list[ErrorDetails]) -> str:
    first, *others = dict.fromkeys(_one_rule(f) for f in found)
    return ", or ".join([first, *(other.removeprefix("must be ") for other in others)])


def _one_rule(found: ErrorDetails) -> str:
    template = _RULES.get(found["type"])
    if template:
        return template.format(**found.get("ctx", {}))
    return (
        found["msg"].removeprefix("Value error, ")[:1].lower()
        + found["msg"].removeprefix("Value error, ")[1:]
    )


def dotted_path(loc: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """Return the part of pydantic's location that are configuration keys, dotted."""
    keys: list[str] = []
    here: type[BaseModel] | None = model
    for part in loc:
        if here is None:
            break
        keys.append(str(part))
        field = here.model_fields.get(str(part))
        here = _submodel(field.annotation) if field else None
    return ".".join(keys)


def _submodel(annotation: Any) -> type[BaseModel] | None:
    return (
        annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    )


def all_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return every key of a model, dotted."""
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if inner := _submodel(field.annotation):
            keys += all_keys(inner, f"{prefix}{name}.")
    return keys


def _remedy(path: str, found: list[ErrorDetails], model: type[BaseModel]) -> str:
    if found[0]["type"] == "extra_forbidden":
        return suggest(path, model)
    field = field_at(path, model)
    if field is None:
        return "Correct the value."
    if found[0]["type"] == "missing":
        return f"Add it: {field.description}" if field.description else f"Add the group {path}."
    if field.is_required() or isinstance(field.default, BaseModel):
        return field.description or f"Correct {path}."
    return f"{field.description} The default is {_shown(field.default)}."


def field_at(path: str, model: type[BaseModel]) -> Any:
    """Return the pydantic field at a dotted path, or None."""
    here: type[BaseModel] | None = model
    field = None
    for key in path.split("."):
        field = here.model_fields.get(key) if here else None
        here = _submodel(field.annotation) if field else None
    return field


def suggest(path: str, model: type[BaseModel]) -> str:
    """Name the nearest known key of a mistyped one."""
    keys = all_keys(model)
    last = path.rsplit(".", 1)[-1]
    by_last = {key.rsplit(".", 1)[-1]: key for key in reversed(keys)}
    near = get_close_matches(path, keys, 1, 0.75) or [
        by_last[name] for name in get_close_matches(last, by_last, 1, 0.6)
    ]
    if near:
        return f"Did you mean {near[0]}?"
    group = path.rpartition(".")[0]
    inside = [key for key in keys if key.rpartition(".")[0] == group]
    return f"Known keys here: {', '.join(key.rsplit('.', 1)[-1] for key in inside)}."
