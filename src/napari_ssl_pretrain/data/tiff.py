"""TIFF headers: plain, ImageJ, OME, tiled, BigTIFF, compressed."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from napari_ssl_pretrain.data.header import (
    LARGEST_RATIO,
    UNKNOWN,
    Header,
    RefusedError,
    check_dtype,
    check_piece,
    check_shape,
    refuse_truncated,
)
from napari_ssl_pretrain.data.tiff_bounds import CutError, claimed
from napari_ssl_pretrain.data.tiff_known import fingerprint, recall, remember
from napari_ssl_pretrain.data.tiff_pixels import TiffPixels
from napari_ssl_pretrain.data.tiff_scale import pixel_size
from napari_ssl_pretrain.data.tiff_set import is_set, open_tiff

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ssl_pretrain.data.images import Access

_MODEST = {"NONE", "LZW", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "JPEG"}
_MODERN_RATIO = 200_000
_MOST_PLANES = 10_000_000
_LISTED = {"uniform", "generic", "shaped", "ome", "imagej"}
"""Kinds of files that list all their pages in directories."""
_LARGE_SEGMENT = 1 << 26

# what it warns of is checked here and told once, by name
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def read_header(path: Path) -> Header:
    """Read the header of series 0, level 0 of a TIFF file.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    RefusedError
        The file is truncated, or holds what is no image here.
    """
    size = path.stat().st_size
    try:
        end, place = claimed(path)
    except CutError as cut:
        refuse_truncated(cut.args[0], size)
    if end > size:
        refuse_truncated(end, size)
    key = fingerprint(path, size, place)
    known = recall(key)
    if known is not None:
        return replace(known, pixels=TiffPixels(path, known.shape, known.pixels.access))
    header, alone = _read(path, size, end)
    if alone:
        remember(key, header)
    return header


def _read(path: Path, size: int, end: int) -> tuple[Header, bool]:
    """Return the header of a file, and whether it depends on this file's own bytes alone.

    Raises
    ------
    RefusedError
        It is damaged, or holds what is no image here.
    """
    with open_tiff(path) as tif, np.errstate(all="ignore"):  # spacings of nothing
        if not len(tif.pages):
            raise RefusedError("holds no image", "Remove it.")
        _check_imagej(tif, size)
        _check_ome(tif)
        if not tif.series:
            raise RefusedError("holds no image", "Remove it.")
        series: Any = tif.series[0]
        _check_ome_read(tif, series)
        check_dtype(np.dtype(series.dtype))
        stored, shape = _axes(tif, series)
        check_shape(shape)
        _check_complete(series, size)
        sizes, unit = pixel_size(tif)
        dtype = np.dtype(series.dtype).newbyteorder("=")
        notes = (*_notes(tif, series.keyframe, stored), *_unlisted(series, end, size))
        pixels = TiffPixels(path, shape, _access(series))
        alone = series.kind in _LISTED and not is_set(tif)
        return Header(stored, shape, dtype, pixels, sizes, unit, notes), alone


def _has_all_pages(series: Any) -> bool:
    """Return whether every plane of a series has its page, and each page all its pixels."""
    needed = math.prod(series.keyframe.chunked)
    try:
        return all(page is not None and len(page.dataoffsets) >= needed for page in series.pages)
    except IndexError:  # fewer pages than the description of the file says
        return False


def _axes(tif: tifffile.TiffFile, series: Any) -> tuple[str, tuple[int, ...]]:
    """Return the letters and lengths of the axes, less those of length one that nobody named.

    Raises
    ------
    RefusedError
        There are axes that are none of T, C, Z, Y, X and S.
    """
    letters = series.axes.replace("Q", UNKNOWN).replace("I", UNKNOWN)
    shape = tuple(int(n) for n in series.shape)
    if not tif.is_shaped or UNKNOWN in letters:
        pairs = zip(letters, shape, strict=True)
        kept = [(a, n) for a, n in pairs if n > 1 or a in "YX" + UNKNOWN]
        letters, shape = "".join(a for a, _ in kept), tuple(n for _, n in kept)
    strange = sorted(set(letters) - set("TCZYXS" + UNKNOWN))
    if strange:
        raise RefusedError(
            f"has the axes {letters}, of which {', '.join(strange)} cannot be used",
            "Export one file for each position or region.",
        )
    return letters, shape


def _notes(tif: tifffile.TiffFile, page: Any, stored: str) -> tuple[str, ...]:
    """Return what the user should know of how the file is read."""
    notes = []
    if len(tif.series) > 1:
        notes.append(f"holds {len(tif.series)} series, the first is used")
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        notes.append("has a colour table, which is left out: its indices are read")
    if page.bitspersample == 1:
        notes.append("has 1 bit a pixel, read as 0 and 1")
    if "S" in stored and page.extrasamples:
        count = page.samplesperpixel
        notes.append(f"has {count} samples a pixel, opacity among them; each is a channel")
    return tuple(notes)


def _unlisted(series: Any, end: int, size: int) -> list[str]:
    """Return a note where much of a file is behind all that its directories list.

    So it looks where a damaged directory no longer leads to the next page.
    """
    page = series.keyframe
    end = max(end, (series.dataoffset or 0) + series.nbytes * (series.dataoffset is not None))
    if series.kind not in _LISTED or page.subifds or size - end <= sum(page.databytecounts):
        return []
    return [f"has {size - end} bytes behind its last page, perhaps of pages that were lost"]


def _check_imagej(tif: tifffile.TiffFile, size: int) -> None:
    """Refuse a stack of ImageJ whose planes are neither listed nor in one piece.

    Raises
    ------
    RefusedError
        There are fewer planes than the description says, or more.
    """
    page = tif.pages.first
    planes = len(tif.pages)
    metadata = tif.imagej_metadata or {}
    kinds = ["frames", "slices", *(["channels"] if page.samplesperpixel == 1 else [])]
    # the count of images is said not to be reliable: it only counts where nothing else does
    told = math.prod(int(metadata.get(k, 1)) for k in kinds)
    told = int(metadata.get("images", 1)) if told == 1 else told
    if tif.is_imagej and 1 < told < planes:
        raise RefusedError(
            f"says that it has {told} planes and has {planes}", "Open it in Fiji and save it again."
        )
    if told <= planes:
        return
    if page.is_contiguous:
        needed = page.dataoffsets[0] + told * page.nbytes
        if needed > size:
            refuse_truncated(needed, size)
    else:
        raise RefusedError(
            f"is truncated: it says that it has {told} planes and has {planes}",
            "Copy or export it again.",
        )


def _ome_planes(text: str) -> list[int]:
    """Return how many planes each image of an OME description has."""
    return [
        math.prod(int(n) for n in re.findall(r"\bSize[ZCT]\s*=\s*[\"'](\d{1,18})", pixels))
        for pixels in re.findall(r"<(?:\w+:)?Pixels\b[^>]*>", text)
    ]


def _check_ome(tif: tifffile.TiffFile) -> None:
    """Refuse an OME-TIFF of so many planes that the list of them alone fills the memory.

    Raises
    ------
    RefusedError
        It is one.
    """
    for planes in _ome_planes((tif.is_ome and tif.ome_metadata) or ""):
        if planes > _MOST_PLANES:
            raise RefusedError(f"says that it has {planes} planes", "Export it again.")


def _check_ome_read(tif: tifffile.TiffFile, series: Any) -> None:
    """Refuse planes read without their OME description where it is damaged and they may be few.

    Raises
    ------
    RefusedError
        The description tells of more planes than there are, or nothing that can be read.
    """
    page = tif.pages.first
    text = page.description
    if series.kind == "ome" or not re.search(r"<(?:\w+:)?OME\b|</(?:\w+:)?OME>", text):
        return
    told = max(_ome_planes(text), default=0)
    if not 0 < told <= len(tif.pages) * page.samplesperpixel:
        raise RefusedError(
            "has an OME description that is damaged or tells of more planes than there are",
            "Copy or export it again, with all its files.",
        )


def _check_complete(series: Any, size: int) -> None:
    """Refuse a series of which parts are missing, or that cannot be as large as it says.

    Raises
    ------
    RefusedError
        Segments are missing, or the file is too small for its pixels.
    """
    page = series.keyframe
    if series.dataoffset is not None:
        if series.dataoffset + series.nbytes > size:
            refuse_truncated(series.dataoffset + series.nbytes, size)
    elif len(page.dataoffsets) < math.prod(page.chunked):
        raise RefusedError(
            f"is damaged: {math.prod(page.chunked)} strips or tiles are needed for "
            f"{page.imagewidth} x {page.imagelength} pixels, it has {len(page.dataoffsets)}",
            "Export it again.",
        )
    elif not _has_all_pages(series):
        raise RefusedError(
            "is truncated and lacks planes, or is the first of several files, of which some "
            "are missing",
            "Copy or export it again, with all its files.",
        )
    if not hasattr(page.compression, "name"):
        raise RefusedError(f"has an unknown compression ({page.compression})", "Export it again.")
    ratio = LARGEST_RATIO if page.compression.name in _MODEST else _MODERN_RATIO
    segment = 0 if series.dataoffset is not None else _segment_bytes(page)
    largest = max(series.nbytes, segment)
    if largest > size * ratio:
        raise RefusedError(
            f"says that it holds {largest} bytes of pixels, more than {size} bytes can",
            "Export it again.",
        )
    check_piece(segment, "has strips or tiles")


def _access(series: Any) -> Access:
    """Return how much has to be decoded for a box."""
    if series.dataoffset is not None:
        return "mapped"
    return "whole" if _segment_bytes(series.keyframe) > _LARGE_SEGMENT else "parts"


def _segment_bytes(page: Any) -> int:
    """Return the bytes of a decoded strip or tile."""
    high, wide = (
        (page.tilelength, page.tilewidth)
        if page.is_tiled
        else (min(page.rowsperstrip, page.imagelength), page.imagewidth)
    )
    return int(high * wide * max(1, page.samplesperpixel) * page.dtype.itemsize)
