"""In what configurations differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain.spec.run_record import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OWN = frozenset({"name", "run_id", "result_dir"})
"""Keys that tell runs apart and nothing else."""

MOMENTARY = frozenset({"compute.memory_gb"})
"""Keys whose ``auto`` follows what else the machine did just then."""

MISSING = "–"  # noqa: RUF001 - a dash as a sign
LONGEST_VALUE = 200
DEEPEST = 8


def flat(fields: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Return nested fields by their dotted paths."""
    found: dict[str, Any] = {}
    for key, value in fields.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value and depth < DEEPEST:
            found.update(flat(value, f"{path}.", depth + 1))
        else:
            found[path] = value
    return found


def differences(
    given: Sequence[Mapping[str, Any]], used: Sequence[Mapping[str, Any]] | None = None
) -> list[tuple[str, list[str]]]:
    """Return the dotted paths whose values differ, with a text for each configuration.

    Parameters
    ----------
    given
        The configurations.
    used
        What ``auto`` became in each; empty where that is not known.
    """
    configs = [flat(config) for config in given]
    known = [flat(config) for config in (used or [{}] * len(given))]
    paths = dict.fromkeys(path for config in configs for path in config)
    rows = []
    for path in paths:
        texts = [_text(path, c, u) for c, u in zip(configs, known, strict=True)]
        if path not in OWN and len(set(texts)) > 1:
            rows.append((path, texts))
    return rows


def _text(path: str, config: Mapping[str, Any], used: Mapping[str, Any]) -> str:
    if path not in config:
        return MISSING
    value = config[path]
    if value == "auto" and path not in MOMENTARY and used.get(path, "auto") != "auto":
        return f"auto ({_plain(used[path])})"
    return _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return shortened(", ".join(_plain(v) for v in value), LONGEST_VALUE)
    names = {None: "none", True: "yes", False: "no"}
    if value is None or isinstance(value, bool):
        return names[value]
    return shortened(f"{value:g}" if isinstance(value, float) else str(value), LONGEST_VALUE)
