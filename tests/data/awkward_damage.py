"""Damage at random to files that are sound, and what may come of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from image_samples import as_frames

from napari_ssl_pretrain.data.opening import open_image
from napari_ssl_pretrain.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ssl_pretrain.data.images import Image

READ_WHOLE = 50_000_000
"""Bytes up to which all pixels are read; of larger images, a box."""
SIDE = 32


@dataclass(frozen=True)
class Outcome:
    """What came of a damaged file.

    Attributes
    ----------
    kind
        ``refused``, ``same`` (every pixel as before), ``pixels`` (other pixels), ``shape``
        (another shape or type).
    text
        The sentence of a refusal.
    """

    kind: str
    text: str = ""


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    """Change one to eight bytes, half of the time near the beginning."""
    array = np.frombuffer(data, np.uint8).copy()
    reach = len(array) if rng.random() < 0.5 else min(len(array), 600)
    where = rng.integers(0, reach, rng.integers(1, 9))
    array[where] = rng.integers(0, 256, len(where))
    return array.tobytes()


def blank(data: bytes, rng: np.random.Generator) -> bytes:
    """Overwrite a stretch with one value, as bad sectors are."""
    start = int(rng.integers(0, len(data)))
    length = int(min(len(data) - start, rng.integers(1, 2000)))
    return data[:start] + bytes([rng.choice([0, 255])]) * length + data[start + length :]


def lose(data: bytes, rng: np.random.Generator) -> bytes:
    """Lose a stretch from within."""
    start, end = sorted(rng.integers(0, len(data), 2).tolist())
    return data[:start] + data[end:]


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    """Lose the end."""
    return data[: int(rng.integers(0, len(data)))]


def add(data: bytes, rng: np.random.Generator) -> bytes:
    """Put bytes between others."""
    start = int(rng.integers(0, len(data)))
    return data[:start] + rng.bytes(int(rng.integers(1, 50))) + data[start:]


DAMAGES = {f.__name__: f for f in (flip, blank, lose, truncate, add)}


def harm(sound: Path, path: Path, damage: str, seed: int) -> None:
    """Copy a file, or a Zarr folder, and damage it, or one file in it."""
    rng = np.random.default_rng([seed, *damage.encode()])
    hurt = path
    if sound.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(sound, path)
        hurt = rng.choice(sorted(p for p in path.rglob("*") if p.is_file()))
        sound = sound / hurt.relative_to(path)
    data = sound.read_bytes()
    hurt.write_bytes(DAMAGES[damage](data, rng) if data else b"")


def result(path: Path, axes: str, wanted: np.ndarray) -> Outcome:
    """Open and read; whatever else than a refusal or an image comes is raised."""
    try:
        opened = open_image(path)
        frames = pixels_of(opened)
    except (DataError, ConfigError) as error:
        text = str(error)
        assert path.name in text, text
        assert "\n" not in text, text
        assert "Traceback" not in text
        return Outcome("refused", text)
    wanted = wanted.astype(np.uint8) if wanted.dtype == bool else wanted
    dtype = wanted.dtype.newbyteorder("=")
    if (opened.info.axes, opened.info.shape, opened.info.dtype) != (axes, wanted.shape, dtype):
        return Outcome("shape", f"{opened!r} for {axes} {wanted.shape}")
    expected = as_frames(wanted, axes, opened.ndim)
    same = all(
        np.array_equal(a, b, equal_nan=dtype.kind == "f")
        for a, b in zip(frames, expected, strict=True)
    )
    return Outcome("same" if same else "pixels")


def pixels_of(opened: Image) -> list[np.ndarray]:
    """Read an image, of a huge one a box; what is read has the shape that it should."""
    box = None
    if opened.frames * opened.frame_bytes > READ_WHOLE:
        box = tuple(slice(0, min(SIDE, n)) for n in opened.spatial)
    size = tuple(s.stop for s in box) if box else opened.spatial
    frames = []
    for number in range(opened.frames if box is None else 1):
        frame = opened.read(number, box)
        assert frame.shape == (opened.in_channels, *size)
        assert frame.dtype == opened.info.dtype
        frames.append(frame)
    return frames
