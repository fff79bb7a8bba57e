"""YAML in and out: safe loading only, errors that name file and line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from napari_ssl_pretrain.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 4 * 1024 * 1024
_TOO_LARGE = 1 << 10_000
MOST_NODES = 200_000
"""Keys and values of the largest file, aliases counted as what they stand for."""


def load_yaml(path: Path) -> dict[str, Any]:
    """Read one mapping from a YAML file.

    Raises
    ------
    ConfigError
        The file is missing, unreadable, no YAML, or holds no mapping.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(
                path, "a configuration has less than 4 MB", remedy="Is this the right file?"
            )
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            path, "no such file", remedy="Give --config the path of a YAML file."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(
            path, f"cannot be read ({reason})", remedy="Give --config the path of a YAML file."
        ) from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """Parse YAML text that holds one mapping with text keys.

    Raises
    ------
    ConfigError
        The text is no YAML, or no mapping.
    """
    try:
        loaded = yaml.load(text, _StrictLoader)  # noqa: S506 - derives from SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(
            source,
            f"is no valid YAML ({_where(error)})",
            remedy="Check indentation, colons and brackets there.",
        ) from None
    except (RecursionError, ValueError) as error:
        raise ConfigError(source, f"is no valid YAML ({error})", remedy="Check the file.") from None
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise ConfigError(
            source,
            "must hold keys and values",
            remedy="`napari-ssl-pretrain new` writes a valid file.",
        )
    return loaded


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice and reads ``1e-4`` as a number.

    It stops at files that would grow without end: aliases of aliases of aliases.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._count = 0
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Read one key or value and what is below it.

        Raises
        ------
        ComposerError
            The file holds too much.
        """
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        alias, before = isinstance(event, yaml.AliasEvent), self._count
        self._count += self._sizes.get(event.anchor, 1) if alias else 1
        if self._count > MOST_NODES:
            raise yaml.composer.ComposerError(
                None, None, f"more than {MOST_NODES} keys and values", event.start_mark
            )
        node = super().compose_node(parent, index)
        if event.anchor and not alias:
            self._sizes[event.anchor] = self._count - before
        return node


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, str) and key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key} stands twice", key_node.start_mark
            )
        if isinstance(key, str):
            seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


def _float(loader: _StrictLoader, node: yaml.ScalarNode) -> float:
    return float(loader.construct_scalar(node))


def _int(loader: _StrictLoader, node: yaml.ScalarNode) -> int:
    value: int = loader.construct_yaml_int(node)
    if abs(value) >= _TOO_LARGE:  # thousands of digits could not even be shown
        raise yaml.constructor.ConstructorError(
            None, None, "a number far too large", node.start_mark
        )
    return value


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_StrictLoader.add_constructor("tag:yaml.org,2002:int", _int)
_NUMBER = re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$")
_StrictLoader.add_implicit_resolver(  # YAML 1.1 takes 1e-4 for text
    "tag:ssl,number", _NUMBER, list("-+0123456789")
)
_StrictLoader.add_constructor("tag:ssl,number", _float)


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "cannot be parsed"
    return f"line {mark.line + 1}: {problem}" if mark else str(problem)


class _Dumper(yaml.SafeDumper):
    """Block style for groups, flow style for short lists of numbers."""


def _short_lists(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    flow = all(isinstance(v, int | float) for v in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=flow)


_Dumper.add_representer(list, _short_lists)
_Dumper.add_implicit_resolver("tag:ssl,number", _NUMBER, list("-+0123456789"))  # quotes such text


RARE_BREAKS = "\x85\u2028\u2029"


def dump_yaml(fields: dict[str, Any]) -> str:
    """Return YAML text in the order of the fields."""

    def dumped(*, readable: bool) -> str:
        return str(
            yaml.dump(fields, Dumper=_Dumper, sort_keys=False, allow_unicode=readable, width=100)
        )

    text = dumped(readable=True)
    # PyYAML folds these rare line breaks away in keys unless they are escaped
    return dumped(readable=False) if any(c in text for c in RARE_BREAKS) else text
