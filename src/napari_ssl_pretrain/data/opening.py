"""From a path to an image: what kind of file it is by its first bytes, and who reads it."""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np

from napari_ssl_pretrain.data.axes import settle
from napari_ssl_pretrain.data.header import Header, RefusedError
from napari_ssl_pretrain.data.images import (
    READ_ERRORS,
    ZARR_FILES,
    Image,
    ImageInfo,
    Pixels,
    reason,
)
from napari_ssl_pretrain.data.strangers import HEAD, refuse
from napari_ssl_pretrain.errors import ConfigError, DataError

Reader = Callable[[Path], Header]

KINDS = "TIFF, PNG, JPEG, OME-Zarr and NPY"
_MAGIC = {
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
    b"II+\x00": "tiff",
    b"MM\x00+": "tiff",
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"\x93NUMPY": "npy",
}
_READERS = {"tiff": "tiff", "png": "raster", "jpeg": "raster", "npy": "npy", "zarr": "ome_zarr"}
_SUFFIXES = {
    ".tif": "tiff",
    ".tiff": "tiff",
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".npy": "npy",
}
FOLDER_ENDINGS = {*_SUFFIXES, ".zarr", ".n5"}
"""A folder with such a name looks like an image."""
_LONGEST = 160
"""Bytes of the longest name; that of a result has more, and file systems allow 255."""


@dataclass(frozen=True)
class Found:
    """An image whose header was read.

    Attributes
    ----------
    info
        What it holds, its axes settled.
    header
        Its header.
    """

    info: ImageInfo
    header: Header

    def image(self, ndim: int, channels: Sequence[int] | None) -> Image:
        """Return the image, to be read in 2 or 3 dimensions."""
        return Image(self.info, self.header.pixels, ndim, channels, self._again)

    def _again(self) -> tuple[ImageInfo, Pixels]:
        """Read the header anew.

        Raises
        ------
        DataError
            The file is no image any more, or has other axes.
        """
        try:
            found = read_header(self.info.path, self.info.axes)
        except ConfigError as error:
            raise DataError(
                self.info.path,
                f"has changed while it was in use ({error.rule})",
                remedy="Put it back and resume, or begin anew.",
            ) from None
        return found.info, found.header.pixels


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr group or array."""
    return path.is_dir() and any((path / name).is_file() for name in ZARR_FILES)


def image_name(path: Path) -> str:
    """Return a file's name without what tells of its format, short enough to be lengthened."""
    return (
        _without_ending(path)
        .encode("utf-8", "surrogateescape")[:_LONGEST]
        .decode("utf-8", "replace")
    )


def _without_ending(path: Path) -> str:
    name = path.name
    for ending in (".ome.tif", ".ome.tiff", ".ome.zarr"):
        if name.lower().endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)]
    return path.stem


def kind_of(path: Path, mode: int) -> tuple[str, str]:
    """Return which reader a file needs, by its first bytes, and a note where its name says another.

    Parameters
    ----------
    path
        The file or folder.
    mode
        What the file system says that it is.

    Raises
    ------
    RefusedError
        It is no image that can be read here.
    """
    if stat.S_ISDIR(mode):
        if is_zarr(path):
            return "zarr", ""
        if path.suffix.lower() in (".zarr", ".n5"):
            raise RefusedError(
                "is a folder without the metadata of Zarr (zarr.json or .zarray)",
                "Copy or export it again.",
            )
        raise RefusedError("is a folder, not an image", "Name an image, or an OME-Zarr folder.")
    if not stat.S_ISREG(mode):  # a pipe or a device could be read without end
        raise RefusedError("is no regular file", "Copy the image itself there.")
    with path.open("rb", buffering=0) as file:
        head = file.read(HEAD)
    if not head:
        raise RefusedError("is empty (0 bytes)", "Copy or export it again.")
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")
    named = _SUFFIXES.get(path.suffix.lower(), "")
    if not kind:
        refuse(path, head, KINDS, named)
    note = f"is a {kind.upper()} file in spite of its name" if named and named != kind else ""
    return kind, note


def read_header(path: Path, axes: str = "auto") -> Found:
    """Read an image's header and settle its axes.

    Parameters
    ----------
    path
        An image file or an OME-Zarr folder.
    axes
        Axes as stored, or ``auto``.

    Raises
    ------
    DataError
        The file is missing, no image, or damaged.
    ConfigError
        It does not have the axes given.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except PermissionError:
        _refuse_access(path)
    except (OSError, ValueError):  # links in a circle, a name that none can have
        raise DataError(path, "does not exist", remedy="Check the path.") from None
    try:
        kind, note = kind_of(path, mode)
        reader: Reader = import_module(f"napari_ssl_pretrain.data.{_READERS[kind]}").read_header
        header = reader(path)
        letters, assumed = settle(header.stored, header.shape, axes)
    except PermissionError:
        _refuse_access(path)
    except ConfigError as error:
        raise ConfigError(
            error.subject, f"{path.name}: {error.rule}", value=error.value, remedy=error.remedy
        ) from None
    except RefusedError as refused:
        raise DataError(path, str(refused), remedy=refused.remedy) from None
    except READ_ERRORS as error:
        raise DataError(
            path, f"cannot be read ({reason(error)})", remedy="Export it again, or remove it."
        ) from None
    notes = "; ".join(part for part in (note, *header.notes, assumed) if part)
    sizes = {a: s for a, s in header.pixel_size.items() if a in letters}
    dtype = np.dtype(np.uint8) if header.dtype == bool else header.dtype
    unit = header.unit if sizes else None
    info = ImageInfo(path, image_name(path), letters, header.shape, dtype, sizes, unit, notes)
    return Found(info, header)


def _refuse_access(path: Path) -> NoReturn:
    raise DataError(path, "may not be read", remedy="Check its permissions.") from None


def open_image(
    path: str | Path,
    axes: str = "auto",
    ndim: Literal["auto", 2, 3] = "auto",
    channels: Literal["all"] | Sequence[int] = "all",
) -> Image:
    """Open one image lazily.

    Parameters
    ----------
    path
        An image file or an OME-Zarr folder.
    axes
        Axes as stored, or ``auto`` to read metadata.
    ndim
        2 to loop over planes, 3 for volumes, ``auto`` to follow the axes.
    channels
        Channels to use, by index, or ``all``.

    Raises
    ------
    DataError
        The file is missing, no image, or damaged.
    ConfigError
        It does not have the axes given, ``ndim`` is 3 and it is flat, or it has no such channel.
    """
    found = read_header(Path(path), axes)
    info = found.info
    dims = (3 if info.is_volume else 2) if ndim == "auto" else ndim
    if dims == 3 and not info.is_volume:  # noqa: PLR2004
        refuse_flat(info)
    chosen = None if channels == "all" else tuple(channels)
    if chosen is not None and max(chosen) >= info.channels:
        refuse_channels(chosen, info)
    return found.image(dims, chosen)


def refuse_flat(info: ImageInfo) -> NoReturn:
    """Refuse a flat image where volumes are wanted.

    Raises
    ------
    ConfigError
        Always.
    """
    raise ConfigError(
        "data.ndim",
        f"needs images with depth, but {info.path.name} is flat ({info.axes}, "
        f"{' x '.join(map(str, info.shape))})",
        value=3,
        remedy="Set data.ndim to 2, or data.axes if its axes were misread.",
    )


def refuse_channels(channels: Sequence[int], info: ImageInfo) -> NoReturn:
    """Refuse channels of which an image lacks one.

    Raises
    ------
    ConfigError
        Always.
    """
    have = "only channel 0" if info.channels == 1 else f"channels 0 to {info.channels - 1}"
    raise ConfigError(
        "data.channels",
        f"must be channels that the images have; {info.path.name} has {have}",
        value=list(channels),
        remedy="Correct the list; channels count from 0.",
    )
