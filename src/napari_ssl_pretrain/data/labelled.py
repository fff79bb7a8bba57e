"""Images paired with their label images by name; shapes checked, nothing decoded."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from napari_ssl_pretrain.data.discovery import find_images
from napari_ssl_pretrain.data.images import Image
from napari_ssl_pretrain.data.opening import image_name, read_header
from napari_ssl_pretrain.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ssl_pretrain.data.images import ImageInfo
    from napari_ssl_pretrain.data.opening import Found

ENDINGS = ("_label", "_labels", "_mask", "_masks", "_cp_masks", "_seg", "_gt")
"""A label image may be called as its image with one of these."""

_NAMED = 3
_VOLUME = 3


@dataclass(frozen=True)
class LabelledImage:
    """An image and its label image, opened lazily.

    Attributes
    ----------
    name
        Name of the image, unique in its set.
    image
        The intensities.
    label
        The label image: the same frames and pixels.
    """

    name: str
    image: Image
    label: Image


@dataclass(frozen=True)
class LabelledSet:
    """Labelled images that can be learnt from together.

    Attributes
    ----------
    images
        The pairs, in the order people count in.
    ndim
        2 or 3.
    in_channels
        Channels of each image.
    voxel_size
        Spacing of each spatial axis, of the first image that says so, else None.
    skipped
        One sentence for each file that is not used.
    notes
        What was assumed on reading.
    field
        What the user calls the two folders.
    """

    images: tuple[LabelledImage, ...]
    ndim: int
    in_channels: int
    voxel_size: tuple[float, ...] | None
    skipped: tuple[str, ...]
    notes: tuple[str, ...]
    field: tuple[str, str] = ("--images", "--labels")


def open_labelled(  # noqa: PLR0913 - one name for each thing that a user says
    images: str,
    labels: str,
    *,
    field: tuple[str, str] = ("--images", "--labels"),
    axes: str = "auto",
    strict: bool = True,
    ndim: Literal["auto", 2, 3] = "auto",
    channels: Literal["all"] | Sequence[int] = "all",
) -> LabelledSet:
    """Pair images with label images by name and read their headers.

    Parameters
    ----------
    images, labels
        A folder, a glob or a file each; formats and endings may differ.
    field
        What the user calls the two, for errors.
    axes
        Axes of the images as stored, or ``auto``; labels have the same without channels.
    strict
        Leave images out that cannot have these axes, or read them as their files say.
    ndim
        2 to loop over planes, 3 for volumes, ``auto`` to follow the first image.
    channels
        Channels of the images to use, or ``all``.

    Raises
    ------
    ConfigError
        A folder is missing or empty, both are the same, or no image has the axes given.
    DataError
        No image has a label image, none can be used, or one has another shape than its labels.
    """
    _refuse_same(images, labels, field)
    found = _by_name(field[0], find_images(field[0], [images]))
    others = _by_name(field[1], find_images(field[1], [labels]))
    matched = _match(found, others)
    skipped = [
        f"{path.name}: has no label image of the same name and is left out"
        for name, path in found.items()
        if name not in matched
    ]
    if not matched:
        _refuse_unmatched(field[1], labels, found, others)
    spare = [path for path in others.values() if path not in matched.values()]
    skipped += [f"{path.name}: is a label image without an image" for path in spare]
    reader = _Reader(field, (axes, strict), ndim, channels)
    pairs = [reader.pair(name, found[name], path) for name, path in matched.items()]
    kept = reader.fitting([pair for pair in pairs if pair is not None], images)
    return LabelledSet(
        tuple(kept),
        kept[0].image.ndim,
        kept[0].image.in_channels,
        next((p.image.voxel_size for p in kept if p.image.voxel_size), None),
        (*skipped, *reader.skipped),
        _notes(kept),
        field,
    )


def _refuse_same(images: str, labels: str, field: tuple[str, str]) -> None:
    if len({os.path.realpath(Path(given).expanduser()) for given in (images, labels)}) == 1:
        raise ConfigError(
            field[1],
            f"is the same as {field[0]}",
            value=labels,
            remedy="Give the folder of the label images.",
        )


def _by_name(field: str, paths: list[Path]) -> dict[str, Path]:
    """Return files by their name without its ending.

    Raises
    ------
    DataError
        Two files share a name.
    """
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(image_name(path), path)
        if other is not path:
            raise DataError(
                field,
                f"both are called {image_name(path)}, so they cannot be told apart",
                value=f"{other.name}, {path.name}",
                remedy="Remove or rename one.",
            )
    return found


def _refuse_unmatched(
    field: str, given: str, images: dict[str, Path], labels: dict[str, Path]
) -> NoReturn:
    """Refuse labels of which none belongs to an image.

    Raises
    ------
    DataError
        Always.
    """
    first, label = next(iter(images.values())), next(iter(labels.values()))
    raise DataError(
        field,
        f"has no label image for any of {len(images)} images; {first.name} needs one called "
        f"{first.stem} with any ending, there are {label.name} and such",
        value=given,
        remedy="Name label images as their images.",
    )


def _match(images: dict[str, Path], labels: dict[str, Path]) -> dict[str, Path]:
    """Return the label image of each image that has one, by the image's name."""
    matched = {}
    for name in images:
        path = next((labels[w] for w in (name, *(name + e for e in ENDINGS)) if w in labels), None)
        if path is not None:
            matched[name] = path
    return matched


class _Reader:
    """Opens pairs; remembers what was skipped."""

    def __init__(
        self,
        field: tuple[str, str],
        axes: tuple[str, bool],
        ndim: Literal["auto"] | int,
        channels: Literal["all"] | Sequence[int],
    ) -> None:
        self.field = field
        self.axes, self.strict = axes[0].upper() if axes[0] != "auto" else "auto", axes[1]
        self._misnamed: ConfigError | None = None
        self.ndim = ndim
        self.channels = None if channels == "all" else tuple(channels)
        self.skipped: list[str] = []

    def pair(self, name: str, path: Path, label: Path) -> LabelledImage | None:
        """Open one pair; None where the image cannot be used.

        Raises
        ------
        DataError
            The label image cannot be read, or has another shape.
        """
        try:
            found = self._header(path)
        except DataError as error:
            self.skipped.append(f"{path.name}: {error.rule}")
            return None
        except ConfigError as error:
            self._misnamed = self._misnamed or error
            self.skipped.append(error.rule)  # begins with the name
            return None
        if self.ndim == "auto":
            self.ndim = _VOLUME if found.info.is_volume else 2
        dims = int(self.ndim)
        reason = self._misfit(found.info, dims)
        if reason:
            self.skipped.append(f"{path.name}: {reason}")
            return None
        image = found.image(dims, self.channels).renamed(name)
        given = self.axes == found.info.axes
        return LabelledImage(name, image, _open_label(label, image, given=given))

    def _header(self, path: Path) -> Found:
        """Read the header of an image.

        Raises
        ------
        ConfigError
            It does not have the axes given, and has to.
        """
        try:
            return read_header(path, self.axes)
        except ConfigError:
            if self.strict:
                raise
        found = read_header(path)
        note = f"cannot have the axes {self.axes} of the pretraining and is read as"
        notes = (found.info.note, f"{note} {found.info.axes}")
        return replace(found, info=replace(found.info, note="; ".join(filter(None, notes))))

    def _misfit(self, info: ImageInfo, ndim: int) -> str:
        if ndim == _VOLUME and not info.is_volume:
            return "is flat, while the network takes volumes"
        if self.channels is not None and max(self.channels) >= info.channels:
            return f"has no channel {max(self.channels)}, only {info.channels}"
        return ""

    def fitting(self, pairs: list[LabelledImage], given: str) -> list[LabelledImage]:
        """Return the pairs with the number of channels that most have.

        Raises
        ------
        ConfigError
            No pair is left, since none has the axes given.
        DataError
            No pair is left.
        """
        if not pairs and self._misnamed:
            error = self._misnamed
            raise ConfigError("--axes", error.rule, value=error.value, remedy=error.remedy)
        if not pairs:
            raise DataError(
                self.field[0],
                f"none of the labelled images can be used; {self.skipped[0]}",
                value=given,
                remedy="Give images as those that the network was pretrained on.",
            )
        common = Counter(p.image.in_channels for p in pairs).most_common(1)[0][0]
        for pair in pairs:
            if pair.image.in_channels != common:
                name, count = pair.image.info.path.name, pair.image.in_channels
                self.skipped.append(
                    f"{name}: number of channels {count}, while most images have {common}"
                )
        return [pair for pair in pairs if pair.image.in_channels == common]


def _label_header(path: Path, image: Image, *, given: bool) -> Found:
    """Read the header of a label image; axes given for its image hold for it, but for channels."""
    if given:
        wanted = _wanted(image.info)
        try:
            found = read_header(path, "".join(wanted))
        except ConfigError:
            return read_header(path)
        if found.info.shape == tuple(wanted.values()):
            return found
    return read_header(path)


def _open_label(path: Path, image: Image, *, given: bool) -> Image:
    """Open a label image so that its frames and pixels are those of its image.

    Raises
    ------
    DataError
        It cannot be read, or has another shape.
    """
    found = _label_header(path, image, given=given)
    axes = _label_axes(found, image)
    if axes is None:
        wanted = " x ".join(str(n) for n in _wanted(image.info).values())
        have = " x ".join(map(str, found.info.shape))
        raise DataError(
            path,
            f"has the shape {have}, while its image {image.info.path.name} has {wanted}",
            remedy="Give a label image of the same shape.",
        )
    note = "; ".join(n for n in found.info.note.split("; ") if "axes not stored" not in n)
    info = replace(found.info, axes=axes, note=note)
    opened = Image(info, found.header.pixels, image.ndim)
    if image.ndim == _VOLUME and "Z" not in axes:
        raise DataError(path, "is flat, while its image is a volume", remedy="Export the volume.")
    return opened


def _wanted(info: ImageInfo) -> dict[str, int]:
    """Return the length of each axis that a label image shares with its image."""
    return {a: n for a, n in zip(info.axes, info.shape, strict=True) if a not in "CS"}


def _label_axes(found: Found, image: Image) -> str | None:
    """Return letters for the stored axes of a label image, or None where it has another shape.

    What the file says of its axes is believed where it fits; else the image's own order is
    tried, since label images are often saved without a word about their axes.
    """
    wanted = _wanted(image.info)
    info = found.info
    lengths = {a: n for a, n in zip(info.axes, info.shape, strict=True) if a not in "CS"}
    if all(lengths.get(a, 1) == wanted.get(a, 1) for a in {*lengths, *wanted}):
        return info.axes
    order = [a for a in wanted if wanted[a] > 1 or a in "YX"]
    long = [k for k, n in enumerate(info.shape) if n > 1]
    if [info.shape[k] for k in long] == [wanted[a] for a in order]:
        spare = iter([a for a in "TZCS" if a not in order])
        letters = dict(zip(long, order, strict=True))
        return "".join(letters.get(k) or next(spare) for k in range(len(info.shape)))
    return None


def _notes(pairs: list[LabelledImage]) -> tuple[str, ...]:
    """Tell each note once, with the images that it concerns."""
    told: dict[str, list[str]] = {}
    for info in (i.info for pair in pairs for i in (pair.image, pair.label)):
        for note in filter(None, info.note.split("; ")):
            said = note.replace("set data.axes", "set --axes")
            told.setdefault(said, []).append(info.path.name)
    return tuple(f"{listed(names)}: {note}" for note, names in told.items())


def listed(names: Sequence[str]) -> str:
    """Name the first few and count the others."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
