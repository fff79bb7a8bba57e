"""NPY, mapped into memory; objects are never unpickled."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from napari_ssl_pretrain.data.header import (
    UNKNOWN,
    Header,
    RefusedError,
    check_dtype,
    check_shape,
    refuse_truncated,
)

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ssl_pretrain.data.images import Access, Index


_LONGEST_HEADER = 1 << 16


class NpyPixels:
    """The pixels of an NPY file.

    Parameters
    ----------
    path
        The file.
    """

    access: Access = "mapped"

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, index: Index) -> np.ndarray:
        """Return the pixels at an integer or a slice for each stored axis."""
        # copied: a view dies with the process when somebody cuts the file short
        return np.array(np.load(self.path, mmap_mode="r", allow_pickle=False)[index])


def read_header(path: Path) -> Header:
    """Read the header of an NPY file.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    RefusedError
        The file is truncated, or holds what is no image here.
    """
    held = path.stat().st_size
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version > (3, 0):
            raise RefusedError(f"is an NPY file of version {version}, which is unknown here")
        place, width = file.tell(), 2 if version == (1, 0) else 4
        if int.from_bytes(file.read(width), "little") > _LONGEST_HEADER:
            raise RefusedError("has a header far too long", "Export it again.")
        file.seek(place)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
        start = file.tell()
    check_dtype(dtype)
    shape = tuple(int(n) for n in shape)
    check_shape(shape)
    needed = start + math.prod(shape) * dtype.itemsize
    if needed > held:
        refuse_truncated(needed, held)
    return Header(UNKNOWN * len(shape), shape, dtype.newbyteorder("="), NpyPixels(path))
