"""``check``: what would be trained on; trains nothing."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_ssl_pretrain.cli import text
from napari_ssl_pretrain.cli.output import make_progress
from napari_ssl_pretrain.cli.parser import UsageError
from napari_ssl_pretrain.cli.source import apply_options, load_config
from napari_ssl_pretrain.data.survey import Survey, survey
from napari_ssl_pretrain.errors import DataError
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.config import PretrainConfig

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator, Sequence

    from napari_ssl_pretrain.cli.report import Report
    from napari_ssl_pretrain.data.images import Image

TELL_SECONDS = 0.2
SETS = ("train", "validation", "test")


@dataclass(frozen=True)
class Pixels:
    """What ``--full`` found in one image.

    Attributes
    ----------
    low, high
        Smallest and largest finite value, or None where there is none.
    not_finite
        Number of NaN and infinite pixels.
    damage
        Why the pixels cannot be read; empty where they can.
    """

    low: float | None = None
    high: float | None = None
    not_finite: int = 0
    damage: str = ""

    def __str__(self) -> str:
        if self.damage:
            return self.damage
        if self.low is None:
            return "no finite pixel"
        shown = f"{self.low:.5g} to {self.high:.5g}"
        return f"{shown}, {self.not_finite} not finite" if self.not_finite else shown


def command(args: Namespace) -> int:
    """Show the images, what is skipped, and what would be chosen for them."""
    configs, notes = _configs(args)
    report = make_progress()
    try:
        found = survey(configs[0].data, progress=_teller("scan", report))
        pixels = read_all(found, _teller("pixels", report)) if args.full else {}
    finally:
        report.close()
    if args.json:
        fields = as_json(found, pixels)
        fields["notes"] = [*notes, *fields["notes"]]
        fields["plans"] = [plan(config, found) for config in configs]
        print(json.dumps(fields, indent=2))
        return 0
    for line in [*map(text.wrapped, notes), image_table(found, pixels), *_said(found)]:
        print(text.plain(line), flush=True)
    for config in configs:
        for line in plan_lines(plan(config, found)):
            print(text.plain(line), flush=True)
    return 0


def _configs(args: Namespace) -> tuple[list[PretrainConfig], list[str]]:
    """Return the configuration asked for, or one a task for a bare folder; and notes.

    Raises
    ------
    UsageError
        Neither or both of ``DIR`` and ``--config`` are given.
    """
    if (args.images is None) == (args.config is None):
        remedy = "For example `napari-ssl-pretrain check my_images/`."
        raise UsageError("check", "needs either a folder or --config", remedy=remedy)
    if args.config is not None:
        loaded = load_config(args)
        return [loaded.config], list(loaded.notes)
    configs = []
    for task in ("crappify", "masking"):
        fields: dict[str, Any] = {"data": _tree(Path(args.images)), "pretext": {"task": task}}
        apply_options(fields, args)
        configs.append(PretrainConfig.from_dict(fields))
    return (configs[:1] if configs[0].pretext == configs[1].pretext else configs), []


def _tree(folder: Path) -> dict[str, str]:
    """Return the sets of a folder: ``train/x`` and ``test/x`` in it, ``x`` in it, or itself."""
    found = {}
    for name in SETS:
        inside = next((p for p in (folder / name / "x", folder / name) if p.is_dir()), None)
        if inside:
            found[name] = str(inside)
    if "train" in found:
        return found
    return {"train": str(folder / "x" if (folder / "x").is_dir() else folder)}


def _images(found: Survey) -> Iterator[tuple[str, Image]]:
    for name in SETS:
        for image in getattr(found, name):
            yield name, image


def _teller(stage: Literal["scan", "pixels"], report: Report) -> Callable[[int, int], None]:
    """Return what is told how much is done, and of how much; it passes that on with the time."""
    began = told = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told > TELL_SECONDS:
            told, left = now, (now - began) * (total - done) / max(1, done)
            report(ev.Progress(stage=stage, done=done, total=total, seconds_left=left))

    return tell


def read_all(found: Survey, tell: Callable[[int, int], None]) -> dict[Path, Pixels]:
    """Read every image whole; ``tell`` is told how many pixels are read, and how many there are."""
    images = [image for _, image in _images(found)]
    total, before = sum(map(_pixel_count, images)), 0
    read: dict[Path, Pixels] = {}
    for image in images:
        read[image.info.path] = read_pixels(image, partial(_tell_more, tell, before, total))
        before += _pixel_count(image)
    return read


def _tell_more(tell: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    tell(before + done, total)


def _pixel_count(image: Image) -> int:
    return image.frames * image.in_channels * math.prod(image.spatial)


def read_pixels(image: Image, tell: Callable[[int], None]) -> Pixels:
    """Read an image whole, slab by slab; ``tell`` is told how many pixels are read."""
    import numpy as np  # noqa: PLC0415 - with the images

    done = 0
    lows, highs, not_finite = [], [], 0
    try:
        for frame in range(image.frames):
            for region in _slabs(image.spatial):
                block = image.read(frame, region)
                done += block.size
                tell(done)
                finite = block[np.isfinite(block)] if block.dtype.kind == "f" else block.ravel()
                not_finite += block.size - finite.size
                if finite.size:
                    lows.append(float(finite.min()))
                    highs.append(float(finite.max()))
    except DataError as error:
        return Pixels(damage=f"{error.rule}. {error.remedy}".strip())
    return Pixels(min(lows, default=None), max(highs, default=None), not_finite)


def _slabs(spatial: Sequence[int], pixels: int = 2**24) -> Iterator[tuple[slice, ...]]:
    plane = max(1, spatial[1] * (spatial[2] if len(spatial) > 2 else 1))  # noqa: PLR2004
    thick = max(1, pixels // plane)
    for start in range(0, spatial[0], thick):
        first = slice(start, min(start + thick, spatial[0]))
        yield (first, *(slice(0, n) for n in spatial[1:]))


def image_table(found: Survey, pixels: dict[Path, Pixels]) -> str:
    """Return one row an image."""
    header = ["image", "set", "axes", "shape", "dtype", "channels", "pixel size"]
    header += ["range"] if pixels else []
    rows = []
    for name, image in _images(found):
        info = image.info
        channels = str(image.in_channels)
        if image.in_channels != info.channels:
            channels = f"{channels} of {info.channels}"
        row = [info.path.name, name, info.axes, text.by(info.shape), str(info.dtype), channels]
        rows.append([*row, _spacing(image), *([str(pixels[info.path])] if pixels else [])])
    return text.table(header, rows)


def _spacing(image: Image) -> str:
    info = image.info
    if not info.pixel_size:
        return "unknown"
    sizes = " x ".join(f"{info.pixel_size[a]:.4g}" for a in info.axes if a in info.pixel_size)
    return f"{sizes} {info.unit}" if info.unit else sizes


def _said(found: Survey) -> list[str]:
    skipped = dict.fromkeys(f"skipped: {s.path}: {s.reason}" for s in found.skipped)
    lines = list(skipped)  # a file may be in several sets
    lines += [f"note: {note}" for note in found.notes]
    counts = [
        f"{len(getattr(found, name))} to {verb}"
        for name, verb in zip(SETS, ("train", "validate", "test"), strict=True)
        if getattr(found, name)
    ]
    channels = text.count(found.in_channels, "channel")
    return [*lines, f"{', '.join(counts)}; {found.ndim}D, {channels}"]


def plan(config: PretrainConfig, found: Survey) -> dict[str, Any]:
    """Return what would be chosen for these images, and what it takes on this machine."""
    from napari_ssl_pretrain.cli.trial import try_steps  # noqa: PLC0415 - torch: 2 s
    from napari_ssl_pretrain.engine.hardware import find_hardware  # noqa: PLC0415
    from napari_ssl_pretrain.spec.resolve import resolve, unused_keys  # noqa: PLC0415

    resolved = resolve(config, found.summary(), find_hardware(config.compute))
    training, trial = resolved.training, try_steps(resolved, found)
    timed = training.max_minutes
    seconds = trial.seconds_a_step * training.epochs * training.steps_per_epoch
    fits = math.isfinite(seconds)
    return {
        "task": resolved.pretext.task,
        "backbone": resolved.backbone.name,
        "size": resolved.backbone.size,
        "parameters": trial.parameters,
        "patch_size": list(resolved.data.patch_size),
        "batch_size": training.batch_size,
        "epochs": None if timed else training.epochs,
        "steps_per_epoch": training.steps_per_epoch,
        "device": resolved.compute.device,
        "precision": resolved.compute.precision,
        "fits": fits,
        "patches_per_second": training.batch_size / trial.seconds_a_step if fits else None,
        "training_seconds": timed * 60 if timed else seconds if fits else None,
        "memory_gb": trial.memory_gb,
        "device_memory_gb": trial.device_memory_gb,
        "no_effect": unused_keys(config),
    }


def plan_lines(chosen: dict[str, Any]) -> list[str]:
    """Say what would be chosen, in a line, and what it takes, in another."""
    batch = f"{chosen['batch_size']} patches of {text.by(chosen['patch_size'])} a step"
    steps = f"epochs of {chosen['steps_per_epoch']} steps"
    steps = f"{chosen['epochs']} {steps}" if chosen["epochs"] else steps
    size = f"{chosen['size']}, {text.millions(chosen['parameters'])} parameters"
    lines = [
        f"{chosen['task']}: {chosen['backbone']} ({size}), {batch}, {steps}",
        f"  on {chosen['device']} in {chosen['precision']}: {_cost(chosen)}",
    ]
    return lines + [f"  note: {sentence}" for sentence in chosen["no_effect"]]


def _cost(chosen: dict[str, Any]) -> str:
    if not chosen["fits"]:
        return "does not fit into memory; use a smaller training.batch_size or data.patch_size"
    memory = f"{chosen['memory_gb']:.1f} GB of memory"
    if chosen["device_memory_gb"] is not None:
        memory += f" and {chosen['device_memory_gb']:.1f} GB on the device"
    rate = text.rate(chosen["patches_per_second"])
    return f"about {text.duration(chosen['training_seconds'])} of training at {rate}, {memory}"


def as_json(found: Survey, pixels: dict[Path, Pixels]) -> dict[str, Any]:
    """Return everything but the plan, ready for JSON."""
    images = []
    for name, image in _images(found):
        info = image.info
        seen = pixels.get(info.path)
        images.append(
            {
                "set": name,
                "path": str(info.path),
                "axes": info.axes,
                "shape": list(info.shape),
                "dtype": str(info.dtype),
                "channels": image.in_channels,
                "pixel_size": info.pixel_size,
                "unit": info.unit,
                "note": info.note,
                **(
                    {
                        "range": [seen.low, seen.high],
                        "not_finite": seen.not_finite,
                        "damage": seen.damage,
                    }
                    if seen
                    else {}
                ),
            }
        )
    skipped = [{"path": str(s.path), "reason": s.reason} for s in found.skipped]
    return {
        "ndim": found.ndim,
        "in_channels": found.in_channels,
        "images": images,
        "skipped": skipped,
        "notes": list(found.notes),
    }
