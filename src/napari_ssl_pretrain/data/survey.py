"""What would be trained on: every image's header, what is skipped and why; no pixels."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from napari_ssl_pretrain.data.boxes import EXACT_BYTES, SAMPLE_BOXES, is_large, is_sampled
from napari_ssl_pretrain.data.discovery import find_images
from napari_ssl_pretrain.data.opening import (
    Found,
    open_image,
    read_header,
    refuse_channels,
    refuse_flat,
)
from napari_ssl_pretrain.errors import ConfigError, DataError
from napari_ssl_pretrain.spec.summary import DataSummary

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ssl_pretrain.data.images import Image, ImageInfo
    from napari_ssl_pretrain.spec.config import DataConfig

__all__ = ["Skipped", "Survey", "open_image", "survey", "survey_steps"]

Progress = Callable[[int, int], None]
_NAMED = 3

THREADS = 8
_FEW, _WINDOW, _SECONDS = 64, 512, 0.1
_SLOW = 10
"""Files come slowly where the first few take so many times the processor's time."""


@dataclass(frozen=True)
class Skipped:
    """A file that is not used.

    Attributes
    ----------
    path
        The file.
    reason
        The rule that it breaks, and the remedy.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class Survey:
    """The images of a run.

    Attributes
    ----------
    train, validation, test
        The images of each set; ``validation`` is empty where it is to be taken from ``train``.
    skipped
        Files that are not used, and why.
    notes
        What was assumed on reading.
    ndim
        2 or 3.
    in_channels
        Channels that are used.
    axes
        Stored axes of the first training image.
    voxel_size
        Spacing of each spatial axis of the first training image that says so, else None.
    """

    train: tuple[Image, ...]
    validation: tuple[Image, ...]
    test: tuple[Image, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    ndim: int
    in_channels: int
    axes: str
    voxel_size: tuple[float, ...] | None

    def summary(self) -> DataSummary:
        """Return the training images in numbers."""
        shapes = tuple(image.spatial for image in self.train for _ in range(image.frames))
        return DataSummary(self.ndim, self.in_channels, shapes, self.voxel_size)


def survey(config: DataConfig, *, progress: Progress | None = None) -> Survey:
    """Read the headers of all images that a configuration names.

    Parameters
    ----------
    config
        Which images.
    progress
        Told the number of headers read, and of all; of many images now and then.

    Raises
    ------
    ConfigError
        A path does not exist, ``ndim``, ``axes`` or ``channels`` do not fit the images, or none
        of a set can be used.
    """
    steps, told = survey_steps(config, THREADS), 0.0
    while True:
        try:
            done, total = next(steps)
        except StopIteration as end:
            found: Survey = end.value
            return found
        now = time.monotonic()
        if progress is not None and (total <= _FEW or done == total or now - told > _SECONDS):
            told = now
            progress(done, total)


def survey_steps(config: DataConfig, threads: int = 1) -> Generator[tuple[int, int], None, Survey]:
    """Do as :func:`survey` does, step by step: yield the number of headers read, and of all.

    Parameters
    ----------
    config
        Which images.
    threads
        How many read headers at a time, which pays where files come slowly.

    Raises
    ------
    ConfigError
        As in :func:`survey`.
    """
    given = {"train": config.train, "validation": config.validation, "test": config.test}
    paths = {s: find_images(f"data.{s}", texts) for s, texts in given.items() if texts}
    reading, found = _Reading(config, sum(map(len, paths.values())), threads), {}
    for which, files in paths.items():
        found[which] = yield from reading.headers(which, files)
    ndim = _ndim(config.ndim, found["train"])
    channels = _channels(config.channels, found["train"])
    sets = {s: reading.fitting(s, files, ndim, channels) for s, files in found.items()}
    train = sets["train"]
    voxel_size, differing = _voxel_size(train)
    return Survey(
        train,
        sets.get("validation", ()),
        sets.get("test", ()),
        tuple(reading.skipped),
        (
            *_notes(image.info for images in sets.values() for image in images),
            *differing,
            *_shared(sets),
            *_large(image for images in sets.values() for image in images),
        ),
        ndim,
        train[0].in_channels,
        train[0].info.axes,
        voxel_size,
    )


class _Reading:
    """The state of one survey: what was skipped, and how far it is."""

    def __init__(self, config: DataConfig, total: int, threads: int) -> None:
        self.config = config
        self.total = total
        self.threads = threads
        self.done = 0
        self.skipped: list[Skipped] = []

    def headers(
        self, which: str, paths: list[Path]
    ) -> Generator[tuple[int, int], None, list[Found]]:
        """Read the headers of one set; skip files that cannot be read."""
        found: list[Found] = []
        before = len(self.skipped)
        misfit: ConfigError | None = None
        for path, outcome in self._outcomes(paths):
            if isinstance(outcome, Found):
                found.append(outcome)
            elif isinstance(outcome, DataError):
                reason = f"{outcome.rule}. {outcome.remedy}".strip()
                self.skipped.append(Skipped(path, reason))
            else:
                misfit = misfit or outcome
                self.skipped.append(Skipped(path, f"{outcome}"))
            self.done += 1
            yield self.done, self.total
        if not found and misfit is not None:
            raise misfit
        if not found:
            raise self._none_left(which, paths, self.skipped[before:])
        return found

    def _outcomes(
        self, paths: list[Path]
    ) -> Iterator[tuple[Path, Found | DataError | ConfigError]]:  # fmt: skip
        """Read headers in order, some files ahead where files come slowly."""
        began, used = time.perf_counter(), time.thread_time()
        tried, rest = [(path, self._try(path)) for path in paths[:_FEW]], paths[_FEW:]
        waited = time.perf_counter() - began > _SLOW * (time.thread_time() - used)
        yield from tried
        if self.threads == 1 or not rest or not waited:  # threads would wait for each other
            yield from ((path, self._try(path)) for path in rest)
            return
        with ThreadPoolExecutor(self.threads, thread_name_prefix="headers") as pool:
            for first in range(0, len(rest), _WINDOW):
                some = rest[first : first + _WINDOW]
                yield from zip(some, pool.map(self._try, some), strict=True)

    def _try(self, path: Path) -> Found | DataError | ConfigError:
        try:
            return read_header(path, self.config.axes)
        except (DataError, ConfigError) as error:
            return error

    def fitting(
        self, which: str, files: list[Found], ndim: int, channels: tuple[int, ...] | int
    ) -> tuple[Image, ...]:
        """Return the images of one set that can be learnt from together; skip the others."""
        images: list[Image] = []
        misfits: list[Skipped] = []
        for found in files:
            reason = _misfit(found.info, ndim, channels)
            if reason:
                misfits.append(Skipped(found.info.path, reason))
            else:
                images.append(found.image(ndim, None if isinstance(channels, int) else channels))
        self.skipped += misfits
        if not images:
            raise self._none_left(which, [f.info.path for f in files], misfits)
        return _with_unique_names(images)

    def _none_left(self, which: str, paths: list[Path], skipped: list[Skipped]) -> ConfigError:
        given = getattr(self.config, which)
        value = ", ".join(given[:_NAMED]) + (", …" if len(given) > _NAMED else "")
        first = skipped[0]
        count = "the one file there" if len(paths) == 1 else f"none of the {len(paths)} files there"
        verb = "cannot be used" if len(paths) == 1 else "can be used"
        return ConfigError(
            f"data.{which}",
            f"{count} {verb}; {first.path.name} {first.reason.rstrip('.')}",
            value=value,
        )


def _misfit(info: ImageInfo, ndim: int, channels: tuple[int, ...] | int) -> str:
    """Return why an image cannot be used with the others; empty if it can."""
    if ndim == 3 and not info.is_volume:  # noqa: PLR2004
        return (
            "is flat, while volumes are trained on. Train on flat images alone, with data.ndim 2."
        )
    if isinstance(channels, int):
        if info.channels != channels:
            return (
                f"has {info.channels} channel{'s' * (info.channels != 1)} where most images "
                f"have {channels}. Choose common ones with data.channels."
            )
    elif max(channels) >= info.channels:
        return f"has no channel {max(channels)}, only {info.channels}. Correct data.channels."
    return ""


def _ndim(wanted: Literal["auto", 2, 3], found: list[Found]) -> int:
    """Return the dimensions to train in: those of most images, 2 if they tie."""
    volumes = sum(f.info.is_volume for f in found)
    if wanted == "auto":
        return 3 if volumes * 2 > len(found) else 2
    if wanted == 3 and not volumes:  # noqa: PLR2004
        refuse_flat(found[0].info)
    return wanted


def _channels(
    wanted: Literal["all"] | tuple[int, ...], found: list[Found]
) -> tuple[int, ...] | int:
    """Return the channels to take, or the number that images must have to take all.

    Raises
    ------
    ConfigError
        No image has them, or one is named twice.
    """
    if wanted == "all":
        counts = Counter(f.info.channels for f in found)
        return max(counts, key=lambda n: counts[n])
    most = max(found, key=lambda f: f.info.channels)
    if max(wanted) >= most.info.channels:
        refuse_channels(wanted, most.info)
    if len(set(wanted)) != len(wanted):
        raise ConfigError("data.channels", "must name each channel once", value=list(wanted))
    return wanted


def _with_unique_names(images: list[Image]) -> tuple[Image, ...]:
    """Append the format, then a number, to names that clash on any file system."""
    clashing = Counter(image.info.name.casefold() for image in images)
    taken: set[str] = set()
    named = []
    for image in images:
        name = image.info.name
        if clashing[name.casefold()] > 1:
            name = f"{name}_{image.info.path.suffix.lstrip('.').lower()}".rstrip("_")
        unique, number = name, 1
        while unique.casefold() in taken:
            number += 1
            unique = f"{name}_{number}"
        taken.add(unique.casefold())
        named.append(image if unique == image.info.name else image.renamed(unique))
    return tuple(named)


def _voxel_size(images: tuple[Image, ...]) -> tuple[tuple[float, ...] | None, tuple[str, ...]]:
    """Return the first voxel size known, and a note where another image's proportions differ."""
    sizes = [(image.info, image.voxel_size) for image in images if image.voxel_size]
    if not sizes or sizes[0][1] is None:
        return None, ()
    info, first = sizes[0]
    for other, size in sizes:
        ratio = [b / a for a, b in zip(first, size or first, strict=True)]
        if max(ratio) > 1.1 * min(ratio):
            return first, (
                f"voxel proportions differ: {info.path.name} {_times(first)}, "
                f"{other.path.name} {_times(size or first)}; the first are used",
            )
    return first, ()


def _times(numbers: tuple[float, ...]) -> str:
    return " x ".join(f"{n:.4g}" for n in numbers)


def _notes(infos: Iterable[ImageInfo]) -> tuple[str, ...]:
    """Tell each note once, with the images that it concerns."""
    told: dict[str, list[str]] = {}
    for info in infos:
        for note in filter(None, info.note.split("; ")):
            told.setdefault(note, []).append(info.path.name)
    return tuple(f"{_listed(names)}: {note}" for note, names in told.items())


def _shared(sets: dict[str, tuple[Image, ...]]) -> tuple[str, ...]:
    """Tell of images that are learnt from and scored on: those scores mean little."""
    others = {which: sets[which] for which in ("validation", "test") if which in sets}
    # realpath() is twice as quick as resolve(), and there may be very many images
    learnt = {os.path.realpath(i.info.path) for i in sets["train"]} if others else set()
    notes = []
    for which, images in others.items():
        shared = [i.info.path for i in images if os.path.realpath(i.info.path) in learnt]
        if shared:
            names = _listed([path.name for path in shared])
            notes.append(f"{names}: both in data.train and in data.{which}")
    return tuple(notes)


def _large(images: Iterable[Image]) -> tuple[str, ...]:
    """Tell what is done differently with images that no memory holds."""
    large = [image for image in images if is_large(image)]
    huge = [image.info.path.name for image in large if is_sampled(image)]
    notes = []
    if large:
        names = _listed([image.info.path.name for image in large])
        notes.append(f"{names}: large, so what is made of it is written by tile, as OME-Zarr")
    if huge:
        notes.append(
            f"{_listed(huge)}: over {EXACT_BYTES >> 30} GB, so its brightness is measured on "
            f"{SAMPLE_BOXES} boxes spread over it"
        )
    return tuple(notes)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
