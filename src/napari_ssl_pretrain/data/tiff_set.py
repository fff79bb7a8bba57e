"""OME-TIFFs whose planes are spread over several files: read whole from the first of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from napari_ssl_pretrain.data.header import RefusedError

if TYPE_CHECKING:
    from pathlib import Path


@np.errstate(all="ignore")  # tifffile divides the spacings of MetaMorph by nothing
def open_tiff(path: Path) -> tifffile.TiffFile:
    """Open a TIFF file, with its siblings where it is the first of a set.

    Raises
    ------
    RefusedError
        It is another part of a set, or its parts would be in other folders.
    """
    tif = tifffile.TiffFile(path, _multifile=False)
    parts = _parts(tif)
    if len(set(parts)) <= 1:
        return tif
    tif.close()
    if any(re.search(r"[/\\\0]", part) for part in parts):
        raise RefusedError("names parts in other folders", "Put them beside it.")
    if parts[0] != path.name:
        raise RefusedError(f"is a part of {parts[0]}, which is read whole", "Leave it there.")
    return tifffile.TiffFile(path)


def is_set(tif: tifffile.TiffFile) -> bool:
    """Return whether a file names the files that its planes are in."""
    return bool(_parts(tif))


def _parts(tif: tifffile.TiffFile) -> list[str]:
    """Return the names of the files that an OME-TIFF says its planes are in."""
    text = tif.ome_metadata if tif.is_ome else None
    if not text:
        return []
    elsewhere = re.search(r'<(?:\w+:)?BinaryOnly[^>]*MetadataFile="([^"]+)"', text)
    if elsewhere:
        return [elsewhere[1], ""]
    return re.findall(r'<(?:\w+:)?UUID[^>]*FileName="([^"]+)"', text)
