"""The table of runs: sorted and filtered, a row for each, its curve drawn small."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (
    QAbstractTableModel,
    QModelIndex,
    QPointF,
    QRectF,
    QSize,
    QSortFilterProxyModel,
    Qt,
)
from qtpy.QtGui import QColor, QIcon, QPainter, QPen, QPixmap, QPolygonF
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QStyledItemDelegate, QTableView

from napari_ssl_pretrain.gui.plain import plain
from napari_ssl_pretrain.gui.words import moment
from napari_ssl_pretrain.spec.curve import squeezed
from napari_ssl_pretrain.spec.run_record import RunRecord, known

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_ssl_pretrain.spec.run_dir import RunDir

Role = Qt.ItemDataRole
SORT_ROLE, RECORD_ROLE = int(Role.UserRole), int(Role.UserRole) + 1
LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
ROW_HEIGHT, DOT, CURVE_POINTS = 24, 9, 60
STATE_COLORS = {
    "finished": "#4caf6d",
    "stopped": "#e0a030",
    "failed": "#e05555",
    "died": "#e05555",
    "silent": "#e05555",
    "unreadable": "#e05555",
}
ALIVE_COLOR = "#5b9bf3"


@dataclass(frozen=True)
class Column:
    """A column: its title, what it shows, by what it is sorted, and its width."""

    title: str
    text: Callable[[RunRecord], str]
    key: Callable[[RunRecord], Any]
    width: int
    tip: str = ""
    right: bool = False


def state_text(record: RunRecord) -> str:
    """Return the state; of a run under way also how far it is."""
    if record.goes_on and record.share is not None:
        return f"{record.state} {100 * record.share:.0f} %"
    return (
        f"{record.state} (!)" if record.problem and record.state != "unreadable" else record.state
    )


def best_text(record: RunRecord) -> str:
    """Return the best validation loss."""
    return "" if record.best is None else f"{record.best:.4g}"


def _score_key(record: RunRecord) -> float | None:
    return record.scores.get("psnr", record.scores.get("hidden_mse"))


def _when_key(record: RunRecord) -> float | None:
    return known(record.status.started)


COLUMNS = (
    Column("run", lambda r: r.run.run_name, lambda r: (r.run.name.lower(), r.run.run_id), 92),
    Column("state", state_text, state_text, 102),
    Column("best loss", best_text, lambda r: r.best, 62, "Best validation loss.", right=True),
    Column(
        "curve", lambda _: "", lambda r: r.curve[1][-1] if r.curve[1] else None, 58,
        "Loss of the validation over the steps; of the training where there is none.",
    ),
    Column("task", lambda r: r.status.task, lambda r: r.status.task, 62),
    Column("data", lambda r: r.images_of, lambda r: r.images_of.lower(), 150, "Training images."),
    Column("test", lambda r: r.score, _score_key, 130, "Scores of the test images."),
    Column("when", lambda r: moment(r.status.started), _when_key, 98),
    Column("note", lambda r: r.note, lambda r: r.note.lower() or None, 200),
)  # fmt: skip
WHEN_COLUMN = [c.title for c in COLUMNS].index("when")
CURVE_COLUMN = [c.title for c in COLUMNS].index("curve")


class RunModel(QAbstractTableModel):
    """Records as a table model; a run keeps its row while it is there."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.records: list[RunRecord] = []
        self._roles: dict[int, Callable[[RunRecord, Column], Any]] = {
            int(Role.DisplayRole): lambda record, column: column.text(record),
            int(Role.ToolTipRole): lambda record, _: plain(tip(record)),
            int(Role.TextAlignmentRole): lambda _, column: RIGHT if column.right else LEFT,
            int(Role.DecorationRole): state_dot,
            SORT_ROLE: lambda record, column: column.key(record),
            RECORD_ROLE: lambda record, _: record,
        }

    def rowCount(self, parent: Any = QModelIndex()) -> int:  # noqa: B008 - Qt's signature
        """Return how many runs there are."""
        return 0 if parent.isValid() else len(self.records)

    def columnCount(self, parent: Any = QModelIndex()) -> int:  # noqa: B008 - Qt's signature
        """Return how many columns there are."""
        return 0 if parent.isValid() else len(COLUMNS)

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:
        """Return the title or the tip of a column."""
        if orientation == Qt.Orientation.Horizontal and 0 <= section < len(COLUMNS):
            if role == Role.DisplayRole:
                return COLUMNS[section].title
            if role == Role.ToolTipRole:
                return f"{COLUMNS[section].tip} Click to sort.".strip()
        return None

    def data(self, index: Any, role: int = 0) -> Any:
        """Return what a cell shows."""
        if not index.isValid() or index.row() >= len(self.records):
            return None
        show = self._roles.get(role)
        return show(self.records[index.row()], COLUMNS[index.column()]) if show else None

    def update(self, records: Sequence[RunRecord], *, whole: bool = True) -> None:
        """Show these records; those that are not among them go, if these are all.

        Parameters
        ----------
        records
            What was read.
        whole
            Whether this is all there is: while a folder is read for the first time, it is not.
        """
        new = {record.run: record for record in records}
        if whole:
            for row in reversed(range(len(self.records))):
                if self.records[row].run not in new:
                    self.beginRemoveRows(QModelIndex(), row, row)
                    del self.records[row]
                    self.endRemoveRows()
        for row, old in enumerate(self.records):
            record = new.pop(old.run, old)
            if record != old:
                self.records[row] = record
                self.dataChanged.emit(self.index(row, 0), self.index(row, len(COLUMNS) - 1))
        if new:
            first = len(self.records)
            self.beginInsertRows(QModelIndex(), first, first + len(new) - 1)
            self.records.extend(new.values())
            self.endInsertRows()


class RunOrder(QSortFilterProxyModel):
    """Sorts and filters; what has no value comes last either way."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._words: list[str] = []
        self.setDynamicSortFilter(True)

    def look_for(self, text: str) -> None:
        """Show only runs in which all these words occur."""
        self._words = text.lower().split()
        self.invalidateFilter()

    def filterAcceptsRow(self, row: int, _parent: Any) -> bool:
        """Return whether a row is shown."""
        model: Any = self.sourceModel()
        text = searched(model.records[row]) if self._words else ""
        return all(word in text for word in self._words)

    def lessThan(self, left: Any, right: Any) -> bool:
        """Return whether a row comes before another."""
        a, b = left.data(SORT_ROLE), right.data(SORT_ROLE)
        if a is None or b is None:
            ascending = self.sortOrder() == Qt.SortOrder.AscendingOrder
            return (b is None and a is not None) == ascending and a is not b
        return bool(a < b)


class Sparkline(QStyledItemDelegate):
    """Draws the curve of a run into its cell."""

    def paint(self, painter: Any, option: Any, index: Any) -> None:
        """Draw the cell and the curve on it."""
        super().paint(painter, option, index)
        record = index.data(RECORD_ROLE)
        points = polyline(record.curve[1], QRectF(option.rect).adjusted(6, 5, -6, -5))
        if points is None:
            return
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        color = option.palette.color(option.palette.ColorRole.Text)
        painter.setPen(QPen(color, 1.3))
        painter.drawPolyline(points)
        if record.goes_on:
            painter.setBrush(QColor(ALIVE_COLOR))
            painter.setPen(Qt.PenStyle.NoPen)
            painter.drawEllipse(points.last(), 2.5, 2.5)
        painter.restore()


def calm_table(table: QTableView, row_height: int) -> None:
    """Give a table that is not edited its look: no grid, rows of one height, left-aligned heads."""
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
    table.setWordWrap(False)
    table.setShowGrid(False)
    table.setIconSize(QSize(DOT, DOT))
    rows: Any = table.verticalHeader()
    rows.hide()
    rows.setDefaultSectionSize(row_height)
    columns: Any = table.horizontalHeader()
    columns.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
    columns.setStretchLastSection(True)
    columns.setHighlightSections(False)
    columns.setDefaultAlignment(LEFT)


class RunTable(QTableView):
    """The table of runs; several can be selected."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("runs")
        self.model_ = RunModel(self)
        self.order = RunOrder(self)
        self.order.setSourceModel(self.model_)
        self.setModel(self.order)
        self.setItemDelegateForColumn(CURVE_COLUMN, Sparkline(self))
        calm_table(self, ROW_HEIGHT)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        columns: Any = self.horizontalHeader()
        columns.setSectionsMovable(True)
        for number, column in enumerate(COLUMNS):
            self.setColumnWidth(number, column.width)
        self.setSortingEnabled(True)
        self.sortByColumn(WHEN_COLUMN, Qt.SortOrder.DescendingOrder)

    def sizeHint(self) -> QSize:
        """Ask for little: the dock says how wide it is."""
        return QSize(300, 240)

    def rowCount(self) -> int:
        """Return how many rows are shown."""
        return self.order.rowCount()

    def record(self, row: int) -> RunRecord:
        """Return the run of a row as it is shown."""
        found: RunRecord = self.order.index(row, 0).data(RECORD_ROLE)
        return found

    def texts(self, row: int) -> dict[str, str]:
        """Return the texts of a row by the titles of their columns."""
        return {
            column.title: str(self.order.index(row, number).data() or "")
            for number, column in enumerate(COLUMNS)
        }

    def chosen(self) -> list[RunRecord]:
        """Return the selected runs, top first."""
        selection: Any = self.selectionModel()
        return [self.record(row) for row in sorted({i.row() for i in selection.selectedRows()})]

    def row_of(self, run: RunDir) -> int:
        """Return the row of a run, or -1."""
        rows = range(self.rowCount())
        return next((row for row in rows if self.record(row).run == run), -1)


def state_dot(record: RunRecord, column: Column) -> QIcon | None:
    """Return the mark of a run's state, in its column."""
    if column.title != "state":
        return None
    return dot(STATE_COLORS.get(record.state, ALIVE_COLOR))


@lru_cache
def dot(color: str) -> QIcon:
    """Return a round mark of a colour."""
    pixmap = QPixmap(2 * DOT, 2 * DOT)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setBrush(QColor(color))
    painter.setPen(Qt.PenStyle.NoPen)
    painter.drawEllipse(QRectF(1, 1, 2 * DOT - 2, 2 * DOT - 2))
    painter.end()
    pixmap.setDevicePixelRatio(2)
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Selected)  # else the colour of the selection is laid over it
    return icon


def polyline(values: Sequence[float], place: QRectF) -> QPolygonF | None:
    """Return a curve drawn into a rectangle, None where it has no two points."""
    shown = squeezed(values, CURVE_POINTS)
    if len(shown) < 2:  # noqa: PLR2004 - one point is no curve
        return None
    low = min(shown)
    span = (max(shown) - low) or 1.0
    step = place.width() / (len(shown) - 1)
    return QPolygonF(
        [
            QPointF(place.left() + k * step, place.bottom() - place.height() * (v - low) / span)
            for k, v in enumerate(shown)
        ]
    )


def searched(record: RunRecord) -> str:
    """Return the text in which the filter looks."""
    parts = (record.run.run_name, record.state, record.status.task, *record.data, record.note)
    return " ".join(parts).lower()


def tip(record: RunRecord) -> str:
    """Return what the tooltip of a row says."""
    return "\n".join(t for t in (str(record.run.results), *record.data[:3], record.note) if t)
