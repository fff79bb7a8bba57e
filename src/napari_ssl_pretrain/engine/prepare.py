"""From a configuration to everything that training needs: images, numbers, sources, statistics."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_ssl_pretrain.data.boxes import is_large
from napari_ssl_pretrain.data.intensity import ImageIntensity, measure, training_set_statistics
from napari_ssl_pretrain.data.opening import open_image
from napari_ssl_pretrain.data.patches import PatchSource
from napari_ssl_pretrain.data.regions import Region, all_regions, split_regions
from napari_ssl_pretrain.data.ssl_source import copy_path, measure_worsened, prepare_ssl_source
from napari_ssl_pretrain.data.survey import Survey, survey
from napari_ssl_pretrain.engine.feed import PatchSet
from napari_ssl_pretrain.engine.hardware import find_hardware
from napari_ssl_pretrain.engine.ranks import ALONE, Ranks
from napari_ssl_pretrain.errors import ConfigError, DataError
from napari_ssl_pretrain.pretext import Crappify, Masking
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.resolve import ResolvedConfig, make_task, resolve, unused_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from napari_ssl_pretrain.data.images import Image
    from napari_ssl_pretrain.engine.report import Reporter
    from napari_ssl_pretrain.spec.config import PretrainConfig
    from napari_ssl_pretrain.spec.run_dir import RunDir, Split

TELL_SECONDS = 1.0

PROBE = 512
PROBE_DEPTH = 16
"""Pixels a side, and planes, that are read to find out whether an image can be read at all."""

Custom = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Plan:
    """A job that passed every check; ``custom`` is filled when statistics have been taken."""

    config: ResolvedConfig
    survey: Survey
    task: Crappify | Masking
    custom: Custom | None = None


@dataclass(frozen=True)
class ImageSet:
    """Images with what the network needs to know of each.

    Attributes
    ----------
    clean
        The images as they are.
    worsened
        Their stored copies (crappify), or None; large images that are worsened anew at every
        step have none.
    intensities
        Normalisation by what the network sees; low and high of the clean image.
    """

    clean: Sequence[Image]
    worsened: Sequence[Image | None] | None
    intensities: Sequence[ImageIntensity]


def make_plan(config: PretrainConfig, report: Reporter) -> Plan:
    """Look at images and machine and resolve the configuration; reads headers only.

    Raises
    ------
    ConfigError
        A value is impossible with these images or on this machine.
    DataError
        There is no image to train on.
    """
    hardware = find_hardware(config.compute)
    found = survey(
        config.data,
        progress=lambda done, total: report(ev.Progress(stage="scan", done=done, total=total)),
    )
    resolved = resolve(config, found.summary(), hardware)
    if config.pretext.ssl_source_dir != "auto":
        for split in ("train", "validation", "test"):
            folder = Path(config.pretext.ssl_source_dir) / split
            _refuse_sources(folder, (*found.train, *found.validation, *found.test))
    notes = (*found.notes, *unused_keys(config))
    report(
        ev.DataChecked(
            train=len(found.train),
            validation=len(found.validation),
            test=len(found.test),
            ndim=found.ndim,
            axes=found.axes,
            channels=found.in_channels,
            skipped=tuple(f"{s.path}: {s.reason}" for s in found.skipped),
            notes=notes,
        )
    )
    return Plan(resolved, found, make_task(resolved, found.voxel_size))


def find_readable(images: Sequence[Image]) -> Image:
    """Return the first image whose pixels can be read, before anything is written.

    Raises
    ------
    DataError
        There is none.
    """
    why: DataError | None = None
    for image in images:
        try:
            sides = (PROBE_DEPTH, PROBE, PROBE)[-image.ndim :]
            image.read(0, tuple(slice(0, min(*p)) for p in zip(image.spatial, sides, strict=True)))
        except DataError as error:
            why = error
        else:
            return image
    cause = f"; {why.subject} {why.rule}" if why else ""
    remedy = why.remedy if why else "Give images to train on."
    raise DataError("data.train", f"no image can be read{cause}", remedy=remedy)


def custom_statistics(plan: Plan) -> Custom | None:
    """Return mean and deviation of the training set where ``normalization`` is custom."""
    if plan.config.data.normalization != "custom":
        return None
    return training_set_statistics(plan.survey.train)


def readable(
    images: Iterable[Image],
    skip: Callable[[Image, DataError], None],
    measure_one: Callable[[Image], ImageIntensity],
) -> tuple[list[Image], list[ImageIntensity]]:
    """Measure every image; one whose pixels cannot be read is skipped by name."""
    kept, intensities = [], []
    for image in images:
        try:
            intensities.append(measure_one(image))
        except DataError as error:
            skip(image, error)
        else:
            kept.append(image)
    return kept, intensities


def _teller(
    message: str, report: Reporter, stage: Literal["prepare", "pixels"] = "prepare"
) -> Callable[[int, int], None]:
    """Return what is told how many images, or pixels, are ready; it passes that on now and then."""
    told = [time.monotonic()]

    def tell(done: int, total: int) -> None:
        if done == total or time.monotonic() - told[0] > TELL_SECONDS:
            told[0] = time.monotonic()
            report(ev.Progress(stage=stage, done=done, total=total, message=message))

    return tell


def _counted(images: Sequence[Image], message: str, report: Reporter) -> Iterator[Image]:
    """Pass images on and tell now and then how many were; few are not worth a word."""
    tell = _teller(message, report)
    for done, image in enumerate(images):
        tell(done, len(images))
        yield image


def _measure(plan: Plan, report: Reporter, image: Image) -> ImageIntensity:
    """Measure an image; of a large one it is told how many pixels were read."""
    tell = (
        _teller(f"Measuring {image.info.name}", report, "pixels") if is_large(image) else None
    )  # fmt: skip
    return measure(image, plan.config.data.normalization, plan.custom, progress=tell)


def prepare_images(
    plan: Plan,
    images: Sequence[Image],
    split: Split,
    run: RunDir,
    report: Reporter,
    ranks: Ranks = ALONE,
) -> ImageSet:
    """Measure images and, for crappify, keep worsened copies of them.

    Parameters
    ----------
    plan
        The job.
    images
        Images of one split.
    split
        Names the folder of the worsened copies.
    run
        Where the copies go, unless ``pretext.ssl_source_dir`` says otherwise.
    report
        Told of the progress and of skipped images.
    ranks
        The processes of the run; the first makes the copies and the others wait for them.
    """
    normalization, custom = plan.config.data.normalization, plan.custom

    def skip(image: Image, error: DataError) -> None:
        report(
            ev.Warned(message=f"{image.info.path} is skipped: {error.rule}. {error.remedy}".strip())
        )

    told = _counted(images, f"Measuring {split} images", report)
    clean, intensities = readable(told, skip, partial(_measure, plan, report))
    task = plan.task
    if not isinstance(task, Crappify):
        return ImageSet(clean, None, intensities)
    fresh = plan.config.pretext.fresh and split != "test"
    stored = [image for image in clean if not (fresh and is_large(image))]
    seed = plan.config.training.seed
    folder = run.ssl_source(plan.config.pretext.ssl_source_dir) / split
    if ranks.rank:
        ranks.wait_for(f"copies/{split}")
        paths = [copy_path(folder, image) for image in stored]
    else:
        paths = _make_copies(stored, task, folder, seed, report)
        ranks.tell(f"copies/{split}")
    copies = dict(zip(stored, map(_open_copy, paths, stored), strict=True))
    worsened = [copies.get(image) for image in clean]
    told = _counted(clean, f"Measuring worsened {split} images", report)
    seen = [
        measure(copy, normalization, custom)
        if copy is not None
        else measure_worsened(image, task, seed, normalization, custom)
        for image, copy in zip(told, worsened, strict=True)
    ]
    both = [replace(s, low=c.low, high=c.high) for s, c in zip(seen, intensities, strict=True)]
    return ImageSet(clean, worsened, both)


def _make_copies(
    images: Sequence[Image], task: Crappify, folder: Path, seed: int, report: Reporter
) -> list[Path]:
    told = _teller(f"Worsening {folder.name} images", report)
    return prepare_ssl_source(images, task, folder, seed, told)


def _refuse_sources(folder: Path, images: Sequence[Image]) -> None:
    """Keep the worsened copies out of the user's image folders.

    Raises
    ------
    ConfigError
        The folder holds images of the user.
    """
    here = folder.resolve()
    for image in images:
        if image.info.path.resolve().parent == here:
            raise ConfigError(
                "pretext.ssl_source_dir",
                "is a folder of your images",
                value=folder,
                remedy="Choose another folder, or auto for the result folder.",
            )


def _open_copy(path: Path, image: Image) -> Image:
    """Open a worsened copy as its source was opened; all its channels are the selected ones."""
    axes = "auto" if is_large(image) else image.info.axes
    return open_image(path, axes=axes, ndim=3 if image.ndim == 3 else 2)  # noqa: PLR2004


def patch_sets(
    plan: Plan, train: ImageSet, validation: ImageSet | None
) -> tuple[PatchSet, PatchSet | None]:
    """Return where training and validation patches come from; they share no pixel.

    Parameters
    ----------
    plan
        The job.
    train
        Training images.
    validation
        Validation images, or None to take a part of the training images.
    """
    config = plan.config
    patch, fraction = config.data.patch_size, config.data.validation_fraction
    if validation is not None and validation.clean:
        return _patch_set(plan, train, all_regions(train.clean)), _patch_set(
            plan, validation, all_regions(validation.clean)
        )
    learn, check = split_regions(train.clean, fraction, patch, config.training.seed)
    return _patch_set(plan, train, learn), _patch_set(plan, train, check) if check else None


def _patch_set(plan: Plan, images: ImageSet, regions: Sequence[Region]) -> PatchSet:
    config = plan.config
    memory = config.compute.memory_gb / 4
    clean = PatchSource(images.clean, regions, config.data.patch_size, memory)
    copies = [copy for copy in images.worsened or () if copy is not None]
    worsened = None
    if copies and not config.pretext.fresh:
        worsened = PatchSource(copies, regions, config.data.patch_size, memory)
    return PatchSet(clean, worsened, images.intensities)
