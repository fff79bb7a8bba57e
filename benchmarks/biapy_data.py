"""Images for the comparison: planes and blocks cut from any folder, in the layout BiaPy expects."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np

from napari_ssl_pretrain.data.survey import open_image
from napari_ssl_pretrain.data.writers import write_array
from napari_ssl_pretrain.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SIDES = {2: (512, 512), 3: (32, 192, 192)}
"""Largest planes and blocks: whole multiples of BiaPy's tiles, so that none overlap in masking."""

UNITS = {2: (256, 256), 3: (32, 64, 64)}
COUNTS = {2: (16, 4), 3: (4, 2)}
"""How many to learn from, and how many to test on, at most."""


def build_data(folders: Sequence[Path], out: Path, ndims: set[int]) -> dict[int, tuple[int, ...]]:
    """Fill ``out/{2,3}d/{train,test}/x`` anew; return the shape of the images of each kind.

    Parameters
    ----------
    folders
        Folders of images; planes and volumes may be mixed.
    out
        Folder to build in.
    ndims
        The kinds wanted.

    Raises
    ------
    SystemExit
        There are too few images of a kind.
    """
    shapes = {}
    for ndim in sorted(ndims):
        root = out / f"{ndim}d"
        shutil.rmtree(root, ignore_errors=True)
        pieces = [piece for path in _files(folders) for piece in _pieces(path, ndim)]
        if len(pieces) < 5:
            raise SystemExit(f"error: --data: {len(pieces)} images of {ndim}D: at least 5 needed.")
        common = np.min([piece.shape for piece in pieces], axis=0)
        shape = tuple(int(n // u * u) for n, u in zip(common, UNITS[ndim], strict=True))
        shapes[ndim] = shape
        _write(pieces, shape, root, COUNTS[ndim])
    return shapes


def _write(
    pieces: list[np.ndarray], shape: tuple[int, ...], root: Path, counts: tuple[int, int]
) -> None:
    test = min(counts[1], max(1, len(pieces) // 5))
    train = min(counts[0], len(pieces) - test)
    chosen = [("train", p) for p in pieces[:train]] + [("test", p) for p in pieces[-test:]]
    for number, (split, piece) in enumerate(chosen):
        cut = np.ascontiguousarray(piece[tuple(slice(0, n) for n in shape)])
        write_array(root / split / "x" / f"image_{number:03d}.tif", cut, "ZYX"[-cut.ndim :])


def _files(folders: Sequence[Path]) -> list[Path]:
    return [p for folder in folders for p in sorted(folder.iterdir()) if p.is_file()]


def _pieces(path: Path, ndim: int) -> Iterator[np.ndarray]:
    """Yield an image of one channel as one plane, or as blocks along its first axis."""
    try:
        image = open_image(path)
        if image.ndim != ndim or image.in_channels != 1:
            return
        pixels = image.read(0)[0]
    except UserError as error:
        print(f"{path.name} is skipped: {error}")
        return
    if any(n < u for n, u in zip(pixels.shape, UNITS[ndim], strict=True)):
        return
    sides = SIDES[ndim]
    inside = tuple(slice(0, min(n, s)) for n, s in zip(pixels.shape, sides, strict=True))
    if ndim == 2:
        yield pixels[inside]
        return
    depth = sides[0]
    for first in range(0, pixels.shape[0] - depth + 1, depth):
        yield pixels[(slice(first, first + depth), *inside[1:])]
