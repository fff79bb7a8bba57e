"""Runs beside each other: their curves, scores, settings that differ, and images."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pyqtgraph as pg
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_ssl_pretrain.gui.compare_layers import show_panels, spread
from napari_ssl_pretrain.gui.plain import plain
from napari_ssl_pretrain.gui.plot import furnish, paint_axes
from napari_ssl_pretrain.gui.problem import Problem
from napari_ssl_pretrain.gui.run_files import Compared, Panel, compare, read_panels
from napari_ssl_pretrain.gui.run_table import best_text, calm_table, dot, state_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ssl_pretrain.gui.crew import Crew
    from napari_ssl_pretrain.gui.layer_queue import LayerQueue
    from napari_ssl_pretrain.gui.status import StatusLine
    from napari_ssl_pretrain.spec.run_record import RunRecord

COLORS = ("#4c9be8", "#f0953f", "#4fb071", "#d9627c", "#9b7fe6", "#2fb5b5", "#b5a12f", "#a0785a")
MOST_RUNS = len(COLORS)
ADVICE = "Select two or more runs in the list, then click Compare."
ALIKE = "All settings are the same."
ROW_HEIGHT = 22


class Comparison(QWidget):
    """What runs have in common and in what they differ.

    Parameters
    ----------
    viewer
        The viewer.
    crew
        Who reads.
    queue
        Where layers wait for their turn.
    status
        Where to say what happens.
    """

    compared = Signal()

    def __init__(self, viewer: Any, crew: Crew, queue: LayerQueue, status: StatusLine) -> None:
        super().__init__()
        self.viewer, self._crew, self._queue, self._status = viewer, crew, queue, status
        self._records: list[RunRecord] = []
        self._found: Compared | None = None
        self.advice = QLabel(ADVICE)
        self.advice.setWordWrap(True)
        self.advice.setObjectName("compare_advice")
        self.plot = ComparePlot()
        self.scores = small_table("scores")
        self.differences = small_table("differences")
        self.differences_title = QLabel()
        self.image, self.product = QComboBox(), QComboBox()
        self.show_images = QPushButton("Show images")
        self.side_by_side = QCheckBox("Side by side")
        self._lay_out()
        viewer.events.theme.connect(self._on_theme)
        self._on_theme()
        self._enable()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        layout.addWidget(self.advice)
        layout.addWidget(self.plot, 3)
        layout.addWidget(self.scores)
        self.differences_title.setTextFormat(Qt.TextFormat.PlainText)
        self.differences_title.setWordWrap(True)
        layout.addWidget(self.differences_title)
        layout.addWidget(self.differences, 2)
        for box, name, tip in (
            (self.image, "compared_image", "An image that all these runs made something of."),
            (self.product, "compared_kind", "What of it is shown."),
        ):
            box.setObjectName(name)
            box.setToolTip(tip)
            box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.show_images.setObjectName("show_images")
        self.show_images.setToolTip(
            "Open the image as each run made it: linked layers of the same scale and contrast."
        )
        self.side_by_side.setObjectName("images_side_by_side")
        self.side_by_side.setToolTip("In a row; otherwise exactly on each other.")
        self.side_by_side.setChecked(True)
        for widgets in ((self.image, self.product), (self.show_images, self.side_by_side)):
            row = QHBoxLayout()
            row.setSpacing(4)
            row.addWidget(widgets[0], 3)
            row.addWidget(widgets[1], 2)
            layout.addLayout(row)
        self.image.currentTextChanged.connect(self._offer_products)
        self.show_images.clicked.connect(self._on_show_images)
        self.side_by_side.toggled.connect(self._on_side_by_side)

    def close_links(self) -> None:
        """Stop listening to the viewer."""
        self.viewer.events.theme.disconnect(self._on_theme)

    def _on_theme(self, _event: Any = None) -> None:
        theme = get_theme(self.viewer.theme)
        self.plot.set_colors(str(theme.text.as_hex()), str(theme.background.as_hex()))

    def begin(self, records: Sequence[RunRecord]) -> None:
        """Compare these runs."""
        self._records, self._found = list(records), None
        self._show_records()
        self.show_rows([])
        self.differences_title.setText("Reading settings and images…")
        self._enable()
        runs = tuple(record.run for record in records)
        self._crew.start(compare, runs, returned=self._on_compared, errored=self._unexpected)

    def renew(self, records: Sequence[RunRecord]) -> None:
        """Take what was read of the runs since: those that go on have longer curves by now."""
        now = {record.run: record for record in records}
        renewed = [now.get(record.run, record) for record in self._records]
        if renewed != self._records:
            pairs = zip(self._records, renewed, strict=True)
            ended = any(before.goes_on and not after.goes_on for before, after in pairs)
            self._records = renewed
            self._show_records()
            if ended:
                self.begin(renewed)

    def _show_records(self) -> None:
        """Draw the curves and write the scores."""
        tasks = {record.status.task for record in self._records} - {""}
        self.advice.setVisible(not self._records or len(tasks) > 1)
        if self._records:
            self.advice.setText("Losses of different tasks: compare shapes, not heights.")
        self.plot.show_records(self._records)
        names = list(dict.fromkeys(name for r in self._records for name in r.scores))
        self.scores.setColumnCount(3 + len(names))
        self.scores.setHorizontalHeaderLabels(["run", "state", "best loss", *names])
        self.scores.setRowCount(len(self._records))
        for row, record in enumerate(self._records):
            values = (record.scores.get(name) for name in names)
            scores = ("" if value is None else f"{value:.4g}" for value in values)
            texts = (record.run.run_name, state_text(record), best_text(record), *scores)
            for column, text in enumerate(texts):
                put(self.scores, row, column, text)
            first: Any = self.scores.item(row, 0)
            first.setIcon(dot(COLORS[row % MOST_RUNS]))
        self.scores.resizeColumnsToContents()
        fit_height(self.scores)

    def show_rows(self, rows: Sequence[tuple[str, list[str]]]) -> None:
        """Write the settings that differ."""
        runs = [record.run.run_name for record in self._records]
        self.differences.setColumnCount(1 + len(runs))
        self.differences.setHorizontalHeaderLabels(["setting", *runs])
        self.differences.setRowCount(len(rows))
        for row, (path, texts) in enumerate(rows):
            for column, text in enumerate((path, *texts)):
                put(self.differences, row, column, text)
        self.differences.resizeColumnsToContents()
        self.differences.setVisible(bool(rows))

    def _on_compared(self, found: Compared) -> None:
        if found.runs != tuple(record.run for record in self._records):
            return  # others were chosen meanwhile
        self._found = found
        self.show_rows(found.rows)
        title = "Settings that differ" if found.rows else ALIKE
        self.differences_title.setText("\n".join((*found.notes, title)))
        chosen = self.image.currentText()
        self.image.clear()
        self.image.addItems(list(found.images))
        self.image.setCurrentIndex(max(0, self.image.findText(chosen)))
        self._offer_products()
        self._enable()
        self.compared.emit()

    def _offer_products(self, _image: str = "") -> None:
        images = self._found.images if self._found else {}
        products = list(images.get(self.image.currentText(), ()))
        chosen = self.product.currentText()
        self.product.clear()
        self.product.addItems(products)
        self.product.setCurrentIndex(max(0, self.product.findText(chosen)))

    def _enable(self) -> None:
        some = bool(self._found and self._found.images)
        for widget in (self.image, self.product, self.show_images):
            widget.setEnabled(some)
        self.image.setPlaceholderText("" if some else "no image in common")

    def _on_show_images(self) -> None:
        found, image = self._found, self.image.currentText()
        if found is None:
            return
        files = found.images[image][self.product.currentText()]
        self._status.say(f"Reading {image} of {len(files)} runs…")
        self._crew.start(
            read_panels,
            found.runs,
            files,
            returned=self._on_panels,
            errored=self._unexpected,
        )

    def _on_panels(self, found: tuple[str, list[Panel]] | Problem) -> None:
        if isinstance(found, Problem):
            self._status.say(str(found.error), error=True)
            return
        image, panels = found
        self._queue.put_steps("compared", partial(self._steps, image, panels))

    def _steps(self, image: str, panels: list[Panel]) -> Any:
        yield from show_panels(self.viewer, panels, side_by_side=self.side_by_side.isChecked())
        self.viewer.reset_view()
        order = ", ".join(p.about.get("run_name", "the image itself") for p in panels)
        self._status.say(f"{image}, from the left: {order}.")

    def _on_side_by_side(self, checked: bool) -> None:  # noqa: FBT001 - Qt's signal
        spread(self.viewer, side_by_side=checked)
        self.viewer.reset_view()

    def _unexpected(self, error: Exception) -> None:
        self._status.say(f"Something went wrong: {type(error).__name__}: {error}", error=True)


class ComparePlot(QWidget):
    """The curves of several runs on each other."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[RunRecord] = []
        self._plot: Any = pg.PlotWidget(background=None, enableMenu=False)
        self._item: Any = furnish(self._plot, "step", "loss")
        self.training, self.log = QCheckBox("Training loss"), QCheckBox("Logarithmic")
        self.training.setObjectName("show_training")
        self.training.setToolTip("Draw the loss of the training, thin, beside that of validation.")
        self.log.setObjectName("log_scale")
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        for box in (self.training, self.log):
            box.toggled.connect(self._draw)
            row.addWidget(box)
        row.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self._plot, 1)
        layout.addLayout(row)
        self.setMinimumHeight(190)

    def set_colors(self, color: str, background: str) -> None:
        """Write the axes in colours of the viewer's theme."""
        paint_axes(self._plot, None, color, background)

    def show_records(self, records: Sequence[RunRecord]) -> None:
        """Draw the curves of these runs."""
        self._records = list(records)
        self._draw()

    def curves(self) -> dict[str, tuple[list[float], list[float]]]:
        """Return what is drawn, by name."""
        drawn = {item.name(): item.getOriginalDataset() for item in self._item.listDataItems()}
        return {name: (list(x), list(y)) for name, (x, y) in drawn.items()}

    def _draw(self, _checked: bool = False) -> None:  # noqa: FBT001, FBT002 - Qt's signal
        self._item.clear()
        self._item.setLogMode(x=False, y=self.log.isChecked())
        for number, record in enumerate(self._records):
            color = COLORS[number % MOST_RUNS]
            lone = len(record.validation[0]) < 2  # noqa: PLR2004 - one point is no curve
            if record.train[0] and (self.training.isChecked() or lone):
                pen = pg.mkPen(color, width=1, style=Qt.PenStyle.DotLine)
                self._item.plot(*map(list, record.train), pen=pen, name=f"{number} training")
            if record.validation[0]:
                self._item.plot(
                    *map(list, record.validation),
                    pen=pg.mkPen(color, width=2),
                    symbol="o" if len(record.validation[0]) < 30 else None,  # noqa: PLR2004
                    symbolSize=5,
                    symbolBrush=color,
                    symbolPen=None,
                    name=f"{number} validation",
                )
        self._item.autoRange()


def small_table(name: str) -> QTableWidget:
    """Return an empty table that is only looked at."""
    table = QTableWidget(0, 0)
    table.setObjectName(name)
    calm_table(table, ROW_HEIGHT)
    table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
    table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return table


def put(table: QTableWidget, row: int, column: int, text: str) -> None:
    """Write a cell; its tooltip says all of it."""
    item = table.item(row, column)
    if item is None:
        item = QTableWidgetItem()
        table.setItem(row, column, item)
    item.setText(text)
    item.setToolTip(plain(text))


def fit_height(table: QTableWidget) -> None:
    """Make a table as high as its rows, up to six."""
    header: Any = table.horizontalHeader()
    rows = min(table.rowCount(), 6)
    table.setFixedHeight(header.sizeHint().height() + rows * ROW_HEIGHT + 16)
    table.setVisible(bool(rows))
