"""How label images are read: two classes, several, or instances; decided by looking, said aloud."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import ndimage
from skimage import measure, segmentation

from napari_ssl_pretrain.data.labelled import listed
from napari_ssl_pretrain.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_ssl_pretrain.data.images import Image
    from napari_ssl_pretrain.data.labelled import LabelledImage, LabelledSet

Kind = Literal["binary", "classes", "instances"]

MOST_CLASSES = 8
"""More numbers than this, the background left out, are objects."""

BYTE = 255
IN_ONE_PIECE = 0.9
"""From this share of the numbers in one piece on, they may be objects."""

DENSE = 0.02
"""With less background than this, objects fill the image and only their borders can be learnt."""


LARGEST = 2**53
"""From here on floats skip whole numbers."""

_find_boundaries: Any = segmentation.find_boundaries
_join: Any = measure.label


@dataclass(frozen=True)
class LabelScheme:
    """What the numbers of label images mean.

    Attributes
    ----------
    kind
        Two classes, several, or instances.
    values
        The number that stands for each class; empty for instances.
    names
        Names of the classes, the background first.
    note
        How the label images are read, in sentences for the user.
    dense
        Whether instances fill the image, so that their borders are learnt.
    """

    kind: Kind
    values: tuple[int, ...]
    names: tuple[str, ...]
    note: str
    dense: bool = False

    @property
    def count(self) -> int:
        """Number of classes, the background included."""
        return len(self.names)

    def classes(self, label: np.ndarray) -> np.ndarray:
        """Return the class of each pixel as uint8.

        Parameters
        ----------
        label
            A label image, ``*spatial``.
        """
        if self.kind == "instances":
            return _borders(label) if self.dense else _inside_and_border(label)
        if self.kind == "binary":
            return np.asarray(label != self.values[0], np.uint8)
        return np.asarray(np.searchsorted(self.values, label), np.uint8)


def _borders(label: np.ndarray) -> np.ndarray:
    """Mark where objects meet, on both sides."""
    return np.asarray(_find_boundaries(label, mode="thick"), np.uint8)


def _inside_and_border(label: np.ndarray) -> np.ndarray:
    """Mark the inside of objects as 1 and their rim as 2: two pixels wide, one in volumes."""
    inside = label != 0
    rim = _find_boundaries(label, mode="inner")
    if label.ndim == 2:  # noqa: PLR2004
        rim = ndimage.binary_dilation(rim) & inside
    return np.asarray(inside, np.uint8) + np.asarray(rim, np.uint8)


@dataclass
class _Seen:
    """What is in the label images of one set."""

    folder: str
    values: set[int] = field(default_factory=set)
    empty: list[str] = field(default_factory=list)
    floats: bool = False
    wide: bool = False
    pieces: list[bool] = field(default_factory=list)  # one a number and frame: in one piece?
    counts: set[int] = field(default_factory=set)  # numbers in a frame, where they are 1 to n
    consecutive: bool = True
    zeros: int = 0
    pixels: int = 0


def find_scheme(sets: Sequence[LabelledSet]) -> LabelScheme:
    """Look at every label image and decide what their numbers mean.

    Parameters
    ----------
    sets
        Training images, then test images where there are any.

    Raises
    ------
    DataError
        A label image holds no whole numbers of 0 or more, cannot be decoded, or all of a set
        hold background only.
    """
    seen = [_look(found) for found in sets]
    values = tuple(sorted(set().union(*(one.values for one in seen))))
    for one in seen:
        _refuse_uniform(one)
    scheme = _decide(seen, values)
    extra = []
    if any(one.floats for one in seen):
        extra.append("Label images of floats hold whole numbers only and are read as such.")
    empty = [name for one in seen for name in one.empty]
    if empty:
        verb = "holds" if len(empty) == 1 else "hold"
        extra.append(f"{listed(empty)} {verb} background only.")
    note = " ".join([scheme.note, *extra])
    return replace(scheme, note=note)


def read_label(label: Image, frame: int) -> np.ndarray:
    """Read a frame of a label image, ``*spatial``, as integers.

    Raises
    ------
    DataError
        It is in colour, or holds anything but whole numbers of 0 or more.
    """
    array = label.read(frame)
    path = label.info.path
    colours = array[:3]
    if len(array) > 1 and not all(np.array_equal(colours[0], other) for other in colours[1:]):
        raise DataError(
            path,
            f"has {len(array)} channels that differ, while a label image has one number a pixel",
            remedy="Export it with one channel.",
        )
    array = array[0]
    if array.dtype.kind == "f":
        array = np.asarray(array, np.result_type(array, np.float32))  # half floats cannot tell
        whole = (np.abs(array) < LARGEST) & (array == np.rint(array))
        if not whole.all():
            wrong = array[~whole].flat[0]
            raise DataError(
                path,
                "a label image holds whole numbers: 0 for background, 1, 2, … for the rest",
                value=f"{wrong:g}",
                remedy="Export labels, not probabilities or intensities.",
            )
        array = np.asarray(array, np.int64)
    if array.dtype.kind == "i" and array.min() < 0:
        raise DataError(
            path,
            "a label image holds numbers of 0 or more",
            value=str(array.min()),
            remedy="Give what is to be ignored a class of its own, or 0.",
        )
    return array


def _frames(found: LabelledSet) -> Iterator[tuple[LabelledImage, np.ndarray]]:
    for pair in found.images:
        for frame in range(pair.label.frames):
            yield pair, read_label(pair.label, frame)


def _look(found: LabelledSet) -> _Seen:
    """Read every label image of a set."""
    seen = _Seen(found.field[1])
    inside: dict[str, bool] = {}
    for pair, label in _frames(found):
        values = [int(v) for v in np.unique(label)]
        objects = [v for v in values if v]
        seen.values.update(values)
        seen.floats |= pair.label.info.dtype.kind == "f"
        seen.wide |= pair.label.info.dtype.itemsize > 1 and pair.label.info.dtype.kind != "f"
        seen.zeros += int((label == 0).sum())
        seen.pixels += label.size
        seen.pieces += _in_one_piece(label, len(objects))
        seen.counts.add(len(objects))
        seen.consecutive &= objects == list(range(1, len(objects) + 1))
        inside[pair.name] = inside.get(pair.name, False) or bool(objects)
    seen.empty = [name for name, held in inside.items() if not held]
    return seen


def _in_one_piece(label: np.ndarray, objects: int) -> list[bool]:
    """Return for each number but 0 whether its pixels hang together.

    One labelling serves all numbers: pixels are joined where they are neighbours of one number.
    """
    if not objects or objects > np.iinfo(np.int16).max:
        return [True] * objects
    pieces, count = _join(label, background=0, return_num=True)
    first = np.zeros(count + 1, np.int64)
    first[pieces.ravel()] = label.ravel()
    numbers, times = np.unique(first[1:], return_counts=True)
    return [bool(t == 1) for n, t in zip(numbers, times, strict=True) if n]


def _refuse_uniform(seen: _Seen) -> None:
    """Refuse a set in which there is one number only.

    Raises
    ------
    DataError
        There is nothing to tell apart.
    """
    if len(seen.values) > 1:
        return
    (only,) = seen.values
    what = "background" if only == 0 else "the same"
    raise DataError(
        seen.folder,
        f"every pixel of all its label images is {what} ({only}), so there is nothing to learn",
        remedy="Give label images with 0 for background and other numbers for what to find.",
    )


def _decide(seen: list[_Seen], values: tuple[int, ...]) -> LabelScheme:
    """Return the scheme that fits what was seen."""
    objects = [v for v in values if v]
    if len(values) == 2 or set(values) == {0, 1, BYTE}:  # noqa: PLR2004
        return _binary(values)
    if len(objects) > MOST_CLASSES or objects[-1] > BYTE or _are_objects(seen):
        return _instances(seen)
    names = ("background", *(f"class {v}" for v in values[1:]))
    first = "" if values[0] == 0 else f" {values[0]} is taken for background."
    note = f"The labels are {len(values)} classes ({', '.join(map(str, values))}).{first}"
    return LabelScheme("classes", values, names, note)


def _binary(values: tuple[int, ...]) -> LabelScheme:
    """Return the scheme of two classes."""
    first, *others = values
    if len(others) > 1:
        note = f"{first} is read as background, {' and '.join(map(str, others))} as foreground."
    else:
        note = f"The labels are two classes: {first} background, {others[0]} foreground."
    return LabelScheme("binary", (first, others[0]), ("background", "foreground"), note)


def _are_objects(seen: list[_Seen]) -> bool:
    """Tell few numbers that count objects from classes: each in one piece, and counted from 1.

    Bytes are used for classes as much as for objects; there the images must also hold unlike
    numbers of them.
    """
    pieces = [piece for one in seen for piece in one.pieces]
    if not pieces or sum(pieces) < IN_ONE_PIECE * len(pieces):
        return False
    if not all(one.consecutive for one in seen):
        return False
    unlike = len(set().union(*(one.counts for one in seen)) - {0}) > 1
    return all(one.wide for one in seen) or unlike


def _instances(seen: list[_Seen]) -> LabelScheme:
    """Return the scheme of instances: inside and border, or borders alone where they fill all."""
    dense = sum(one.zeros for one in seen) < DENSE * sum(one.pixels for one in seen)
    if dense:
        note = (
            "The labels are instances that fill the images: their borders are learnt "
            "(2 classes: background, boundary)."
        )
        return LabelScheme("instances", (), ("background", "boundary"), note, dense=True)
    note = (
        "The labels are instances: they are learnt as foreground and boundary "
        "(3 classes: background, foreground, boundary), so that touching objects stay apart."
    )
    return LabelScheme("instances", (), ("background", "foreground", "boundary"), note)
