"""One image as the rest of the program sees it: frames of ``C(Z)YX`` that are read on demand."""

from __future__ import annotations

import math
import os
import stat
import struct
import tokenize
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from json import JSONDecodeError
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from napari_ssl_pretrain.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Index = tuple[int | slice, ...]
Stamp = tuple[int, int, int]
ZARR_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")

READ_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    EOFError,
    AssertionError,
    MemoryError,
    SyntaxError,
    SystemError,  # numcodecs, of sizes that its header claims
    struct.error,
    tokenize.TokenError,
    zlib.error,
)
"""What decoders raise on damaged files; none of it is a fault of the program."""

_DAMAGED = (
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    RecursionError,
    SyntaxError,
    UnicodeError,
    JSONDecodeError,
    tokenize.TokenError,
    struct.error,
)
"""Errors that speak of code, not of a file."""


@dataclass(frozen=True)
class ImageInfo:
    """What an image file holds, as stored.

    Attributes
    ----------
    path
        The file, or the folder of an OME-Zarr image.
    name
        Name of the image, unique in its set; names the output files.
    axes
        Letters of the stored axes, such as ``ZCYX``, ``YXS`` or ``TYX``.
    shape
        Length of each stored axis.
    dtype
        Data type of the pixels.
    pixel_size
        Spacing of the spatial axes by letter; empty where unknown.
    unit
        Unit of ``pixel_size``, or None where unknown.
    note
        What was assumed on reading; empty where the file says it all.
    """

    path: Path
    name: str
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype
    pixel_size: dict[str, float]
    unit: str | None
    note: str = ""

    def length(self, letter: str) -> int:
        """Return the length of an axis, 1 where the image lacks it."""
        return self.shape[self.axes.index(letter)] if letter in self.axes else 1

    @property
    def channels(self) -> int:
        """Number of channels; the samples of an RGB image are channels."""
        return self.length("C") * self.length("S")

    @property
    def is_volume(self) -> bool:
        """Whether the image has more than one plane in depth."""
        return self.length("Z") > 1


Access = Literal["mapped", "parts", "whole"]


class Pixels(Protocol):
    """The stored pixels of one image; nothing is decoded before it is asked for.

    Attributes
    ----------
    access
        Whether a box is read as it lies in the file, or what it touches is decoded: some parts
        of a frame, or a frame whole.
    """

    access: Access

    def read(self, index: Index) -> np.ndarray:
        """Return the pixels at an integer or a slice for each stored axis."""


Reopen = Callable[[], tuple[ImageInfo, Pixels]]


class Image:
    """One image, opened lazily.

    Parameters
    ----------
    info
        What the file holds.
    pixels
        Access to the stored pixels.
    ndim
        3 to treat Z as depth, 2 to loop over its planes as frames.
    channels
        Channels to use, by index; None for all.
    reopen
        Reads the header anew when the file has changed; None where it is not looked at.

    Attributes
    ----------
    frames
        Number of times, and of planes where ``ndim`` is 2, each an image ``C(Z)YX`` of its own.
    spatial
        Shape ``(z,) y, x`` of a frame.
    """

    def __init__(
        self,
        info: ImageInfo,
        pixels: Pixels,
        ndim: int,
        channels: Sequence[int] | None = None,
        reopen: Reopen | None = None,
    ) -> None:
        self.info = info
        self._reopen = reopen
        self._stamp = None if reopen is None else stamp(info.path)
        self.ndim = ndim
        self.channels = tuple(range(info.channels)) if channels is None else tuple(channels)
        self._pixels = pixels
        looped = "TZ" if ndim == 2 else "T"  # noqa: PLR2004
        self.frame_axes = "".join(a for a in info.axes if a in looped)
        self.spatial_axes = "ZYX"[-ndim:]
        self.frames = math.prod(info.length(a) for a in self.frame_axes)
        self.spatial = tuple(info.length(a) for a in self.spatial_axes)

    def __repr__(self) -> str:
        return f"Image({self.info.name!r}, {self.info.axes}, {self.info.shape}, {self.info.dtype})"

    @property
    def in_channels(self) -> int:
        """Number of channels that are used."""
        return len(self.channels)

    @property
    def voxel_size(self) -> tuple[float, ...] | None:
        """Spacing of each spatial axis, or None where one is unknown."""
        sizes = [self.info.pixel_size.get(axis) for axis in self.spatial_axes]
        return None if None in sizes else tuple(size for size in sizes if size is not None)

    @property
    def frame_bytes(self) -> int:
        """Memory that one frame takes in the file's dtype."""
        return self.in_channels * math.prod(self.spatial) * self.info.dtype.itemsize

    @property
    def access(self) -> Access:
        """How much has to be decoded for a box of a frame."""
        return self._pixels.access

    def renamed(self, name: str) -> Image:
        """Return the same image under another name."""
        info = replace(self.info, name=name)
        return Image(info, self._pixels, self.ndim, self.channels, self._reopen)

    def frame_index(self, frame: int) -> dict[str, int]:
        """Return the place of a frame on each axis that is looped over.

        Raises
        ------
        IndexError
            There is no such frame.
        """
        if not 0 <= frame < self.frames:
            raise IndexError(f"frame {frame} of {self.frames}")
        lengths = [self.info.length(a) for a in self.frame_axes]
        places = np.unravel_index(frame, lengths) if lengths else ()
        return {axis: int(place) for axis, place in zip(self.frame_axes, places, strict=True)}

    def read(self, frame: int, region: tuple[slice, ...] | None = None) -> np.ndarray:
        """Read a frame, or a box of it, as ``C *spatial`` in the file's dtype.

        Parameters
        ----------
        frame
            Number of the frame.
        region
            A slice for each spatial axis, inside the image.

        Raises
        ------
        DataError
            The pixels cannot be decoded.
        """
        place = self.frame_index(frame)
        boxes = dict(zip(self.spatial_axes, region or (slice(None),) * self.ndim, strict=True))
        index: list[int | slice] = []
        for axis, length in zip(self.info.axes, self.info.shape, strict=True):
            box = boxes.get(axis, slice(None))
            index.append(place[axis] if axis in place else slice(*box.indices(length)[:2]))
        return self._select(self._decode(tuple(index)))

    def _decode(self, index: Index) -> np.ndarray:
        if self._reopen is not None and (now := stamp(self.info.path)) != self._stamp:
            self._look_again(now, self._reopen)
        try:
            block = self._pixels.read(index)
        except READ_ERRORS as error:
            raise DataError(
                self.info.path,
                f"cannot be decoded ({reason(error)})",
                remedy="Export the image again.",
            ) from error
        return block

    def _look_again(self, now: Stamp | None, reopen: Reopen) -> None:
        """Go on with a file that was written anew, if it is an image of the same size and type.

        Raises
        ------
        DataError
            It is gone, or another one.
        """
        if now is None:
            raise DataError(self.info.path, "is gone", remedy="Put it back, then resume.")
        info, pixels = reopen()
        was, found = f"{_size(self.info)}", f"{_size(info)}"
        if was != found:
            raise DataError(
                self.info.path,
                f"has changed while it was in use: it was {was} and is {found}",
                remedy="Put it back and resume, or begin anew.",
            )
        self._pixels, self._stamp = pixels, now

    def _select(self, block: np.ndarray) -> np.ndarray:
        """Bring stored pixels, less the looped axes, to ``C *spatial`` and take the channels."""
        left = [a for a in self.info.axes if a not in self.frame_axes]
        channel_axes = [a for a in left if a in "CS"]
        order = [left.index(a) for a in (*channel_axes, *self.spatial_axes) if a in left]
        block = block.transpose(order)
        block = block.reshape(-1, *block.shape[len(channel_axes) :])
        block = block.reshape(len(block), *(1,) * (1 + self.ndim - block.ndim), *block.shape[1:])
        if self.channels != tuple(range(len(block))):
            block = block[list(self.channels)]
        dtype = np.dtype(np.uint8) if block.dtype == bool else block.dtype.newbyteorder("=")
        return np.ascontiguousarray(block, dtype)


def stamp(path: Path) -> Stamp | None:
    """Return what changes when a file is written anew, of a Zarr its metadata; None if it is gone.

    Parameters
    ----------
    path
        An image file, or the folder of an OME-Zarr image.
    """
    for place in (path, *(path / name for name in ZARR_FILES)):
        try:
            found = os.stat(place)  # noqa: PTH116 - Path.stat() is slower, and this is each patch
        except (OSError, ValueError):
            continue
        if not stat.S_ISDIR(found.st_mode):
            return found.st_ino, found.st_size, found.st_mtime_ns
    return None


def _size(info: ImageInfo) -> str:
    return f"{' x '.join(map(str, info.shape))} {info.dtype}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160].rstrip(".")


def reason(error: BaseException) -> str:
    """Return in words why a decoder failed; what only speaks of its own code is put plainly."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError):
        return f"{str(error.args[0])[:80]!r} is missing" if error.args else "something is missing"
    if isinstance(error, _DAMAGED) or " object at 0x" in str(error):
        return "its header is damaged"
    return first_line(error)
