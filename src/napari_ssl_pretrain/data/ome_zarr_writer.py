"""OME-Zarr (0.4) written box by box: for results that no memory holds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import zarr
from zarr.storage import LocalStore

from napari_ssl_pretrain.data.parts import part_of
from napari_ssl_pretrain.data.units import ANGSTROM, MICROMETRE
from napari_ssl_pretrain.data.writers import cannot_write, to_dtype

if TYPE_CHECKING:
    from types import TracebackType

    from napari_ssl_pretrain.data.boxes import Box
    from napari_ssl_pretrain.data.images import Image

SUFFIX = ".ome.zarr"

CHUNKS = {2: (1024, 1024), 3: (64, 128, 128)}
"""Voxels of a chunk on each spatial axis."""

_TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}
_UNITS = {
    "m": "meter",
    "cm": "centimeter",
    "mm": "millimeter",
    MICROMETRE: "micrometer",
    "nm": "nanometer",
    ANGSTROM: "angstrom",
    "pm": "picometer",
    "inch": "inch",
}


def by_tile(path: Path) -> Path:
    """Return the name of a result that is written by tile, from that of the TIFF it stands for."""
    return path.with_name(path.name.removesuffix(".tif") + SUFFIX)


class TiledWriter:
    """One image written box by box; its folder is there whole or not at all.

    A context: left without an error the folder takes its name, else it is removed.

    Parameters
    ----------
    path
        Where to; what is there is replaced at the end.
    image
        The source, whose frames, pixel size and unit the written image has. Its axes are
        those of the source in the order T, C, Z, Y, X; the samples of colours are channels.
    dtype
        Data type to write; integers are rounded and clipped.

    Raises
    ------
    ConfigError
        The folder cannot be written.
    """

    def __init__(self, path: Path, image: Image, dtype: np.dtype) -> None:
        self.path, self.image, self.dtype = Path(path), image, np.dtype(dtype)
        self._part = part_of(self.path)
        lengths = {a: image.info.length(a) for a in image.frame_axes}
        if {"C", "S"} & set(image.info.axes):
            lengths["C"] = image.in_channels
        lengths |= {
            a: n
            for a, n in zip(image.spatial_axes, image.spatial, strict=True)
            if a in image.info.axes
        }
        self.axes = "".join(a for a in "TCZYX" if a in lengths)
        self.shape = tuple(lengths[a] for a in self.axes)
        self._array: Any = None

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._create()
        except OSError as error:
            self._remove()
            cannot_write(self.path, error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._take_place()
        except OSError as failed:
            cannot_write(self.path, failed)
        finally:
            self._remove()

    def write(self, frame: int, box: Box, block: np.ndarray) -> None:
        """Write ``C *box`` of a frame; boxes that keep to chunks are written sooner.

        Raises
        ------
        ConfigError
            It cannot be written.
        """
        place: dict[str, int | slice] = {**self.image.frame_index(frame)}
        place |= dict(zip(self.image.spatial_axes, box, strict=True))
        values = to_dtype(block, self.dtype)
        kept = [a for a in self.axes if a not in self.image.frame_axes]
        if "C" not in kept:
            values = values[0]
        try:
            self._array[tuple(place.get(a, slice(None)) for a in self.axes)] = values
        except OSError as error:
            cannot_write(self.path, error)

    def _create(self) -> None:
        self._remove()
        sides = dict(zip(self.image.spatial_axes, CHUNKS[self.image.ndim], strict=True))
        chunks = tuple(
            min(n, sides.get(a, 1)) if a not in self.image.frame_axes else 1
            for a, n in zip(self.axes, self.shape, strict=True)
        )
        store = LocalStore(self._part)
        group = zarr.open_group(store, mode="w", zarr_format=2)
        group.attrs["multiscales"] = [self._described()]
        self._array = group.create_array(
            "0",
            shape=self.shape,
            chunks=chunks,
            dtype=self.dtype,
            fill_value=0,
            chunk_key_encoding={"name": "v2", "separator": "/"},
            # a chunk that is missing was not written: it does not stand for zeros
            config={"write_empty_chunks": True},
        )

    def _described(self) -> dict[str, Any]:
        info = self.image.info
        unit = _UNITS.get(info.unit or "")
        axes = [
            {"name": a.lower(), "type": _TYPES[a]}
            | ({"unit": unit} if unit and _TYPES[a] == "space" else {})
            for a in self.axes
        ]
        scale = [info.pixel_size.get(a, 1.0) for a in self.axes]
        level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        return {"version": "0.4", "name": info.name, "axes": axes, "datasets": [level]}

    def _take_place(self) -> None:
        """Put the finished folder where it belongs; an old one is gone only then."""
        old = part_of(self.path, "old")
        if self.path.is_dir() and not self.path.is_symlink():
            self.path.replace(old)
        else:
            self.path.unlink(missing_ok=True)
        self._part.replace(self.path)
        shutil.rmtree(old, ignore_errors=True)

    def _remove(self) -> None:
        shutil.rmtree(self._part, ignore_errors=True)
