"""PNG and JPEG, decoded whole when first read; 16-bit colour stays 16-bit."""

from __future__ import annotations

import itertools
import logging
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import imagecodecs
import numpy as np

from napari_ssl_pretrain.data.cache import ByteCache
from napari_ssl_pretrain.data.header import (
    LARGEST_RATIO,
    Header,
    RefusedError,
    check_piece,
    check_shape,
    refuse_truncated,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_ssl_pretrain.data.images import Access, Index

# what it warns of either decodes or is an error that is told by name
logging.getLogger("imagecodecs").setLevel(logging.CRITICAL)

_DECODED = ByteCache(128 << 20)
_NUMBERS = itertools.count()

_PNG_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_PALETTE = 3
_BYTE = 8
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = {0x01, *range(0xD0, 0xD9)}
_JPEG_PIXELS = 0xDA
_TAIL = 1 << 16


@dataclass(frozen=True)
class _Size:
    """What a header says."""

    height: int
    width: int
    samples: int
    bits: int
    notes: tuple[str, ...] = ()


class RasterPixels:
    """The pixels of a file that can only be decoded whole.

    Parameters
    ----------
    path
        The file.
    decode
        From the file's bytes to its pixels.
    shape
        What the header says.
    """

    access: Access = "whole"

    def __init__(
        self, path: Path, decode: Callable[[bytes], np.ndarray], shape: tuple[int, ...]
    ) -> None:
        self.path = path
        self.shape = shape
        self._decode = decode
        self._number = next(_NUMBERS)

    def read(self, index: Index) -> np.ndarray:
        """Return the pixels at an integer or a slice for each stored axis.

        Raises
        ------
        ValueError
            The pixels are not what the header says.
        """
        whole = _DECODED.get(self._number, lambda: self._decode(self.path.read_bytes()))
        if whole.shape != self.shape:
            raise ValueError(f"decodes to {whole.shape} instead of {self.shape}")
        return np.asarray(whole[index])


def read_header(path: Path) -> Header:
    """Read the header of a PNG or JPEG file.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    RefusedError
        The file is truncated, or cannot hold the pixels that it says.
    """
    length = path.stat().st_size
    with path.open("rb") as file:
        png = file.read(1) == b"\x89"
        size = _png_size(file, length) if png else _jpeg_size(file, length)
    shape = (size.height, size.width, *((size.samples,) if size.samples > 1 else ()))
    check_shape(shape)
    pixels = size.height * size.width * size.samples * size.bits // 8
    if pixels > length * LARGEST_RATIO:
        raise RefusedError(
            f"says that it has {size.width} x {size.height} pixels, more than {length} bytes can",
            "Export it again.",
        )
    check_piece(pixels, "is an image")
    check_piece(max(0, length - pixels), "is a file")
    notes = size.notes
    if size.samples in (2, 4) and not notes:
        notes = (f"has {size.samples} samples a pixel, opacity among them; each is a channel",)
    decode = imagecodecs.png_decode if png else _jpeg_pixels
    dtype = np.dtype(np.uint16 if size.bits > _BYTE else np.uint8)
    return Header("YXS"[: len(shape)], shape, dtype, RasterPixels(path, decode, shape), notes=notes)


def _png_size(file: BinaryIO, length: int) -> _Size:
    """Walk the chunks to the end; only the first one's content is read.

    Raises
    ------
    RefusedError
        The file is truncated or has no header.
    """
    place, size, transparent = 8, None, False
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:  # noqa: PLR2004
            refuse_truncated(place + 12, length)
        content, name = struct.unpack(">I4s", head)
        place += 12 + content
        if place > length:
            refuse_truncated(place, length)
        if name == b"IHDR":
            size = struct.unpack(">IIBB", file.read(10))
        transparent = transparent or name == b"tRNS"
        if name == b"IEND":
            break
    if size is None:
        raise RefusedError("has no header", "Export it again.")
    width, height, bits, colour = size
    samples = _PNG_SAMPLES.get(colour, 0) + transparent
    notes: tuple[str, ...] = ()
    if colour == _PALETTE:
        notes = ("has a colour table, read as red, green and blue" + " with opacity" * transparent,)
    elif bits < _BYTE:
        notes = (f"has {bits} bit a pixel, read as 0 to 255",)
    return _Size(height, width, samples, max(_BYTE, bits), notes)


def _jpeg_size(file: BinaryIO, length: int) -> _Size:
    """Walk the segments to the pixels, and look for the end marker behind them.

    Raises
    ------
    RefusedError
        The file is truncated or has no frame.
    """
    size: _Size | None = None
    place = 2
    while True:
        file.seek(place)
        head = file.read(10)
        if len(head) < 4:  # noqa: PLR2004
            raise RefusedError(
                "is truncated: it ends within its header", "Copy or export it again."
            )
        if head[0] != 0xFF:  # noqa: PLR2004
            raise RefusedError("has no frame header", "Export it again.")
        if head[1] in _JPEG_FRAMES and len(head) == 10:  # noqa: PLR2004
            bits, height, width, samples = struct.unpack(">BHHB", head[4:10])
            notes = ("has 4 samples a pixel (CMYK); each is a channel",) if samples == 4 else ()  # noqa: PLR2004
            size = _Size(height, width, samples, bits, notes)
        if head[1] == _JPEG_PIXELS:
            break
        filler = head[1] == 0xFF  # noqa: PLR2004
        place += 1 if filler else 2
        if not filler and head[1] not in _JPEG_BARE:
            place += int(struct.unpack(">H", head[2:4])[0])
    if size is None:
        raise RefusedError("has no frame header", "Export it again.")
    if not _has_end(file, place, length):
        raise RefusedError("is truncated: its end marker is missing", "Copy or export it again.")
    return size


def _has_end(file: BinaryIO, place: int, length: int) -> bool:
    """Return whether a JPEG's end marker comes behind the place where its pixels begin.

    Thumbnails before that have markers of their own; anything may follow the end.
    """
    for start in (max(place, length - _TAIL), *range(place, length, _TAIL)):
        file.seek(start)
        if b"\xff\xd9" in file.read(_TAIL + 1):
            return True
    return False


def _jpeg_pixels(data: bytes) -> np.ndarray:
    """Decode a JPEG; CMYK is stored inverted, as every writer since Photoshop does."""
    array = np.asarray(imagecodecs.jpeg_decode(data))
    return 255 - array if array.ndim == 3 and array.shape[2] == 4 else array  # noqa: PLR2004
