"""TIFFs as their sources were: axes, dtype, pixel size and unit; whole files or none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import tifffile

from napari_ssl_pretrain.data.parts import part_of
from napari_ssl_pretrain.data.units import ANGSTROM, MICROMETRE, unit_name
from napari_ssl_pretrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari_ssl_pretrain.data.images import Image

_IMAGEJ_DTYPES = ("uint8", "uint16", "float32")
_OME_DTYPES = (*_IMAGEJ_DTYPES, "int8", "int16", "int32", "uint32", "float64")
_IMAGEJ_UNITS = {MICROMETRE: "micron", ANGSTROM: "angstrom"}  # its metadata are ASCII
_COLOURS = (3, 4)
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
    known = unit_name(unit) if unit else None
    options = _format(array, axes, pixel_size or {}, known) | _samples(array, axes)

    def save(temporary: Path) -> None:
        tifffile.imwrite(temporary, array, compression="zlib", **options)  # noqa: TID251

    _atomic(Path(path), save)


def _samples(array: np.ndarray, axes: str) -> dict[str, Any]:
    """Return the options that keep colours together, and axes Y and X the planes of the file."""
    count = array.shape[-1]
    if axes[-1] not in "CS" or count == 1:
        return {"photometric": "minisblack"}
    colour = axes[-1] == "S" and count in _COLOURS
    alpha = ["unassalpha"] if colour and count == max(_COLOURS) else None
    photometric = "rgb" if colour else "minisblack"
    return {"photometric": photometric, "planarconfig": "contig", "extrasamples": alpha}


def _format(
    array: np.ndarray, axes: str, pixel_size: dict[str, float], unit: str | None
) -> dict[str, Any]:
    """Return the options of tifffile for the format that can hold this array."""
    large = array.nbytes > _LARGE
    # ImageJ and OME forget axes of length one
    if not large and _fits_imagej(array, axes, pixel_size):
        return _imagej(axes, pixel_size, unit)
    if _fits_ome(array, axes) and bool(unit) == bool(pixel_size) and (pixel_size or axes != "YXS"):
        return _ome(axes, pixel_size, unit) | {"bigtiff": large}
    told: dict[str, Any] = {"axes": axes}
    if pixel_size:
        told |= {"spacing": pixel_size, "unit": unit}
    return {"metadata": told, "bigtiff": large}


def _fits_imagej(array: np.ndarray, axes: str, pixel_size: dict[str, float]) -> bool:
    return (
        array.dtype.name in _IMAGEJ_DTYPES
        and "S" not in axes
        and sorted(axes, key="TZCYX".index) == list(axes)
        and min(array.shape) > 1
        and ("X" in pixel_size) == ("Y" in pixel_size)
    )


def _fits_ome(array: np.ndarray, axes: str) -> bool:
    planes = axes.removesuffix("S")
    return (
        array.dtype.name in _OME_DTYPES
        and planes.endswith("YX")
        and "S" not in planes
        and min(array.shape) > 1
    )


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
    name = "in" if unit == "inch" else unit
    for axis, size in pixel_size.items():
        told |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": name}
    return {"ome": True, "metadata": told}


def to_dtype(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert to a data type; integers are rounded and clipped, not wrapped."""
    if array.dtype in (dtype, bool):
        return array.astype(dtype, copy=False)
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        low, high = limits.min, limits.max
        if array.dtype == np.float32 and dtype.itemsize <= 2:  # noqa: PLR2004
            return _rounded(array, low, high).astype(dtype)
        if array.dtype.kind == "f":
            array = np.nan_to_num(np.rint(array.astype(np.float64)))
            # no double equals the largest 64-bit integers; the next one below is in their range
            high = int(np.nextafter(float(high), 0)) if float(high) > high else high
        else:
            held = np.iinfo(array.dtype)
            low, high = max(low, held.min), min(high, held.max)
        array = np.clip(array, low, high)
    elif dtype.itemsize < array.dtype.itemsize:
        limit = np.finfo(dtype).max
        array = np.where(np.isfinite(array), np.clip(array, -limit, limit), array)
    return np.asarray(array.astype(dtype))


def _rounded(array: np.ndarray, low: int, high: int) -> np.ndarray:
    """Round and clip single precision, which holds all integers of 16 bits; NaN becomes 0."""
    rounded: np.ndarray = np.rint(array)
    np.clip(rounded, low, high, out=rounded)
    unknown = np.isnan(rounded)
    if unknown.any():
        rounded[unknown] = 0
    return rounded


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
    """Save under a temporary name beside the path, then move it there.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """
    temporary = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        cannot_write(path, error)


class CannotWrite(ConfigError):
    """A result cannot be written.

    Parameters
    ----------
    path
        Where it belongs.
    error
        What the system says.
    """

    def __init__(self, path: Path, error: OSError) -> None:
        self.reason = OSError(error.errno, error.strerror or str(error), str(path))
        rule = f"cannot be written ({error.strerror or error})"
        super().__init__(path, rule, remedy="Choose another result_dir, or free space there.")


def cannot_write(path: Path, error: OSError) -> NoReturn:
    """Tell the user that a result cannot be written.

    Raises
    ------
    CannotWrite
        Always.
    """
    raise CannotWrite(path, error) from None
