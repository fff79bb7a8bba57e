"""Units of length: one spelling for each, whatever the file writes."""

from __future__ import annotations

import math

MICROMETRE = "\N{MICRO SIGN}m"
ANGSTROM = "\N{LATIN CAPITAL LETTER A WITH RING ABOVE}"

METRES = {
    "m": 1.0,
    "cm": 1e-2,
    "mm": 1e-3,
    MICROMETRE: 1e-6,
    "nm": 1e-9,
    ANGSTROM: 1e-10,
    "pm": 1e-12,
    "inch": 0.0254,
}
"""Units that are known, in metres."""

_SPELLINGS = {
    "m": "m meter meters metre metres",
    "cm": "cm centimeter centimeters centimetre centimetres",
    "mm": "mm millimeter millimeters millimetre millimetres",
    # ImageJ escapes the micro sign; some write the Greek letter that looks like it
    MICROMETRE: f"{MICROMETRE} \N{GREEK SMALL LETTER MU}m \\u00b5m um micron microns "
    "micrometer micrometers micrometre micrometres",
    "nm": "nm nanometer nanometers nanometre nanometres",
    ANGSTROM: f"{ANGSTROM.lower()} angstrom angstroms",
    "pm": "pm picometer picometers picometre picometres",
    "inch": "inch inches in",
}
_NAMES = {spelling: unit for unit, text in _SPELLINGS.items() for spelling in text.split()}


def unit_name(text: object) -> str | None:
    """Return the one spelling of a unit of length; None where it is none."""
    return _NAMES.get(str(text).strip().lower())


def one_unit(
    sizes: dict[str, float], units: dict[str, str | None]
) -> tuple[dict[str, float], str | None]:
    """Bring spacings in several units to that of X; leave out those without a length.

    Spacings without any unit still tell proportions, unless all are 1: then nobody set them.

    Parameters
    ----------
    sizes
        Spacing by axis letter.
    units
        Unit by axis letter, None where unknown.
    """
    sizes = {a: float(s) for a, s in sizes.items() if math.isfinite(s) and s > 0}
    unit = units.get("X") or units.get("Y") or units.get("Z")
    if unit is None:
        return (sizes if any(size != 1 for size in sizes.values()) else {}), None
    found = {}
    for axis, size in sizes.items():
        own = units.get(axis)
        if own is not None:
            factor = METRES[own] / METRES[unit]
            found[axis] = size if own == unit else float(f"{size * factor:.12g}")
    return found, unit if found else None
