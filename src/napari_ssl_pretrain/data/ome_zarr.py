"""OME-Zarr (level 0) and plain Zarr arrays, of formats 2 and 3, read chunk by chunk."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.storage import LocalStore

from napari_ssl_pretrain.data.header import (
    UNKNOWN,
    Header,
    RefusedError,
    check_dtype,
    check_piece,
    check_shape,
)
from napari_ssl_pretrain.data.units import one_unit, unit_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_ssl_pretrain.data.images import Access, Index

_METADATA = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}
_LARGEST_TEXT = 1 << 26
"""Bytes of the largest metadata file."""
_RATIO = 200_000
"""No more bytes of an image than this stand for one byte stored."""
_SPARSE = 1 << 38
"""Bytes up to which an image may leave out any number of chunks, for they cost nothing to read."""
_COUNTED = 1_000_000
"""Files up to which the chunks that are stored are counted."""
_BLOSC_HEAD = 16
"""Bytes of the header of a Blosc chunk; the last four count all of its bytes."""
_MANY, _TINY = 1_000_000, 64
_BY_TYPE = {"time": "T", "channel": "C"}


class _Files(LocalStore):
    """Files below a folder; pipes, devices and files far too large are not even opened.

    Attributes
    ----------
    largest
        Bytes that a file may have.
    blosc
        Whether chunks are packed by Blosc, which reads on behind the end of a torn one.
    """

    largest = _LARGEST_TEXT
    blosc = False

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        """Return what a file holds; None where there is none.

        Raises
        ------
        ValueError
            It is no regular file, too large, or a torn chunk.
        """
        try:
            found = os.stat(self.root / key)  # noqa: PTH116 - Path.stat() is slower, and this is each chunk
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            raise ValueError(f"{key} is no regular file")
        if stat.S_ISREG(found.st_mode) and found.st_size > self.largest:
            raise ValueError(f"{key} is larger than its pixels can be")
        data = await super().get(key, *args, **options)
        if self.blosc and data is not None and Path(key).name not in _METADATA:
            head = data[:_BLOSC_HEAD].to_bytes()
            if len(head) < _BLOSC_HEAD or int.from_bytes(head[12:], "little") > len(data):
                raise ValueError(f"the chunk {key} is cut short")
        return data


class ZarrPixels:
    """The pixels of a Zarr array.

    Parameters
    ----------
    array
        The array.
    """

    access: Access = "parts"

    def __init__(self, array: Any) -> None:
        self._array = array

    def read(self, index: Index) -> np.ndarray:
        """Return the pixels at an integer or a slice for each stored axis."""
        return np.asarray(self._array[index])


def read_header(path: Path) -> Header:
    """Read the metadata of an OME-Zarr image or a plain Zarr array.

    Parameters
    ----------
    path
        Its folder.

    Raises
    ------
    RefusedError
        It is a plate, holds no image, or no pixels are stored.
    """
    store = _Files(path, read_only=True)
    node: Any = zarr.open(store, mode="r")
    notes: list[str] = []
    described: dict[str, Any] = {}
    array = node
    if not isinstance(node, zarr.Array):
        array, described = _level_0(node, path, notes)
    letters = described.get("axes") or _dimension_names(array)
    check_dtype(np.dtype(array.dtype))
    check_shape(array.shape)
    if len(letters) != array.ndim:
        raise RefusedError(
            f"names the axes {letters} for an array of {array.ndim} axes", "Correct its metadata."
        )
    store.largest = max(_LARGEST_TEXT, 2 * _check_size(array))
    # a chunk in a shard has no file of its own
    store.blosc = array.shards is None and any(
        "Blosc" in type(c).__name__ for c in array.compressors
    )
    _check_stored(path / array.path, array.nbytes)
    notes += _missing(array, path / array.path)
    sizes, unit = one_unit(described.get("sizes", {}), described.get("units", {}))
    dtype = np.dtype(array.dtype).newbyteorder("=")
    shape = tuple(int(n) for n in array.shape)
    return Header(letters, shape, dtype, ZarrPixels(array), sizes, unit, tuple(notes))


def _check_size(array: Any) -> int:
    """Return the bytes of the largest file that an array may have.

    Raises
    ------
    RefusedError
        Its chunks are too large to be decoded, or so small that reading would never end.
    """
    size = math.prod(array.chunks)
    check_piece(size * array.dtype.itemsize, "has chunks")
    number = math.prod(-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True))
    if number > _MANY and size < _TINY:
        raise RefusedError(
            f"has {number} chunks of {' x '.join(map(str, array.chunks))} pixels",
            "Export it in larger chunks.",
        )
    return int(math.prod(array.shards or array.chunks) * array.dtype.itemsize)


def _check_stored(folder: Path, claimed: int) -> None:
    """Refuse an array of which nothing is stored, or next to nothing of very much that it claims.

    Chunks that are missing are read as the fill value, a box at a time, so a volume with few
    chunks is as good as any other. What is claimed beyond :data:`_SPARSE` has to be backed by
    data, since all work on an image, and all results, grow with what it claims.

    Raises
    ------
    RefusedError
        It is one.
    """
    held = 0
    for root, _, files in os.walk(folder):
        for name in set(files) - _METADATA:
            held += max(1, (Path(root) / name).stat().st_size)
            if claimed <= max(_SPARSE, held * _RATIO):  # a whole image says so by its first chunk
                return
    if not held:
        raise RefusedError("has metadata but no pixels stored", "Copy or export it again.")
    raise RefusedError(
        f"says that it holds {claimed} bytes of pixels, more than {held} bytes stored can",
        "Copy or export it again.",
    )


def _missing(array: Any, folder: Path) -> list[str]:
    """Return a note where chunks are not stored; they are read as the fill value.

    Zarr leaves out chunks that hold nothing else, and so does a copy that broke off.
    """
    stored = array.shards or array.chunks
    number = math.prod(-(-n // c) for n, c in zip(array.shape, stored, strict=True))
    held = 0
    for _, _, files in os.walk(folder):
        held += len(set(files) - _METADATA)
        if held >= min(number, _COUNTED):
            return []
    return [f"lacks {number - held} of {number} chunks, which are read as {array.fill_value}"]


def _level_0(group: Any, path: Path, notes: list[str]) -> tuple[Any, dict[str, Any]]:
    """Return the array of the finest level of a group's first image, its axes and spacings.

    Raises
    ------
    RefusedError
        The group is a plate or a well, or has no image.
    """
    told = _ome(group)
    if "plate" in told:
        raise RefusedError(
            "is a plate of many images", f"Name one of them, such as {path / 'A' / '1' / '0'}."
        )
    if "well" in told:
        raise RefusedError(
            "is a well of a plate, with many images", f"Name one of them, such as {path / '0'}."
        )
    if "multiscales" not in told and "0" in group and isinstance(group["0"], zarr.Group):
        if "1" in group:
            notes.append("holds several images, the first is used")
        group = group["0"]
        told = _ome(group)
    if "multiscales" not in told:
        arrays = sorted(name for name, _ in group.arrays())
        if len(arrays) != 1:
            raise RefusedError(
                f"is a Zarr group of {len(arrays)} arrays without OME-Zarr metadata",
                "Name one array in it.",
            )
        notes.append(f"has no OME-Zarr metadata, its array {arrays[0]} is used")
        return group[arrays[0]], {}
    first, level = _first_image(told)
    array = group.get(str(level["path"]))
    if not isinstance(array, zarr.Array):
        raise RefusedError(
            f"says that its pixels are in {str(level['path'])[:80]!r}, where there are none",
            "Copy or export it again.",
        )
    return array, _described(first, level)


def _first_image(told: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the description of a group's first image, and of its finest level.

    Raises
    ------
    RefusedError
        The metadata are not as OME-Zarr has them.
    """
    try:
        first = told["multiscales"][0]
        level = first["datasets"][0]
        if "path" in level and isinstance(first.get("axes", []), list):
            return first, level
    except (TypeError, LookupError, AttributeError):
        pass
    raise RefusedError(
        "has damaged OME-Zarr metadata: it names no image and no level", "Export it again."
    )


def _ome(group: Any) -> Mapping[str, Any]:
    """Return the OME part of a group's attributes; format 0.5 keeps it in its own entry."""
    attributes = dict(group.attrs)
    ome = attributes.get("ome")
    return ome if isinstance(ome, dict) else attributes


def _described(image: Mapping[str, Any], level: Mapping[str, Any]) -> dict[str, Any]:
    """Return letters, spacings and units of the axes of one level."""
    axes = image.get("axes", ["t", "c", "z", "y", "x"])  # formats 0.1 and 0.2 had no choice
    entries = [{"name": axis} if isinstance(axis, str) else axis for axis in axes]
    letters = "".join(
        _BY_TYPE.get(str(entry.get("type")), str(entry.get("name", "")).upper())
        for entry in entries
    )
    scale = np.ones(len(entries))
    for part in (image, level):
        for change in part.get("coordinateTransformations", ()):
            if change.get("type") == "scale" and len(change.get("scale", ())) == len(entries):
                scale *= np.asarray(change["scale"], np.float64)
    spatial = [(a, s, e) for a, s, e in zip(letters, scale, entries, strict=False) if a in "ZYX"]
    return {
        "axes": letters,
        "sizes": {a: float(s) for a, s, _ in spatial},
        "units": {a: unit_name(e.get("unit", "")) for a, _, e in spatial},
    }


def _dimension_names(array: Any) -> str:
    """Return the letters by which an array calls its dimensions, else unknown ones."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    letters = [str(name)[:1].upper() if len(str(name)) == 1 else "" for name in names or ()]
    return "".join(letters) if letters and all(letters) else UNKNOWN * array.ndim
