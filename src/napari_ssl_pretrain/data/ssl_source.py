"""Worsened copies of the images, kept with what they were made from and how."""

from __future__ import annotations

import json
import shutil
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ssl_pretrain.data.boxes import cut, is_large, spread
from napari_ssl_pretrain.data.intensity import (
    ImageIntensity,
    Normalization,
    Statistics,
    finite,
    measure,
    measure_blocks,
)
from napari_ssl_pretrain.data.ome_zarr_writer import CHUNKS, TiledWriter, by_tile
from napari_ssl_pretrain.data.writers import to_dtype, write_image, write_text
from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.pretext import Crappify, Intensity, NumpyRandom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from napari_ssl_pretrain.data.boxes import Box
    from napari_ssl_pretrain.data.images import Image

RECORD = "ssl_source.json"
_VERSION = 1
_SECONDS = 2.0
_BOX_VALUES = 1 << 22
_SAMPLE_BOXES = 64
"""Values of a box of a large image that is worsened at once, and how many are measured."""


def prepare_ssl_source(
    images: Sequence[Image],
    task: Crappify,
    folder: Path,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Worsen each image whole and store it; copies that are still true are kept.

    Large images are worsened box by box and stored as OME-Zarr.

    Parameters
    ----------
    images
        The clean images, with unique names.
    task
        How to worsen them.
    folder
        Where the copies are kept.
    seed
        Seed of the noise; that of an image depends on it and the image's name alone.
    progress
        Told the number of images that are ready, and of all.

    Returns
    -------
    copies
        The path of each image's copy, in order.

    Raises
    ------
    ConfigError
        The folder is one of the images' own, or cannot be written.
    DataError
        The pixels of an image cannot be decoded.
    """
    folder = Path(folder)
    _check_apart(images, folder)
    made_with = {"version": _VERSION, "seed": seed, "task": task.model_dump(mode="json")}
    record = _Record(folder, made_with)
    try:
        for number, image in enumerate(images, start=1):
            path, source = copy_path(folder, image), fingerprint(image)
            if not record.holds(path.name, source):
                _write_copy(path, image, task, seed)
            record.add(path.name, source)
            if progress is not None:
                progress(number, len(images))
    finally:
        record.save()
    record.drop_others()
    return [copy_path(folder, image) for image in images]


def copy_path(folder: Path, image: Image) -> Path:
    """Return where the copy of an image is kept: a TIFF, or an OME-Zarr where it is large."""
    path = folder / f"{image.info.name}.tif"
    return by_tile(path) if is_large(image) else path


def _write_copy(path: Path, image: Image, task: Crappify, seed: int) -> None:
    if not is_large(image):
        write_image(path, worsened_frames(image, task, seed), image)
        return
    places = (
        (frame, box)
        for frame in range(image.frames)
        for box in cut(image.spatial, _BOX_VALUES // image.in_channels, CHUNKS[image.ndim])
    )
    with TiledWriter(path, image, image.info.dtype) as out:
        for frame, box, block in _worsened_boxes(image, places, task, seed):
            out.write(frame, box, block)


def measure_worsened(
    image: Image,
    task: Crappify,
    seed: int,
    normalization: Normalization,
    custom: Statistics | None = None,
) -> ImageIntensity:
    """Measure what a large image would be when worsened, on boxes spread over it.

    Raises
    ------
    DataError
        The pixels cannot be decoded.
    """
    places = spread(image, _SAMPLE_BOXES, depth=CHUNKS[image.ndim][0])
    parts = (
        to_dtype(block, image.info.dtype)
        for _, _, block in _worsened_boxes(image, places, task, seed)
    )
    return measure_blocks(parts, image, normalization, custom)


def _worsened_boxes(
    image: Image, places: Iterable[tuple[int, Box]], task: Crappify, seed: int
) -> Iterator[tuple[int, Box, np.ndarray]]:
    """Worsen boxes of a large image, each by itself as patches are; noise keyed by its place."""
    found = measure(image, "zscore")
    batch, key = as_batch(found), zlib.crc32(image.info.name.encode())
    for frame, box in places:
        random = NumpyRandom([(seed, key, frame, *(b.start for b in box))])
        clean = finite(image.read(frame, box), found.mean)[None]
        yield frame, box, np.asarray(task.worsen(clean, batch, random)[0])


def worsened_frames(image: Image, task: Crappify, seed: int) -> list[np.ndarray]:
    """Return each frame of an image worsened, float32 in the image's own units."""
    found = measure(image, "zscore")
    batch = as_batch(found)
    key = zlib.crc32(image.info.name.encode())
    return [
        np.asarray(
            task.worsen(
                finite(image.read(frame), found.mean)[None],
                batch,
                NumpyRandom([(seed, key, frame)]),
            )[0]
        )
        for frame in range(image.frames)
    ]


def as_batch(found: ImageIntensity) -> Intensity:
    """Return an image's brightness as that of a batch of one."""
    return Intensity(
        found.offset[None].astype(np.float32),
        found.scale[None].astype(np.float32),
        np.array([found.low], np.float32),
        np.array([found.high], np.float32),
    )


def fingerprint(image: Image) -> dict[str, Any]:
    """Return what tells whether an image has changed, without reading it."""
    path = image.info.path
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    stats = [p.stat() for p in files]
    return {
        "path": str(path.absolute()),
        "size": sum(s.st_size for s in stats),
        "mtime_ns": max((s.st_mtime_ns for s in stats), default=0),
        "files": len(files),
        "axes": image.info.axes,
        "shape": list(image.info.shape),
        "ndim": image.ndim,
        "channels": list(image.channels),
    }


def _known(folder: Path, made_with: dict[str, Any]) -> dict[str, Any]:
    """Return the copies that were made in the same way; none where anything differs."""
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        wanted = json.loads(json.dumps(made_with))
        same = all(record.get(key) == value for key, value in wanted.items())
        return dict(record["copies"]) if same else {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


class _Record:
    """What the copies in a folder were made from and how, kept beside them."""

    def __init__(self, folder: Path, made_with: dict[str, Any]) -> None:
        self.folder = folder
        self.made_with = made_with
        self.known = _known(folder, made_with)
        self.copies: dict[str, Any] = {}
        # from here on the copies of other parameters are true no more, whatever happens
        self.save()

    def holds(self, name: str, source: dict[str, Any]) -> bool:
        """Return whether a copy is there and true; one that is not is forgotten."""
        if self.known.get(name) == source and (self.folder / name).exists():
            return True
        if self.known.pop(name, None) is not None:
            # a process that dies while it works must not leave the old copy as a true one
            self.save()
        return False

    def add(self, name: str, source: dict[str, Any]) -> None:
        """Note a copy; writing that down now and then is enough."""
        self.copies[name] = source
        if time.monotonic() - self.saved > _SECONDS:
            self.save()

    def save(self) -> None:
        """Write the record; others of an earlier preparation stay known until all are done."""
        told = self.made_with | {"copies": self.known | self.copies}
        write_text(self.folder / RECORD, json.dumps(told, indent=1))
        self.saved = time.monotonic()

    def drop_others(self) -> None:
        """Remove the copies of images that are no longer there."""
        for stale in set(self.known) - set(self.copies):
            if Path(stale).name == stale:  # a record from elsewhere could name any file
                _remove(self.folder / stale)
        self.known = {}
        self.save()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _check_apart(images: Sequence[Image], folder: Path) -> None:
    """Refuse to write beside the user's images.

    Raises
    ------
    ConfigError
        The folder is one of the images' own.
    """
    here = folder.resolve()
    for image in images:
        if image.info.path.resolve().parent == here:
            raise ConfigError(
                "pretext.ssl_source_dir",
                "must not be the folder of the images themselves",
                value=folder,
                remedy="Name another folder, or auto.",
            )
