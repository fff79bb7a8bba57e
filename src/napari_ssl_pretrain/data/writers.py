"""TIFFs as their sources were: axes, dtype, pixel size and unit; whole files or none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_ssl_pretrain.data.images import Image
from napari_ssl_pretrain.errors import ConfigError

_IMAGEJ_DTYPES = ("uint8", "uint16", "float32")
_OME_DTYPES = (*_IMAGEJ_DTYPES, "int8", "int16", "int32", "uint32", "float64")
_IMAGEJ_UNITS = {"µm": "micron", "Å": "angstrom"}
_LARGE = 2 << 30


def write_image(
    path: Path, frames: Iterable[np.ndarray], image: Image, *, dtype: np.dtype | None = None
) -> None:
    """Write frames as their source image is stored: axes, pixel size and unit.

    Parameters
    ----------
    path
        Where to; the folder is made.
    frames
        One array ``C *spatial`` a frame, in order, of the channels that the image uses.
    image
        The source.
    dtype
        Data type to write, by default that of the source; integers are rounded and clipped.

    Raises
    ------
    ConfigError
        The file cannot be written.
    ValueError
        The frames are not those of the image.
    """
    info = image.info
    axes = info.axes
    if image.in_channels != info.channels and {"C", "S"} <= set(axes):
        axes = axes.replace("S", "")  # a choice among channels times samples is no grid
    lengths = {a: info.length(a) for a in axes}
    for axis in ("C", "S"):
        if axis in axes and len({"C", "S"} & set(axes)) == 1:
            lengths[axis] = image.in_channels
    out = np.empty([lengths[a] for a in axes], np.dtype(dtype or info.dtype))
    count = 0
    for count, frame in enumerate(frames, start=1):
        _place(out, axes, frame, image, count - 1)
    if count != image.frames:
        raise ValueError(f"{count} frames given for {image.frames}")
    write_array(path, out, axes, pixel_size=info.pixel_size, unit=info.unit)


def _place(out: np.ndarray, axes: str, frame: np.ndarray, image: Image, number: int) -> None:
    """Put a frame ``C *spatial`` where it belongs in the stored array."""
    place = image.frame_index(number)
    target = out[tuple(place.get(a, slice(None)) for a in axes)]
    left = [a for a in axes if a not in place]
    wanted = [a for a in "CSZYX" if a in left]
    view = target.transpose([left.index(a) for a in wanted])
    view[...] = to_dtype(np.asarray(frame), out.dtype).reshape(view.shape)


def write_array(
    path: Path,
    array: np.ndarray,
    axes: str,
    *,
    pixel_size: dict[str, float] | None = None,
    unit: str | None = None,
) -> None:
    """Write an array as a TIFF that :func:`~napari_ssl_pretrain.data.survey.open_image` reads back.

    ImageJ's format where it can hold the array; else OME-TIFF, or tifffile's own for orders
    of axes that neither knows.

    Parameters
    ----------
    path
        Where to; the folder is made.
    array
        The pixels.
    axes
        A letter for each axis.
    pixel_size
        Spacing of the spatial axes.
    unit
        Its unit.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """
    if array.dtype == bool:
        array = array.astype(np.uint8)
    options = _format(array, axes, pixel_size or {}, unit)
    if "S" in axes and array.shape[axes.index("S")] in (3, 4) and axes[-1] == "S":
        options["photometric"] = "rgb"
        if array.shape[-1] == 4:  # noqa: PLR2004
            options["extrasamples"] = ["unassalpha"]
    else:
        options["photometric"] = "minisblack"

    def save(temporary: Path) -> None:
        tifffile.imwrite(temporary, array, compression="zlib", **options)  # noqa: TID251

    _atomic(Path(path), save)


def _format(
    array: np.ndarray, axes: str, pixel_size: dict[str, float], unit: str | None
) -> dict[str, Any]:
    """Return the options of tifffile for the format that can hold this array."""
    lasting = all(n > 1 or a in "YX" for a, n in zip(axes, array.shape, strict=True))
    large = array.nbytes > _LARGE
    ordered = "".join(sorted(axes, key="TZCYXS".index)) == axes
    dtype = array.dtype.name
    if lasting and ordered and not large and dtype in _IMAGEJ_DTYPES and "S" not in axes:
        return _imagej(axes, pixel_size, unit)
    if (
        lasting
        and dtype in _OME_DTYPES
        and (axes[-2:] == "YX" or axes[-3:] == "YXS")
        and len(axes) > 1
    ):
        return _ome(axes, pixel_size, unit) | {"bigtiff": large}
    told: dict[str, Any] = {"axes": axes}
    if pixel_size:
        told |= {"spacing": pixel_size, "unit": unit}
    return {"metadata": told, "bigtiff": large}


def _imagej(axes: str, pixel_size: dict[str, float], unit: str | None) -> dict[str, Any]:
    told: dict[str, Any] = {"axes": axes}
    options: dict[str, Any] = {"imagej": True, "metadata": told}
    if unit:
        told["unit"] = _IMAGEJ_UNITS.get(unit, unit)
    if "Z" in pixel_size:
        told["spacing"] = pixel_size["Z"]
    if "X" in pixel_size and "Y" in pixel_size:
        options["resolution"] = (1 / pixel_size["X"], 1 / pixel_size["Y"])
    return options


def _ome(axes: str, pixel_size: dict[str, float], unit: str | None) -> dict[str, Any]:
    told: dict[str, Any] = {"axes": axes}
    for axis, size in pixel_size.items():
        told |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": unit or "µm"}
    return {"ome": True, "metadata": told}


def to_dtype(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert to a data type; integers are rounded and clipped, not wrapped."""
    if array.dtype == dtype:
        return array
    if dtype.kind in "ui" and array.dtype.kind == "f":
        wide = np.rint(np.asarray(array, np.float64))
        limits = np.iinfo(dtype)
        # a double cannot hold the largest 64-bit integers; the next below them it can
        top = np.nextafter(float(limits.max), 0) if float(limits.max) > limits.max else limits.max
        return np.nan_to_num(np.clip(wide, limits.min, top)).astype(dtype)
    if dtype.kind in "ui" and array.dtype.kind in "ui":
        limits = np.iinfo(dtype)
        return np.clip(
            array,
            max(limits.min, np.iinfo(array.dtype).min),
            min(limits.max, np.iinfo(array.dtype).max),
        ).astype(dtype)
    if dtype.kind == "f" and dtype.itemsize < array.dtype.itemsize:
        limit = np.finfo(dtype).max
        return np.where(np.isfinite(array), np.clip(array, -limit, limit), array).astype(dtype)
    return array.astype(dtype)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; the folder is made.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """
    _atomic(Path(path), lambda temporary: temporary.write_bytes(data))


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all; the folder is made.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """
    write_bytes(path, text.encode())


def _atomic(path: Path, save: Callable[[Path], object]) -> None:
    """Save under a temporary name beside the path, then move it there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            path,
            f"cannot be written ({error.strerror or error})",
            remedy="Choose another result_dir, or free space there.",
        ) from None
