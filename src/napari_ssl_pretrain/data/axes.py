"""Which stored axis is which: from metadata, from the user, or assumed aloud."""

from __future__ import annotations

KNOWN = "TCZYXS"
SMALL = 4
"""An axis this short, beside long ones, is assumed to hold channels."""


def assume(shape: tuple[int, ...]) -> str:
    """Return the axes assumed for an array that comes without a word about them.

    Channels are looked for at the end, then before Z, then after it; else the order is TCZYX.

    Raises
    ------
    ValueError
        There are fewer than two axes or more than five.
    """
    rank = len(shape)
    if not 2 <= rank <= 5:  # noqa: PLR2004
        raise ValueError(f"has {rank} axes where an image has 2 to 5")
    if rank == 2:  # noqa: PLR2004
        return "YX"
    long_sides = min(shape[-3:-1]) > SMALL
    if shape[-1] <= SMALL and long_sides:
        return "TZYXC"[5 - rank :]
    if rank == 3:  # noqa: PLR2004
        return "CYX" if shape[0] <= SMALL else "ZYX"
    if rank == 4:  # noqa: PLR2004
        if shape[1] <= SMALL:
            return "ZCYX"
        return "CZYX" if shape[0] <= SMALL else "TZYX"
    return "TZCYX" if shape[2] <= SMALL else "TCZYX"


def assumption(axes: str, shape: tuple[int, ...]) -> str:
    """Return the note that tells of assumed axes."""
    sizes = " x ".join(map(str, shape))
    return f"axes not stored, {axes} assumed for {sizes}; set data.axes if that is wrong"


def settle(stored: str, shape: tuple[int, ...], given: str = "auto") -> tuple[str, str]:
    """Return the axes of an image, and a note where they were assumed.

    Parameters
    ----------
    stored
        Letters from the metadata; ``?`` where the file does not say.
    shape
        Length of each stored axis.
    given
        Axes that the user gave, or ``auto``.

    Raises
    ------
    ValueError
        The axes given do not fit the image, or those stored are unknown here.
    """
    if given != "auto":
        _check_given(stored, shape, given.upper())
        return given.upper(), ""
    if len(shape) < 2:  # noqa: PLR2004
        raise ValueError(f"has {len(shape)} axes where an image has 2 to 5")
    if "?" in stored:
        if set(stored) <= set("?YX"):
            axes = assume(shape)
        else:
            free = [a for a in "ZTC" if a not in stored]
            axes = "".join(free.pop(0) if a == "?" and free else a for a in stored)
        note = "" if axes == "YX" else assumption(axes, shape)
    else:
        axes, note = stored, ""
    check(axes)
    return axes, note


def check(axes: str) -> None:
    """Refuse axes that are no image.

    Raises
    ------
    ValueError
        A letter is unknown or comes twice, or Y or X is missing.
    """
    if not set(axes) <= set(KNOWN) or len(set(axes)) != len(axes) or not set("YX") <= set(axes):
        raise ValueError(
            f"its axes {axes} are not Y and X with T, C, Z and S beside them, each once"
        )


def _check_given(stored: str, shape: tuple[int, ...], given: str) -> None:
    check(given)
    sizes = " x ".join(map(str, shape))
    if len(given) != len(shape):
        raise ValueError(f"data.axes {given} names {len(given)} axes, but it has {sizes}")
    place = stored.find("S")
    if place >= 0 and given[place] not in "CS":
        raise ValueError(
            f"data.axes {given} calls its colour samples {given[place]} (stored as {stored}, {sizes})"
        )
