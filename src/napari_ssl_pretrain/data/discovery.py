"""Which files a configuration names: folders, globs, files, in the order people count in."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ssl_pretrain.data.opening import KINDS, is_zarr
from napari_ssl_pretrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_CLUTTER = {"thumbs.db", "desktop.ini", "icon\r"}


def find_images(field: str, given: Sequence[str]) -> list[Path]:
    """Return the files and OME-Zarr folders that a field names.

    Parameters
    ----------
    field
        The configuration field, for the error text.
    given
        Folders (their files, not those of folders inside), globs and files.

    Raises
    ------
    ConfigError
        A path does not exist, or holds no file.
    """
    found: dict[str, Path] = {}
    for text in given:
        paths = _one(field, text)
        if not paths:
            raise ConfigError(
                field, "holds no image", value=text, remedy=f"Put images there: {KINDS}."
            )
        for path in paths:
            # realpath() bears links that lead in circles, resolve() does not
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def _one(field: str, text: str) -> list[Path]:
    path = Path(text).expanduser()
    try:
        if path.is_dir():
            return [path] if is_zarr(path) else _ordered(_visible(path.iterdir()))
        if path.exists():
            return [path]
        matches = _glob(path) if re.search(r"[*?\[]", text) else []
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            field, f"cannot be read ({reason})", value=text, remedy="Check the path."
        ) from None
    if not matches:
        raise ConfigError(
            field,
            "does not exist",
            value=text,
            remedy=f"Give a folder, an image or a glob; relative paths start at {Path.cwd()}.",
        )
    return _ordered(matches)


def _glob(path: Path) -> list[Path]:
    root = Path(path.anchor) if path.is_absolute() else Path()
    pattern = str(path.relative_to(path.anchor)) if path.is_absolute() else str(path)
    return _visible(root.glob(pattern))


def _visible(paths: Iterable[Path]) -> list[Path]:
    """Leave out hidden files, clutter of file managers, and folders that are no image."""
    return [
        p
        for p in paths
        if not p.name.startswith(".")
        and p.name.lower() not in _CLUTTER
        and (not p.is_dir() or is_zarr(p))
    ]


def _ordered(paths: Iterable[Path]) -> list[Path]:
    """Order by name, with numbers in it as numbers."""
    return sorted(paths, key=lambda p: (str(p.parent), _natural(p.name), p.name))


def _natural(name: str) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isdecimal() else (-1, part.lower())
        for part in re.split(r"(\d+)", name)
        if part
    ]
