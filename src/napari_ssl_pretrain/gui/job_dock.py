"""What the docks that start a process share: pages, buttons, a bar, a status line, a memory."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from magicgui.widgets import Container, PushButton
from qtpy.QtCore import QSize, QTimer
from qtpy.QtWidgets import QProgressBar, QTabWidget, QVBoxLayout, QWidget

from napari_ssl_pretrain.gui import docks, remember
from napari_ssl_pretrain.gui.crew import Crew
from napari_ssl_pretrain.gui.job_control import FULL, JobControl, Shown
from napari_ssl_pretrain.gui.status import StatusLine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_ssl_pretrain.errors import UserError
    from napari_ssl_pretrain.gui.field_form import FieldForm

REMEMBER_MS = 500


class JobDock(QWidget):
    """A dock with a form, a view of the job, and buttons; whoever derives fills it.

    Parameters
    ----------
    viewer
        The viewer.
    """

    MEMORY: str
    """Name under which the form is remembered."""

    form: Any
    control: Any

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        # napari hands out a proxy; behind it each layer is one object that equals itself alone
        self.viewer: Any = getattr(viewer, "__wrapped__", viewer)
        self._crew = Crew()
        self.status = StatusLine()
        self.progress = QProgressBar()
        self.shown = Shown(self.status, self.progress)
        self.buttons: dict[str, PushButton] = {}

    def sizeHint(self) -> QSize:
        """Ask for the width of napari's other docks."""
        return QSize(370, 700)

    def lay_out(
        self, pages: Mapping[str, QWidget], buttons: Mapping[str, tuple[str, str]], advice: str
    ) -> None:
        """Lay out the pages by their titles, and buttons with a text and a tip by their names."""
        self.tabs = QTabWidget()
        self.tabs.setObjectName("tabs")
        self.tabs.setDocumentMode(True)
        for title, page in pages.items():
            self.tabs.addTab(page, title)
        self.status.setObjectName("status")
        self.progress.setObjectName("progress")
        self.progress.setRange(0, FULL)
        self.progress.setValue(0)
        self.progress.setFormat("")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self._button_row(buttons).native)
        layout.addWidget(self.progress)
        layout.addWidget(self.status)
        self.setMinimumWidth(300)
        self.status.say(advice)

    def _button_row(self, buttons: Mapping[str, tuple[str, str]]) -> Any:
        for name, (text, tip) in buttons.items():
            button = PushButton(text=text, tooltip=tip)
            button.native.setObjectName(name)
            button.native.setMinimumWidth(20)
            button.native.clicked.connect(getattr(self, f"_on_{name}"))
            self.buttons[name] = button
        row: Any = Container(widgets=list(self.buttons.values()), layout="horizontal", labels=False)
        row.margins = (0, 0, 0, 0)
        inner = row.native.layout()
        if inner is not None:
            inner.setSpacing(4)
        self._row = row
        return row

    def begin(
        self, form: FieldForm, control: JobControl, ends: tuple[Callable[[], None], ...]
    ) -> None:
        """Connect form and control, and say what lets go of the viewer when the dock is gone."""
        self._memory = QTimer(self)
        self._memory.setSingleShot(True)
        self._memory.setInterval(REMEMBER_MS)
        self._memory.timeout.connect(self._remember)
        form.changed.connect(lambda _: self._memory.start())
        form.link_clicked.connect(self._on_link)
        control.changed.connect(self._refresh_buttons)
        control.problem.connect(self._show_error)
        control.config_found.connect(self.setValue)
        all_ends = (self._crew.dismiss, control.activity.close, control.calm.end, *ends)
        self.destroyed.connect(partial(_part, all_ends))
        self._refresh_buttons()
        docks.register(self)

    def setValue(self, config: Any) -> None:
        """Show a configuration."""
        self.form.setValue(config)

    def _remember(self) -> None:
        remember.save(self.MEMORY, self.form.fields())

    def _refresh_buttons(self) -> None:
        """Enable the buttons that make sense now."""
        raise NotImplementedError

    def _on_link(self, target: str) -> None:
        """Do what the link under an error says."""
        raise NotImplementedError

    def _remedy(self, error: UserError) -> str:
        """Return a link that mends an error, or nothing."""
        raise NotImplementedError

    def _show_error(self, error: UserError) -> None:
        if self.form.show_error(error, extra=self._remedy(error)):
            self.tabs.setCurrentWidget(self.form)
        self.status.say(str(error), error=True)

    def _unexpected(self, error: Exception) -> None:
        self.status.say(f"Something went wrong: {type(error).__name__}: {error}", error=True)

    def _on_stop(self) -> None:
        self.control.stop()


def _part(ends: tuple[Callable[[], None], ...], *_: object) -> None:
    """Leave the job alone, and let go of the viewer."""
    for end in ends:
        end()
