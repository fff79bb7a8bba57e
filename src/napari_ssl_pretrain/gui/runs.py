"""The dock widget *Runs*: the runs under a folder, their state, and what to do with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import Container, PushButton
from qtpy.QtCore import QSize, Qt, QTimer, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_ssl_pretrain import runner
from napari_ssl_pretrain.errors import UserError
from napari_ssl_pretrain.gui import docks, remember
from napari_ssl_pretrain.gui.crew import Crew
from napari_ssl_pretrain.gui.layer_queue import LayerQueue
from napari_ssl_pretrain.gui.paths_editor import PathsEditor
from napari_ssl_pretrain.gui.plain import plain
from napari_ssl_pretrain.gui.problem import Problem
from napari_ssl_pretrain.gui.results import KINDS, Result, ResultReader
from napari_ssl_pretrain.gui.status import StatusLine
from napari_ssl_pretrain.gui.words import moment
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.run_dir import RunDir
from napari_ssl_pretrain.spec.yaml_io import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari.viewer

    from napari_ssl_pretrain.gui.pretrain import Pretrain
    from napari_ssl_pretrain.spec.status import RunStatus

HEADER = ("run", "state", "task", "progress", "best loss", "started")
REFRESH_MS = 2000
OPENED_IMAGES = 4
BUTTONS = {
    "open_results": ("Open results", "Open the images that the run made, as layers."),
    "open_folder": ("Open folder", "Show the run's folder in the file manager."),
    "copy_settings": ("Copy settings", "Show the run's settings in Pretrain."),
    "resume": ("Resume", "Go on with the run from its last saved state."),
}


@dataclass(frozen=True)
class Listed:
    """A run and where it stands."""

    run: RunDir
    status: RunStatus


class Lister:
    """Reads where runs stand; each time only what is new. Belongs to one worker at a time."""

    def __init__(self) -> None:
        self._handles: dict[RunDir, runner.RunHandle] = {}

    def list(self, root: Path) -> list[Listed]:
        """Return the runs under a folder, newest first."""
        listed = []
        for run in reversed(RunDir.find(root)):
            handle = self._handles.setdefault(run, runner.attach(run))
            handle.poll()
            listed.append(Listed(run, handle.status))
        return listed


class Runs(QWidget):
    """The pretraining runs under a folder.

    Parameters
    ----------
    viewer
        The viewer.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer: Any = getattr(viewer, "__wrapped__", viewer)
        self._crew = Crew()
        self._lister = Lister()
        self._listing = self._sized = False
        self._runs: list[Listed] = []
        self.results = LayerQueue(self.viewer, self)
        self.folder = PathsEditor("folder", empty="")
        self.folder.setObjectName("result_dir")
        self.folder.set(self._first_folder())
        self.table = self._make_table()
        self.status = StatusLine()
        self.status.setObjectName("status")
        self.buttons: dict[str, PushButton] = {}
        self._lay_out()
        self._timer = QTimer(self)
        self._timer.setInterval(REFRESH_MS)
        self._timer.timeout.connect(self.refresh)
        self._timer.start()
        self.folder.on_change(self.refresh)
        self.destroyed.connect(self._crew.dismiss)
        docks.register(self)
        QTimer.singleShot(0, self.refresh)

    def sizeHint(self) -> QSize:
        """Ask for the width of napari's other docks."""
        return QSize(370, 500)

    def _first_folder(self) -> str:
        last, _ = remember.load_run()
        known = str(remember.load("form").get("result_dir") or "")
        return known or str(last.result_dir if last else Path.home() / "exp_results")

    def _make_table(self) -> QTableWidget:
        table = QTableWidget(0, len(HEADER))
        table.setObjectName("runs")
        table.setHorizontalHeaderLabels(HEADER)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setWordWrap(False)
        rows, columns = table.verticalHeader(), table.horizontalHeader()
        if rows is not None and columns is not None:
            rows.hide()
            rows.setDefaultSectionSize(22)
            columns.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
            columns.setStretchLastSection(True)
        table.itemSelectionChanged.connect(self._refresh_buttons)
        table.cellDoubleClicked.connect(lambda *_: self._on_open_results())
        return table

    def _lay_out(self) -> None:
        for name, (text, tip) in BUTTONS.items():
            button = PushButton(text=text, tooltip=tip)
            button.native.setObjectName(name)
            button.native.setMinimumWidth(20)
            button.native.clicked.connect(getattr(self, f"_on_{name}"))
            self.buttons[name] = button
        names = list(self.buttons.values())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        layout.addWidget(QLabel("<b>Result folder</b>"))
        layout.addWidget(self.folder)
        layout.addWidget(self.table, 1)
        self._rows = []
        for pair in (names[:2], names[2:]):
            row: Any = Container(widgets=pair, layout="horizontal", labels=False)
            row.margins = (0, 0, 0, 0)
            self._rows.append(row)
            layout.addWidget(row.native)
        layout.addWidget(self.status)
        self.setMinimumWidth(300)

    def refresh(self) -> None:
        """Read the runs again, in a worker; at most one reads at a time."""
        text = str(self.folder.get()).strip()
        if self._listing or not text or not self.isVisible():
            return
        self._listing = True
        self._crew.start(
            self._lister.list,
            Path(text).expanduser(),
            returned=self._show,
            errored=self._unexpected,
            finished=self._on_listed,
        )

    def _on_listed(self) -> None:
        self._listing = False

    def _show(self, found: list[Listed]) -> None:
        """Fill the table; the selected run stays selected."""
        chosen = self.chosen()
        if [x.run for x in found] != [x.run for x in self._runs]:
            self.table.setRowCount(len(found))
        self._runs = found
        for number, listed in enumerate(found):
            self._fill(number, listed)
        if found and not self._sized:
            self.table.resizeColumnsToContents()
            self._sized = True
        runs = [x.run for x in found]
        if chosen is not None and chosen.run in runs:
            self.table.selectRow(runs.index(chosen.run))
        elif found and not self.table.selectedItems():
            self.table.selectRow(0)
        if not found:
            self.status.say("No runs under this folder.")
        elif self.status.text() == "No runs under this folder.":
            self.status.say("")
        self._refresh_buttons()

    def _fill(self, number: int, listed: Listed) -> None:
        for column, text in enumerate(cells(listed)):
            item = self.table.item(number, column)
            if item is None:
                item = QTableWidgetItem()
                self.table.setItem(number, column, item)
            if item.text() != text:
                item.setText(text)
            item.setToolTip(plain(f"{listed.run.results}\n{listed.status.message}".strip()))
            if column in {3, 4}:
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)

    def chosen(self) -> Listed | None:
        """Return the selected run."""
        row = self.table.currentRow()
        return self._runs[row] if 0 <= row < len(self._runs) else None

    def _refresh_buttons(self) -> None:
        chosen = self.chosen()
        for button in self.buttons.values():
            button.enabled = chosen is not None
        if chosen is not None:
            self.buttons["resume"].enabled = chosen.status.state in {"stopped", "failed"}

    def _on_open_results(self) -> None:
        chosen = self.chosen()
        if chosen is None:
            return
        self.status.say(f"Reading the results of {chosen.run.run_name}…")
        self._crew.start(
            read_results,
            chosen.run,
            returned=lambda found, run=chosen.run: self._on_results(found, run),
            errored=self._unexpected,
        )

    def _on_results(self, found: list[Result], run: RunDir) -> None:
        for result in found:
            self.results.put(result, run)
        images = len({result.image for result in found})
        self.status.say(
            f"{len(found)} layers of {images} image{'s' * (images != 1)} of {run.run_name} opened."
            if found
            else f"{run.run_name} has no images yet."
        )

    def _on_open_folder(self) -> None:
        chosen = self.chosen()
        if chosen is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(chosen.run.results)))

    def _on_copy_settings(self) -> None:
        self._hand_over(self._show_settings)

    def _on_resume(self) -> None:
        self._hand_over(self._resume)

    def _hand_over(self, then: Callable[[PretrainConfig | Problem], object]) -> None:
        """Read the selected run's settings in a worker, then hand them over."""
        chosen = self.chosen()
        if chosen is not None:
            self._crew.start(read_config, chosen.run, returned=then, errored=self._unexpected)

    def _show_settings(self, found: PretrainConfig | Problem) -> Pretrain | None:
        if isinstance(found, Problem):
            self.status.say(str(found.error), error=True)
            return None
        pretrain: Pretrain = docks.open_pretrain(self.viewer)
        pretrain.setValue(found)
        pretrain.tabs.setCurrentWidget(pretrain.form)
        self.status.say(f"The settings of {found.name}_{found.run_id} are in Pretrain.")
        return pretrain

    def _resume(self, found: PretrainConfig | Problem) -> None:
        pretrain = self._show_settings(found)
        if pretrain is not None:
            pretrain.buttons["resume"].native.click()

    def _unexpected(self, error: Exception) -> None:
        self.status.say(f"Something went wrong: {type(error).__name__}: {error}", error=True)


def cells(listed: Listed) -> tuple[str, ...]:
    """Return the texts of a row."""
    status = listed.status
    share = f"{100 * status.step / status.steps:.0f} %" if status.steps else ""
    best = status.best_validation_loss
    return (
        listed.run.run_name,
        status.state,
        status.task,
        share,
        "" if best is None else f"{best:.4g}",
        moment(status.started),
    )


def read_results(run: RunDir) -> list[Result]:
    """Read the newest results of a few of a run's images, those made last."""
    images = [e for e in runner.attach(run).poll() if e.kind == "image_saved"]
    newest = dict.fromkeys(e.image for e in reversed(images) if e.image_kind in KINDS)
    wanted = list(newest)[:OPENED_IMAGES]
    return ResultReader().read(e for e in images if e.image in wanted)


def read_config(run: RunDir) -> PretrainConfig | Problem:
    """Read the configuration that a run was last started with."""
    try:
        for event in reversed(runner.attach(run).poll()):
            if event.kind == "process_started":
                config = PretrainConfig.from_dict(parse_yaml(event.config, str(run.events)))
                return config.replace(result_dir=str(run.result_dir))
        return PretrainConfig.from_yaml(run.config)
    except UserError as error:
        return Problem(error)
