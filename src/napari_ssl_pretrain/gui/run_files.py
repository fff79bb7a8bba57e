"""What workers read of runs for the dock *Runs*: settings and images. No Qt, no viewer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain.data.survey import open_image
from napari_ssl_pretrain.errors import ConfigError, UserError
from napari_ssl_pretrain.gui import watch
from napari_ssl_pretrain.gui.problem import Problem
from napari_ssl_pretrain.gui.results import (
    KINDS,
    Picture,
    Result,
    ResultReader,
    contrast_limits,
    stored_array,
)
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.config_diff import differences
from napari_ssl_pretrain.spec.event_log import events_of, read_plain
from napari_ssl_pretrain.spec.yaml_io import MAX_BYTES, parse_yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ssl_pretrain.spec import events as ev
    from napari_ssl_pretrain.spec.run_dir import RunDir

OPENED_IMAGES = 4
OFFERED_IMAGES = 300
LONGEST_NAME, LONGEST_PATHS = 255, 8192
PATHS = ("train", "validation", "test")
PRODUCTS = {
    "result": ("restored", "reconstruction"),
    "input": ("worsened", "masked"),
    "result and visible": ("reconstruction_and_visible",),
}
"""What of an image is compared, and the kinds of images that are it."""

Saved = dict[str, "ev.ImageSaved"]


@dataclass(frozen=True)
class Compared:
    """What runs have in common and in what they differ.

    Attributes
    ----------
    runs
        The runs.
    rows
        Dotted paths of settings that differ, with the value in each run.
    images
        Images that all runs made something of: for each thing, the file of each run.
    notes
        Runs whose settings cannot be read.
    """

    runs: tuple[RunDir, ...]
    rows: list[tuple[str, list[str]]]
    images: dict[str, dict[str, list[ev.ImageSaved]]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Panel:
    """A picture among those to compare, and under which name."""

    name: str
    picture: Picture
    about: dict[str, Any]


def read_results(run: RunDir) -> tuple[RunDir, list[Result]]:
    """Read the newest results of a few of a run's images, those made last; say whose they are."""
    images = saved_images(run)
    newest = dict.fromkeys(e.image for e in reversed(images))
    wanted = list(newest)[:OPENED_IMAGES]
    return run, ResultReader().read(e for e in images if e.image in wanted)


def saved_images(run: RunDir) -> list[ev.ImageSaved]:
    """Return the images that become layers, each where it is now, oldest first."""
    found: list[ev.ImageSaved] = []
    folder = ""
    for event in events_of(run, "process_started", "image_saved"):
        if event.kind == "process_started":
            folder = event.folder
        elif event.kind == "image_saved" and event.image_kind in KINDS and can_be_shown(event):
            source = whole(event.source, folder) if event.source else ""
            places = {"path": str(run.here(event.path)), "source": source}
            found.append(event.model_copy(update=places))
    return found


def can_be_shown(event: ev.ImageSaved) -> bool:
    """Whether the name and the paths of an image are no longer than such can be."""
    return len(event.image) <= LONGEST_NAME and len(event.path + event.source) <= LONGEST_PATHS


def read_config(run: RunDir) -> PretrainConfig | Problem:
    """Read the configuration that a run was last started with, its paths whole."""
    try:
        fields, folder = given_fields(run)
        config = PretrainConfig.from_dict(fields)
    except UserError as error:
        return Problem(error)
    data = {
        key: tuple(whole(path, folder) for path in entries)
        for key in PATHS
        if (entries := getattr(config.data, key)) is not None
    }
    copies, start = config.pretext.ssl_source_dir, config.training.load_checkpoint
    if copies != "auto":
        copies = whole(copies, folder)
    if start not in {None, "best", "last"}:
        start = whole(str(start), folder)
    here = {"name": run.name, "run_id": run.run_id, "result_dir": str(run.result_dir)}
    return config.replace(
        data=config.data.model_dump() | data,
        pretext=config.pretext.model_dump() | {"ssl_source_dir": copies},
        training=config.training.model_dump() | {"load_checkpoint": start},
        **here,
    )


def read_template(run: RunDir) -> PretrainConfig | Problem:
    """Read a run's configuration for another run beside it: with the next free number."""
    config = read_config(run)
    if isinstance(config, Problem):
        return config
    return config.replace(run_id=watch.next_run_id(run))


def given_fields(run: RunDir) -> tuple[dict[str, Any], str]:
    """Return the configuration as it was given, and the folder in which its paths begin.

    Raises
    ------
    ConfigError
        It cannot be read.
    """
    started = events_of(run, "process_started")
    if started and started[-1].kind == "process_started":
        return parse_yaml(started[-1].config, str(run.events)), started[-1].folder
    return _yaml(run.config), ""


def _yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file.

    Raises
    ------
    ConfigError
        It cannot be read, or holds no keys and values.
    """
    try:
        text = read_plain(path, MAX_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(
            path, f"cannot be read ({reason})", remedy="Look into the run's folder."
        ) from None
    return parse_yaml(text, str(path))


def whole(path: str, folder: str) -> str:
    """Return a path of a configuration as an absolute one, where it is known to what it is so."""
    if not folder or Path(path).expanduser().is_absolute():
        return path
    return str(Path(folder, path))


def compare(runs: Sequence[RunDir]) -> Compared:
    """Read in what runs differ and what they have in common."""
    given, used, notes = [], [], []
    for run in runs:
        try:
            fields, _ = given_fields(run)
            given.append(completed(fields))
        except UserError as error:
            notes.append(f"{run.run_name}: {error}")
            given.append({})
        try:
            used.append(_yaml(run.resolved_config))
        except UserError:
            used.append({})
    return Compared(tuple(runs), differences(given, used), common_images(runs), tuple(notes))


def completed(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with its defaults; as it is, if it is of another version."""
    try:
        return PretrainConfig.from_dict(fields).to_dict()
    except UserError:
        return fields


def common_images(runs: Sequence[RunDir]) -> dict[str, dict[str, list[ev.ImageSaved]]]:
    """Return the images of which all runs have the same thing, and its newest files."""
    newest: list[dict[tuple[str, str], ev.ImageSaved]] = []
    for run in runs:
        newest.append({})
        for event in saved_images(run):
            product = next((p for p, kinds in PRODUCTS.items() if event.image_kind in kinds), None)
            if product:
                newest[-1][event.image, product] = event
    found: dict[str, dict[str, list[ev.ImageSaved]]] = {}
    for image, product in newest[0] if newest else ():
        files = [events[image, product] for events in newest if (image, product) in events]
        if len(files) == len(runs) and (image in found or len(found) < OFFERED_IMAGES):
            found.setdefault(image, {})[product] = files
    return found


def read_panels(
    runs: Sequence[RunDir], files: Sequence[ev.ImageSaved]
) -> tuple[str, list[Panel]] | Problem:
    """Read one image as each run made it, before them the image itself; return its name too."""
    panels: list[Panel] = []
    for run, event in zip(runs, files, strict=True):
        found = ResultReader().read([event])
        if not found:
            rule, remedy = "cannot be read", "Look into the run's folder."
            return Problem(ConfigError(event.path, rule, remedy=remedy))
        name = f"{found[0].name} ({run.run_name})"
        panels.append(Panel(name, found[0], {"run_name": run.run_name, "file": event.path}))
    source = _source(files[0], panels[0].picture)
    return files[0].image, [source, *panels] if source else panels


def _source(event: ev.ImageSaved, like: Picture) -> Panel | None:
    """Return the image itself, where it is still there and has the channels of the results."""
    if not event.source or not Path(event.source).exists():
        return None
    try:
        image = open_image(event.source, axes="auto")
        data, axes = stored_array(image)
        limits = contrast_limits(image)
    except UserError:
        return None
    if len(limits) != len(like.limits) or tuple(data.shape) != tuple(like.data.shape):
        return None
    picture = Picture(data, axes, like.pixel_size, like.unit, limits)
    return Panel(f"{event.image} original (compared)", picture, {"file": event.source})
