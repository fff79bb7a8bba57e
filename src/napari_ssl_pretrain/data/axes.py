"""Which stored axis is which: from metadata, from the user, or assumed aloud."""

from __future__ import annotations

from napari_ssl_pretrain.data.header import UNKNOWN, RefusedError
from napari_ssl_pretrain.errors import ConfigError

KNOWN = "TCZYXS"
SMALL = 4
"""An axis this short, beside long ones, is assumed to hold channels."""


_ORDERS = {
    2: ("YX",),
    3: ("YXC", "CYX", "ZYX"),
    4: ("ZYXC", "ZCYX", "CZYX", "TZYX"),
    5: ("TZYXC", "TZCYX", "TCZYX", "TZCYX"),
}


def assume(shape: tuple[int, ...]) -> str:
    """Return the axes assumed for an array that comes without a word about them.

    An axis of at most ``SMALL`` is taken for channels: the last one, else the one before the
    planes, else the one before the stacks. Other axes are Z, then T.

    Raises
    ------
    RefusedError
        There are fewer than two axes or more than five.
    """
    rank = len(shape)
    if rank not in _ORDERS:
        raise RefusedError(f"has {rank} axes where an image has 2 to 5", "Take it apart.")
    for order in _ORDERS[rank]:
        place = order.find("C")
        beside = shape[-3:-1] if place == rank - 1 else shape[-2:]
        if place < 0 or (shape[place] <= SMALL < min(beside)):
            return order
    return _ORDERS[rank][-1]


def assumption(axes: str, shape: tuple[int, ...]) -> str:
    """Return the note that tells of assumed axes."""
    sizes = " x ".join(map(str, shape))
    return f"axes not stored, {axes} assumed for {sizes} (set data.axes if that is wrong)"


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
    ConfigError
        The axes given do not fit the image.
    RefusedError
        Those stored are no image's.
    """
    if given != "auto":
        _check_given(stored, shape, given.upper())
        return given.upper(), ""
    if UNKNOWN not in stored:
        _check_known(stored)
        return stored, ""
    if set(stored) <= set(UNKNOWN + "YX"):
        axes = assume(shape)
    else:
        free = [a for a in "ZTC" if a not in stored]
        axes = "".join(free.pop(0) if a == UNKNOWN and free else a for a in stored)
        _check_known(axes)
    return axes, "" if axes == "YX" else assumption(axes, shape)


def _check_known(axes: str) -> None:
    """Refuse axes that are no image's.

    Raises
    ------
    RefusedError
        A letter is unknown or comes twice, or Y or X is missing.
    """
    if not set(axes) <= set(KNOWN) or len(set(axes)) != len(axes) or not set("YX") <= set(axes):
        raise RefusedError(
            f"has the axes {axes}, which are not Y and X with T, C, Z and S beside them, each once",
            "Export it with such axes.",
        )


def _check_given(stored: str, shape: tuple[int, ...], given: str) -> None:
    """Refuse axes that the image cannot have.

    Raises
    ------
    ConfigError
        There are more or fewer, or a colour image's samples are called something else.
    """
    sizes = " x ".join(map(str, shape))
    place = stored.find("S")
    rule = ""
    if len(given) != len(shape):
        rule = f"names {len(given)} axes, but there are {len(shape)} ({sizes})"
    elif place >= 0 and given[place] not in "CS":
        rule = f"calls the colour samples {given[place]}, but {sizes} is stored as {stored}"
    if rule:
        remedy = "Give the axes as stored, or auto."
        raise ConfigError("data.axes", rule, value=given, remedy=remedy)
