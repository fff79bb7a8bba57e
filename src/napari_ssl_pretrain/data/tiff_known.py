"""Headers of TIFFs that differ in their pixels alone: read once, for sets have very many files."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ssl_pretrain.data.header import Header

LARGEST = 1 << 16
"""Bytes beside the pixels up to which files are compared."""

_MOST = 1024
_KNOWN: dict[bytes, Header] = {}


def fingerprint(path: Path, size: int, pixels: tuple[int, int] | None) -> bytes | None:
    """Return what stands for all bytes of a file but its pixels, and for its size.

    Parameters
    ----------
    path
        The file.
    size
        Its bytes.
    pixels
        Where the pixels begin and end; None where other things lie among them.

    Returns
    -------
    None where there is too much beside the pixels.
    """
    if pixels is None or size - (pixels[1] - pixels[0]) > LARGEST:
        return None
    first, last = pixels
    with path.open("rb", buffering=0) as file:
        head = file.read(first)
        file.seek(last)
        tail = file.read(LARGEST)
    return blake2b(b"%d %d %d " % (size, first, last) + head + tail, digest_size=32).digest()


def recall(key: bytes | None) -> Header | None:
    """Return the header of a file that was like it."""
    return None if key is None else _KNOWN.get(key)


def remember(key: bytes | None, header: Header) -> None:
    """Keep a header for files that are like it."""
    if key is not None:
        if len(_KNOWN) >= _MOST:
            _KNOWN.clear()
        _KNOWN[key] = header
