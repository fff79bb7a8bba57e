"""Which files a configuration names: folders, globs, files, in the order people count in."""

from __future__ import annotations

import functools
import itertools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ssl_pretrain.data.opening import FOLDER_ENDINGS, KINDS, is_zarr
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
            raise ConfigError(field, "holds no image", value=text, remedy=_where_else(text))
        for path in paths:
            # realpath() bears links that lead in circles, resolve() does not
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def _where_else(text: str) -> str:
    """Return what to do about a folder without images: where in it there are files."""
    folder = Path(text).expanduser()
    inside = (p for p in _visible(folder.glob("*/**/*")) if p.is_file())
    first = next(itertools.islice(inside, 1), None)
    if first is None:
        return f"Put images there: {KINDS}."
    pattern = folder / "**" / f"*{first.suffix}"
    return f"Folders inside are not searched: give {first.parent}, or all of them as {pattern}."


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
    if path.name == "**":  # which stands for folders alone
        pattern = f"{pattern}/*"
    inside = functools.cache(
        lambda folder: is_zarr(folder) or (folder.parent != folder and inside(folder.parent))
    )
    return [
        found
        for found in _visible(root.glob(pattern))
        if not any(part[0] == "." and part not in path.parts for part in found.parts)
        # a plate's images may be named by a pattern, its chunks are found by accident
        and not (inside(found.parent) and ("**" in path.parts or not found.is_dir()))
    ]


def _visible(paths: Iterable[Path]) -> list[Path]:
    """Leave out hidden files, clutter of file managers, and folders that pose as no image.

    A folder that is called as an image is kept, so that it is refused by name.
    """
    return [
        p
        for p in paths
        if not p.name.startswith(".")
        and p.name.lower() not in _CLUTTER
        and (p.suffix.lower() in FOLDER_ENDINGS or not p.is_dir() or is_zarr(p))
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
