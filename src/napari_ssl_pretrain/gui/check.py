"""*Check*: what would be trained on, as a table, and the numbers that ``auto`` stands for."""

from __future__ import annotations

import html
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_ssl_pretrain.data.survey import survey_steps
from napari_ssl_pretrain.errors import DataError, UserError
from napari_ssl_pretrain.gui.machine import guess_hardware
from napari_ssl_pretrain.gui.plain import plain
from napari_ssl_pretrain.gui.problem import Problem
from napari_ssl_pretrain.gui.remember import speed_key
from napari_ssl_pretrain.gui.watch import Saved, save_layers
from napari_ssl_pretrain.gui.words import duration
from napari_ssl_pretrain.spec.resolve import resolve, unused_keys

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_ssl_pretrain.data.images import Image
    from napari_ssl_pretrain.data.survey import Survey
    from napari_ssl_pretrain.gui.layer_source import LayerSource
    from napari_ssl_pretrain.spec.config import PretrainConfig
    from napari_ssl_pretrain.spec.resolve import ResolvedConfig

SETS = {"train": "train on", "validation": "validate on", "test": "test on"}
HEADER = ("image", "set", "axes", "shape", "type", "ch.", "range", "pixel size")
MAX_ROWS = 500
COUNT_SECONDS = 0.2
"""Time between two counts of headers."""

MAX_RANGES = 100
"""Images of which a sample is read for the range; the headers of all are read."""

SAMPLE_SIDE = 256
SKIPPED_COLOR = "#ffb454"


@dataclass(frozen=True)
class Counted:
    """How many headers were read, of all."""

    done: int
    total: int


@dataclass(frozen=True)
class Row:
    """One line of the table; ``skipped`` says why the image is not used."""

    cells: tuple[str, ...]
    path: str
    skipped: str = ""


@dataclass(frozen=True)
class Report:
    """What was found: the table, what was assumed, and the sentence that sums it up."""

    rows: tuple[Row, ...]
    more: int
    notes: tuple[str, ...]
    plan: str
    summary: str


def check(
    config: PretrainConfig, sources: dict[Path, LayerSource], speeds: dict[str, float]
) -> Generator[Counted | Saved | Problem | None, None, Report | None]:
    """Look at the images and resolve every ``auto``; nothing is trained."""
    try:
        yield from save_layers(sources)
        yield None
        found = yield from _survey(config)
        resolved = resolve(config, found.summary(), guess_hardware(config.compute.device))
        plan = plan_text(found, resolved, speeds)
        rows: list[Row] = []
        images = [(s, image) for s in SETS for image in getattr(found, s)]
        for number, (name, image) in enumerate(images[:MAX_ROWS]):
            yield Counted(number, min(len(images), MAX_ROWS))
            rows.append(image_row(name, image, sampled=number < MAX_RANGES))
        skipped = [_skipped_row(s.path, s.reason) for s in found.skipped[:MAX_ROWS]]
        more = max(0, len(images) - MAX_ROWS) + max(0, len(found.skipped) - MAX_ROWS)
        notes = (*found.notes, *unused_keys(config))
        return Report((*skipped, *rows), more, notes, plan, summary(found))
    except UserError as error:
        yield Problem(error)
        return None


def _survey(config: PretrainConfig) -> Generator[Counted, None, Survey]:
    """Read the headers; by one thread, for more would keep the viewer waiting."""
    steps, told = survey_steps(config.data), time.monotonic()
    while True:
        try:
            done, total = next(steps)
        except StopIteration as end:
            found: Survey = end.value
            return found
        if time.monotonic() - told > COUNT_SECONDS:
            told = time.monotonic()
            yield Counted(done, total)


def summary(found: Survey) -> str:
    """Say in one sentence what was found."""
    sets = [f"{len(getattr(found, s))} {s}" for s in SETS if getattr(found, s)]
    skipped = f", {len(found.skipped)} skipped" if found.skipped else ""
    return f"Checked: {', '.join(sets)} images{skipped}; {found.ndim}D. Nothing was trained."


def image_row(name: str, image: Image, *, sampled: bool) -> Row:
    """Describe one image."""
    info = image.info
    channels = str(image.in_channels)
    if image.in_channels != info.channels:
        channels += f" of {info.channels}"
    shape = " x ".join(map(str, info.shape))
    cells = (info.path.name, name, info.axes, shape, str(info.dtype), channels)
    try:
        span = _range(image) if sampled else ""
    except DataError as error:
        return Row((*cells, "", _spacing(image)), str(info.path), f"{error.rule}. {error.remedy}")
    return Row((*cells, span, _spacing(image)), str(info.path))


def _skipped_row(path: Path, reason: str) -> Row:
    return Row((path.name, "skipped", *("",) * 6), str(path), reason)


def _range(image: Image) -> str:
    """Return the range of a sample of the middle of an image, marked where it is not all of it."""
    region = tuple(
        slice((n - min(n, SAMPLE_SIDE)) // 2, (n + min(n, SAMPLE_SIDE)) // 2) for n in image.spatial
    )
    if image.ndim == 3:  # noqa: PLR2004
        depth = image.spatial[0] // 2
        region = (slice(depth, depth + 1), *region[1:])
    block = image.read(image.frames // 2, region)
    good = block[np.isfinite(block)]
    if not good.size:
        return "no finite pixel"
    about = "" if block.size == image.frames * image.in_channels * math.prod(image.spatial) else "~"
    return f"{about}{good.min():.4g} … {good.max():.4g}"


def _spacing(image: Image) -> str:
    info = image.info
    if not info.pixel_size:
        return "unknown"
    sizes = " x ".join(f"{info.pixel_size[a]:.3g}" for a in info.axes if a in info.pixel_size)
    return f"{sizes} {info.unit or ''}".strip()


def plan_text(found: Survey, resolved: ResolvedConfig, speeds: dict[str, float]) -> str:
    """Say what would be trained, in a few lines of HTML."""
    training, data = resolved.training, resolved.data
    sets = [
        f"{len(getattr(found, name))} to {verb}"
        for name, verb in SETS.items()
        if getattr(found, name)
    ]
    channels = f"{found.in_channels} channel{'s' * (found.in_channels != 1)}"
    patch = " x ".join(map(str, data.patch_size))
    weight = math.prod(data.patch_size) * training.batch_size * found.in_channels * 4 / 2**20
    lines = (
        f"<b>{', '.join(sets)}</b>; {found.ndim}D, {channels}",
        f"<b>Network</b> {resolved.backbone.size} {html.escape(resolved.backbone.name)}"
        f" on {resolved.compute.device}, {resolved.compute.precision}",
        f"<b>Patches</b> {patch}, {training.batch_size} a step ({weight:.3g} MB of pixels)",
        f"<b>Steps</b> {steps_text(resolved, speeds)}",
        f"<b>Memory</b> images may take {resolved.compute.memory_gb:.3g} GB",
    )
    return "<br>".join(lines)


def steps_text(resolved: ResolvedConfig, speeds: dict[str, float]) -> str:
    """Say how long training may take: as asked for, or as fast as an earlier run was here."""
    training, backbone = resolved.training, resolved.backbone
    if training.max_minutes:
        return f"as many as fit into {training.max_minutes:g} min"
    steps = training.epochs * training.steps_per_epoch
    text = f"{steps} in {training.epochs} epochs"
    place = (resolved.compute.device, resolved.data.patch_size)
    speed = speeds.get(speed_key(backbone.name, backbone.size, *place))
    if speed is None:
        return f"{text}; time left is shown after the first steps"
    seconds = duration(steps * training.batch_size / speed)
    return f"{text}; about {seconds}, at the {speed:.3g} patches/s of an earlier run"


class CheckTable(QWidget):
    """The table of images, the reasons of skipped ones, and the plan."""

    image_chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.plan = _text("Check shows here what would be trained on.")
        self.plan.setObjectName("plan")
        self.notes = _text("")
        self.notes.setObjectName("notes")
        self.notes.hide()
        self.table = QTableWidget(0, len(HEADER))
        self.table.setObjectName("images")
        self.table.setHorizontalHeaderLabels(HEADER)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setWordWrap(False)
        self.table.setToolTip("Double-click an image to open it.")
        rows, columns = self.table.verticalHeader(), self.table.horizontalHeader()
        if rows is not None and columns is not None:
            rows.hide()
            rows.setDefaultSectionSize(22)
            columns.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
            columns.setStretchLastSection(True)
        self.table.cellDoubleClicked.connect(self._on_double_click)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.plan)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.notes)

    def show_report(self, report: Report) -> None:
        """Show what was found."""
        self.plan.setText(report.plan)
        self.table.clearSpans()
        self.table.setRowCount(len(report.rows))
        for number, row in enumerate(report.rows):
            self._fill(number, row)
        self.table.resizeColumnsToContents()
        self.table.setColumnWidth(0, min(160, self.table.columnWidth(0)))
        notes = [html.escape(note) for note in report.notes]
        notes += [f"{report.more} more images are not listed."] if report.more else []
        self.notes.setText("<br>".join(notes))
        self.notes.setVisible(bool(notes))

    def _fill(self, number: int, row: Row) -> None:
        for column, text in enumerate(row.cells):
            item = QTableWidgetItem(text)
            item.setToolTip(plain(row.skipped or row.path))
            item.setData(Qt.ItemDataRole.UserRole, row.path)
            self.table.setItem(number, column, item)
        if row.skipped:
            self._say_skipped(number, row)

    def _say_skipped(self, number: int, row: Row) -> None:
        self.table.setSpan(number, 2, 1, len(HEADER) - 2)
        for column, text in ((0, row.cells[0]), (1, "skipped"), (2, row.skipped)):
            item = QTableWidgetItem(text)
            item.setForeground(QColor(SKIPPED_COLOR))
            item.setToolTip(plain(f"{row.path}: {row.skipped}"))
            item.setData(Qt.ItemDataRole.UserRole, row.path)
            self.table.setItem(number, column, item)

    def _on_double_click(self, number: int, _column: int) -> None:
        item: Any = self.table.item(number, 0)
        if item is not None:
            self.image_chosen.emit(item.data(Qt.ItemDataRole.UserRole))


def _text(text: str) -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label
