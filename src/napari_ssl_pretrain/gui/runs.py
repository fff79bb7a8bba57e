"""The dock widget *Runs*: the runs under a folder, their state, and what to do with them."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import Container, PushButton
from qtpy.QtCore import QSize, QTimer, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QLabel, QLineEdit, QTabWidget, QVBoxLayout, QWidget

from napari_ssl_pretrain.gui import docks, remember
from napari_ssl_pretrain.gui.calm import Calm
from napari_ssl_pretrain.gui.compare import MOST_RUNS, Comparison
from napari_ssl_pretrain.gui.crew import Crew
from napari_ssl_pretrain.gui.deletion import Deletion
from napari_ssl_pretrain.gui.layer_queue import LayerQueue
from napari_ssl_pretrain.gui.paths_editor import PathsEditor
from napari_ssl_pretrain.gui.problem import Problem
from napari_ssl_pretrain.gui.run_files import read_config, read_results, read_template
from napari_ssl_pretrain.gui.run_table import RunTable, best_text, state_text
from napari_ssl_pretrain.gui.status import StatusLine
from napari_ssl_pretrain.gui.words import moment
from napari_ssl_pretrain.spec.run_record import RunRecord, RunScanner

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import napari.viewer

    from napari_ssl_pretrain.gui.pretrain import Pretrain
    from napari_ssl_pretrain.gui.results import Result
    from napari_ssl_pretrain.spec.config import PretrainConfig
    from napari_ssl_pretrain.spec.run_dir import RunDir

REFRESH_MS, TYPING_MS = 2000, 300
READING = "Reading runs:"
NONE_FOUND = "No runs under this folder."
BUTTONS = {
    "compare": ("Compare", "Show curves, settings and images of the selected runs together."),
    "open_results": ("Open results", "Open the images that the run made, as layers."),
    "open_folder": ("Open folder", "Show the run's folder in the file manager."),
    "use_as_template": ("Use as template", "Fill Pretrain with its settings, for a new run."),
    "resume": ("Resume", "Go on with the run from its last saved state."),
    "delete": ("Delete…", "Delete the selected runs; asks first, and says what goes."),
}
IN_A_ROW = 3


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
        self._calm = Calm(self.viewer, self)
        self._scanner: RunScanner | None = None
        self._reading = self._listed = False
        self.results = LayerQueue(self.viewer, self)
        self.folder = PathsEditor("folder", empty="")
        self.folder.setObjectName("result_dir")
        self.folder.set(self._first_folder())
        self.filter = QLineEdit()
        self.table = RunTable()
        self.details, self.status = StatusLine(), StatusLine()
        self.details.setObjectName("details")
        self.status.setObjectName("status")
        self.buttons: dict[str, PushButton] = {}
        self.deletion = Deletion(self._crew, self.status)
        self.comparison = Comparison(self.viewer, self._crew, self.results, self.status)
        self.tabs = QTabWidget()
        self._lay_out()
        self._connect()
        docks.register(self)
        QTimer.singleShot(0, self.refresh)

    def sizeHint(self) -> QSize:
        """Ask for somewhat more than napari's other docks: there is much to see."""
        return QSize(420, 600)

    def _first_folder(self) -> str:
        last, _ = remember.load_run()
        known = str(remember.load("form").get("result_dir") or "")
        return known or str(last.result_dir if last else Path.home() / "exp_results")

    def _lay_out(self) -> None:
        self.filter.setObjectName("filter")
        self.filter.setPlaceholderText("Filter by name, state, task or data")
        self.filter.setClearButtonEnabled(True)
        page = QWidget()
        inside = QVBoxLayout(page)
        inside.setContentsMargins(4, 4, 4, 4)
        inside.setSpacing(4)
        inside.addWidget(self.filter)
        inside.addWidget(self.table, 1)
        inside.addWidget(self.details)
        self._rows = []
        for pairs in (list(BUTTONS)[:IN_A_ROW], list(BUTTONS)[IN_A_ROW:]):
            row = self._button_row(pairs)
            self._rows.append(row)
            inside.addWidget(row.native)
        inside.addWidget(self.deletion)
        self.tabs.setObjectName("tabs")
        self.tabs.setDocumentMode(True)
        self.tabs.addTab(page, "Runs")
        self.tabs.addTab(self.comparison, "Compare")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        layout.addWidget(QLabel("<b>Result folder</b>"))
        layout.addWidget(self.folder)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self.status)
        self.setMinimumWidth(300)

    def _button_row(self, names: list[str]) -> Any:
        for name in names:
            text, tip = BUTTONS[name]
            button = PushButton(text=text, tooltip=tip)
            button.native.setObjectName(name)
            button.native.setMinimumWidth(20)
            button.native.clicked.connect(getattr(self, f"_on_{name}"))
            self.buttons[name] = button
        buttons = [self.buttons[name] for name in names]
        row: Any = Container(widgets=buttons, layout="horizontal", labels=False)
        row.margins = (0, 0, 0, 0)
        row.native.layout().setSpacing(4)
        return row

    def _connect(self) -> None:
        self._timer, self._typing = QTimer(self), QTimer(self)
        self._timer.setInterval(REFRESH_MS)
        self._timer.timeout.connect(self.refresh)
        self._timer.start()
        self._typing.setInterval(TYPING_MS)
        self._typing.setSingleShot(True)
        self._typing.timeout.connect(self._on_folder)
        self.folder.on_change(self._typing.start)
        self.filter.textChanged.connect(self.table.order.look_for)
        selection: Any = self.table.selectionModel()
        selection.selectionChanged.connect(self._on_selection)
        self.table.doubleClicked.connect(lambda *_: self._on_open_results())
        self.deletion.deleted.connect(self.refresh)
        self.destroyed.connect(
            partial(_part, (self._crew.dismiss, self._calm.end, self.comparison.close_links))
        )
        self._on_selection()

    def _on_folder(self) -> None:
        """Turn to another folder; who still reads the old one is not waited for."""
        if self._scanner is not None and self._scanner.root == self._root():
            return
        self._scanner, self._reading, self._listed = None, False, False
        self.deletion.dismiss()
        self.table.model_.update([])
        self.refresh()

    def _root(self) -> Path | None:
        text = str(self.folder.get()).strip()
        try:
            return Path(text).expanduser() if text else None
        except RuntimeError:  # ~name of nobody
            return Path(text)

    def refresh(self) -> None:
        """Read the runs again, in a worker; at most one reads a folder at a time."""
        root = self._root()
        if self._reading or root is None or not self.isVisible():
            return
        if self._scanner is None:
            self._scanner = RunScanner(root)
        self._reading = True
        if not self._listed and not gc.get_freeze_count():  # else Pretrain has seen to it
            self._calm.begin()
        self._crew.start(
            scan,
            self._scanner,
            yielded=self._on_scanned,
            returned=self._on_read,
            errored=self._on_unread,
        )

    def _on_unread(self, error: Exception) -> None:
        self._reading = False
        self._calm.end()
        self._unexpected(error)

    def _on_read(self, scanner: RunScanner) -> None:
        if scanner is self._scanner:
            self._reading = False
            self._calm.end()

    def _on_scanned(self, found: Scanned) -> None:
        """Fill the table; the selected runs stay selected."""
        if found.scanner is not self._scanner:
            return
        records, count = found.records, found.count
        whole = len(records) == count
        self.table.model_.update(records, whole=whole)
        self.comparison.renew(records)
        if not whole:
            if not self._listed:
                self.status.say(f"{READING} {len(records)} of {count}…")
            return
        first, self._listed = not self._listed, True
        if found.problem:
            self.status.say(f"The folder cannot be read: {found.problem}.", error=True)
        elif (said := self.status.text()) in {"", NONE_FOUND} or said.startswith(READING):
            self.status.say("" if records else NONE_FOUND)
        if first and records and not self.table.chosen():
            self.table.selectRow(0)
        self._on_selection()

    def chosen(self) -> list[RunRecord]:
        """Return the selected runs, top first."""
        return self.table.chosen()

    def _on_selection(self, *_: object) -> None:
        """Say more about what is selected, and enable what can be done with it."""
        chosen = self.chosen()
        one = chosen[0] if len(chosen) == 1 else None
        can = {
            "compare": 2 <= len(chosen) <= MOST_RUNS,  # noqa: PLR2004 - a pair at least
            "open_results": one is not None,
            "open_folder": one is not None,
            "use_as_template": one is not None and one.state != "unreadable",
            "resume": one is not None and one.resumable,
            "delete": bool(chosen) and not any(record.goes_on for record in chosen),
        }
        for name, button in self.buttons.items():
            button.enabled = can[name]
        said = f"{len(chosen)} runs selected." if chosen else ""
        if self.details.text() != (text := details(one) if one else said):
            self.details.say(text, error=bool(one and one.problem))

    def _on_compare(self) -> None:
        self.comparison.begin(self.chosen())
        self.tabs.setCurrentWidget(self.comparison)

    def _on_open_results(self) -> None:
        for record in self.chosen()[:1]:
            self.status.say(f"Reading the results of {record.run.run_name}…")
            self._crew.start(
                read_results,
                record.run,
                returned=self._on_results,
                errored=self._unexpected,
            )

    def _on_results(self, read: tuple[RunDir, list[Result]]) -> None:
        run, found = read
        for result in found:
            self.results.put(result, run)
        images = len({result.image for result in found})
        self.status.say(
            f"{len(found)} layers of {images} image{'s' * (images != 1)} of {run.run_name} opened."
            if found
            else f"{run.run_name} has no images that can be opened."
        )

    def _on_open_folder(self) -> None:
        for record in self.chosen()[:1]:
            place = record.run.results
            if not QDesktopServices.openUrl(QUrl.fromLocalFile(str(place))):
                self.status.say(f"No file manager could be opened. The folder is {place}")

    def _on_use_as_template(self) -> None:
        self._hand_over(read_template, self._use_as_template)

    def _on_resume(self) -> None:
        self._hand_over(read_config, self._resume)

    def _on_delete(self) -> None:
        self.deletion.ask([record.run for record in self.chosen()])

    def _hand_over(
        self,
        read: Callable[[RunDir], PretrainConfig | Problem],
        then: Callable[[PretrainConfig | Problem], object],
    ) -> None:
        """Read the selected run's settings in a worker, then hand them over."""
        for record in self.chosen()[:1]:
            self._crew.start(read, record.run, returned=then, errored=self._unexpected)

    def _show_settings(self, found: PretrainConfig | Problem) -> Pretrain | None:
        if isinstance(found, Problem):
            self.status.say(str(found.error), error=True)
            return None
        pretrain: Pretrain = docks.open_pretrain(self.viewer)
        pretrain.setValue(found)
        pretrain.tabs.setCurrentWidget(pretrain.form)
        return pretrain

    def _use_as_template(self, found: PretrainConfig | Problem) -> None:
        pretrain = self._show_settings(found)
        if pretrain is not None and not isinstance(found, Problem):
            said = f"Pretrain is filled for {found.name}_{found.run_id}: change what you want."
            self.status.say(said)
            pretrain.status.say(said)

    def _resume(self, found: PretrainConfig | Problem) -> None:
        open_dock = docks.find("Pretrain", self.viewer)
        if open_dock is not None and open_dock.control.active:
            self.status.say("Pretrain watches another run: wait for its end, or stop it.")
            return
        pretrain = self._show_settings(found)
        if pretrain is not None:
            pretrain.buttons["resume"].native.click()

    def _unexpected(self, error: Exception) -> None:
        self.status.say(f"Something went wrong: {type(error).__name__}: {error}", error=True)


@dataclass(frozen=True)
class Scanned:
    """What was read so far of a folder, of how many runs, and what went wrong."""

    scanner: RunScanner
    records: list[RunRecord]
    count: int
    problem: str = ""


def scan(scanner: RunScanner) -> Generator[Scanned, None, RunScanner]:
    """Read the runs under a folder; a worker can be asked to leave between two of them."""
    try:
        for records, count in scanner.scan():
            yield Scanned(scanner, records, count)
    except (OSError, ValueError) as error:  # the latter: a path that none can be
        yield Scanned(scanner, [], 0, str(error))
    return scanner


def details(record: RunRecord) -> str:
    """Say in some lines what is known of a run."""
    best = best_text(record)
    parts = [state_text(record), moment(record.status.started), record.status.task]
    numbers = [f"best loss {best}"] * bool(best) + [record.score] * bool(record.score)
    lines = [
        f"{record.run.run_name}: {', '.join(p for p in parts if p)}",
        f"Data: {record.images_of}" if record.data else "",
        ", ".join(numbers),
        record.note,
    ]
    return "\n".join(line for line in lines if line)


def _part(ends: tuple[Callable[[], None], ...], *_: object) -> None:
    for end in ends:
        end()
