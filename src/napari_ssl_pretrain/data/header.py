"""What a reader finds in a file's header, before anyone decides what the axes mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import numpy as np

    from napari_ssl_pretrain.data.images import Pixels

UNKNOWN = "?"
"""Letter of a stored axis whose meaning the file does not say."""

LARGEST_RATIO = 1100
"""No more bytes than this come out of one byte of deflate, LZW, PackBits or JPEG."""


LARGEST_PIECE = 1 << 32
"""Bytes of the largest piece that may have to be decoded whole: a chunk, a tile, a PNG."""


class RefusedError(ValueError):
    """A file is refused; the text is the rule that it breaks.

    Parameters
    ----------
    rule
        What is wrong, without a full stop.
    remedy
        What to do, as a sentence.
    """

    def __init__(self, rule: str, remedy: str = "") -> None:
        super().__init__(rule)
        self.remedy = remedy


@dataclass(frozen=True)
class Header:
    """The header of one image file.

    Attributes
    ----------
    stored
        One letter a stored axis, ``?`` where the file does not say.
    shape
        Length of each stored axis.
    dtype
        Data type of the pixels as stored.
    pixels
        Access to the pixels.
    pixel_size
        Spacing by axis letter; empty where unknown.
    unit
        Unit of ``pixel_size``.
    notes
        What the user should know of how the file is read.
    """

    stored: str
    shape: tuple[int, ...]
    dtype: np.dtype
    pixels: Pixels
    pixel_size: dict[str, float] = field(default_factory=dict)
    unit: str | None = None
    notes: tuple[str, ...] = ()


def check_dtype(dtype: np.dtype) -> None:
    """Refuse what is no plain number of at most 64 bits.

    Raises
    ------
    RefusedError
        The data type is complex, an object, text, a record, a time, or wider than 64 bits.
    """
    if dtype.kind not in "buif" or dtype.itemsize > 8:  # noqa: PLR2004
        raise RefusedError(
            f"holds {dtype.name} where integers or real floats of at most 64 bits are needed",
            "Convert it, for complex numbers to their magnitude."
            if dtype.kind == "c"
            else "Convert it.",
        )


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse an image without pixels.

    Raises
    ------
    RefusedError
        An axis has no length.
    """
    if min(shape, default=0) < 1:
        raise RefusedError(f"has no pixels (shape {' x '.join(map(str, shape))})", "Remove it.")


def check_piece(size: int, what: str) -> None:
    """Refuse an image of which too much has to be decoded at once.

    Raises
    ------
    RefusedError
        It is more than :data:`LARGEST_PIECE`.
    """
    if size > LARGEST_PIECE:
        raise RefusedError(
            f"{what} of {size} bytes, which would have to be decoded at once",
            "Export it in tiles or chunks of a few MB.",
        )


def refuse_truncated(needed: int, held: int) -> NoReturn:
    """Refuse a file that is shorter than its header says.

    Raises
    ------
    RefusedError
        Always.
    """
    raise RefusedError(
        f"is truncated: the file holds {held} bytes, fewer than the {needed} its header says",
        "Copy or export it again.",
    )
