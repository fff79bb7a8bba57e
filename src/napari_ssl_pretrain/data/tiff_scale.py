"""Pixel size and unit from the metadata of a TIFF: ImageJ, OME, LSM, or our own."""

from __future__ import annotations

from typing import Any

import tifffile

from napari_ssl_pretrain.data.units import MICROMETRE, one_unit, unit_name

_CENTIMETRE = 3


def pixel_size(tif: tifffile.TiffFile) -> tuple[dict[str, float], str | None]:
    """Return the spacing of X, Y and Z and its unit; empty where the file does not say.

    A bare resolution in dots an inch is that of a printer, and is not taken for a pixel size.
    """
    if tif.is_ome and tif.ome_metadata:
        return _from_ome(tif.ome_metadata)
    if tif.is_imagej:
        return _from_imagej(tif)
    if tif.is_lsm and tif.lsm_metadata:
        sizes = {a: tif.lsm_metadata.get(f"VoxelSize{a}", 0.0) * 1e6 for a in "XYZ"}
        return one_unit(sizes, dict.fromkeys(sizes, MICROMETRE))
    told = (tif.shaped_metadata or ({},))[0]
    if isinstance(told.get("spacing"), dict):
        return one_unit(
            told["spacing"], dict.fromkeys(told["spacing"], unit_name(told.get("unit")))
        )
    return _from_resolution(tif, MICROMETRE, 1e4, _CENTIMETRE)


def _from_ome(xml: str) -> tuple[dict[str, float], str | None]:
    images = tifffile.xml2dict(xml).get("OME", {}).get("Image", {})
    first = images[0] if isinstance(images, list) else images
    pixels = first.get("Pixels", {})
    sizes = {a: float(pixels[f"PhysicalSize{a}"]) for a in "XYZ" if f"PhysicalSize{a}" in pixels}
    return one_unit(
        sizes, {a: unit_name(pixels.get(f"PhysicalSize{a}Unit", MICROMETRE)) for a in sizes}
    )


def _from_imagej(tif: tifffile.TiffFile) -> tuple[dict[str, float], str | None]:
    told: dict[str, Any] = tif.imagej_metadata or {}
    unit = unit_name(told.get("unit", ""))
    sizes, _ = _from_resolution(tif, unit, 1.0, None)
    if "spacing" in told:
        sizes["Z"] = abs(float(told["spacing"]))
    return one_unit(sizes, dict.fromkeys(sizes, unit))


def _from_resolution(
    tif: tifffile.TiffFile, unit: str | None, factor: float, needed: int | None
) -> tuple[dict[str, float], str | None]:
    """Return the spacing of X and Y from the resolution tags, if in the unit that is needed."""
    page = tif.pages.first
    tags = page.tags
    if needed is not None and int(tags.valueof("ResolutionUnit", 0) or 0) != needed:
        return {}, None
    sizes = {}
    for axis in "XY":
        dots, length = tags.valueof(f"{axis}Resolution", (0, 0)) or (0, 0)
        if dots and length:
            sizes[axis] = factor * length / dots
    return sizes, unit if sizes else None
