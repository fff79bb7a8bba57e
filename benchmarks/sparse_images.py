"""Volumes of any size that take next to no room on disk: sparse TIFFs, and OME-Zarr with holes."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import zarr

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = ("tiff", "tiled", "zarr")
SIDE = 2048
TILE = 256
CHUNK = (64, 128, 128)
WRITTEN = 48
"""Blocks of pixels that are really there."""


def make_volume(
    folder: Path, kind: str, gigabytes: float, side: int = SIDE, dtype: str = "uint8"
) -> Path:
    """Write a volume of planes ``side`` x ``side``; only some blocks of it are stored."""
    folder.mkdir(parents=True, exist_ok=True)
    itemsize = np.dtype(dtype).itemsize
    depth = max(CHUNK[0], round(gigabytes * 1e9 / (itemsize * side**2)))
    shape = (depth, side, side)
    if kind == "zarr":
        return _zarr(folder / "volume.ome.zarr", shape, dtype)
    path = folder / "volume.tif"
    size = itemsize * (TILE**2 if kind == "tiled" else side**2)
    if kind == "tiled":
        offsets = _tiled(path, depth, side, np.dtype(dtype))
    else:
        # without pixels tifffile leaves a hole of the right size
        tifffile.imwrite(  # noqa: TID251
            path, shape=shape, dtype=dtype, bigtiff=True, metadata={"axes": "ZYX"}
        )
        with tifffile.TiffFile(path) as tif:
            start = tif.pages.first.dataoffsets[0]
        offsets = [start + z * size for z in range(depth)]
    with path.open("r+b") as file:
        for number, block in enumerate(_blocks()):
            file.seek(offsets[_place(number, len(offsets))])
            file.write(block.astype(dtype).tobytes()[:size])
    return path


def _tiled(path: Path, depth: int, side: int, dtype: np.dtype) -> list[int]:
    """Write a BigTIFF of tiles that are holes, which tifffile would fill; return where they lie."""
    count, size = (side // TILE) ** 2, TILE**2 * dtype.itemsize
    kind = {"u": 1, "i": 2, "f": 3}[dtype.kind]
    tables = (
        8 + 11 * 20 + 8
    )  # of one page: the number of its tags, these, and the next page's place
    page = tables + 16 * count
    first = 16 + depth * page
    places = []
    with path.open("wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16))
        for z in range(depth):
            here = 16 + z * page
            offsets = [first + (z * count + k) * size for k in range(count)]
            places += offsets
            told = [
                (256, side),
                (257, side),
                (258, 8 * dtype.itemsize),
                (259, 1),
                (262, 1),
                (277, 1),
            ]
            tags = [struct.pack("<HHQQ", tag, 4, 1, value) for tag, value in told]
            tags += [struct.pack("<HHQQ", tag, 4, 1, TILE) for tag in (322, 323)]
            tags.append(struct.pack("<HHQQ", 324, 16, count, here + tables))
            tags.append(struct.pack("<HHQQ", 325, 16, count, here + tables + 8 * count))
            tags.append(struct.pack("<HHQQ", 339, 3, 1, kind))
            file.write(struct.pack("<Q", len(tags)) + b"".join(tags))
            file.write(struct.pack("<Q", here + page if z + 1 < depth else 0))
            file.write(np.array([*offsets, *[size] * count], "<u8").tobytes())
        file.truncate(first + depth * side**2 * dtype.itemsize)
    return places


def _zarr(path: Path, shape: tuple[int, ...], dtype: str) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=2)
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    change = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    level = {"path": "0", "coordinateTransformations": change}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [level]}]
    array: Any = group.create_array("0", shape=shape, chunks=CHUNK, dtype=dtype, fill_value=0)
    for number, block in enumerate(_blocks()):
        rooms = [n - c for n, c in zip(shape, CHUNK, strict=True)]
        starts = [_place(number + 7 * k, room) for k, room in enumerate(rooms)]
        starts = [s // c * c for s, c in zip(starts, CHUNK, strict=True)]
        array[tuple(slice(s, s + c) for s, c in zip(starts, CHUNK, strict=True))] = block
    return path


def _blocks() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    waves = np.sin(np.indices(CHUNK) / 6).sum(axis=0)
    return [
        np.clip(128 + 25 * waves + random.normal(0, 9, CHUNK), 0, 255).astype(np.uint8)
        for _ in range(WRITTEN)
    ]


def _place(number: int, room: int) -> int:
    return int((number * 0.6180339887) % 1 * max(1, room))
