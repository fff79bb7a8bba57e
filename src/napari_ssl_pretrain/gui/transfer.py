"""The dock widget *Transfer*: does pretraining help? Start, watch, stop, read the verdict."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from magicgui.widgets import Container, PushButton
from napari.layers import Image as ImageLayer
from qtpy.QtCore import QSize, QTimer, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QProgressBar, QTabWidget, QVBoxLayout, QWidget

from napari_ssl_pretrain import runner
from napari_ssl_pretrain.errors import UserError
from napari_ssl_pretrain.gui import docks, remember, study_watch
from napari_ssl_pretrain.gui.crew import Crew
from napari_ssl_pretrain.gui.layer_source import OWN
from napari_ssl_pretrain.gui.run_control import Shown
from napari_ssl_pretrain.gui.status import StatusLine
from napari_ssl_pretrain.gui.study_control import StudyControl
from napari_ssl_pretrain.gui.study_form import StudyForm
from napari_ssl_pretrain.gui.study_view import StudyView
from napari_ssl_pretrain.gui.study_watch import Case, Found

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari.viewer

    from napari_ssl_pretrain.spec.transfer import TransferConfig

BUTTONS = {
    "start": ("Start", "Compare, as a process of its own; it goes on when napari is closed."),
    "stop": ("Stop", "End the comparison; what is there so far is reported."),
    "open_report": ("Open report", "Show the report in the browser."),
    "open_cases": ("Open cases", "Show the median and the worst test image as layers."),
}
REMEMBER_MS = 500
ORDER = ("image", "truth", "scratch", "frozen", "pretrained")
OPACITY = 0.6
"""Of what is drawn over the image of a case."""


class Transfer(QWidget):
    """Find out whether a pretrained network helps on labelled images.

    Parameters
    ----------
    viewer
        The viewer.
    start
        Starts a study; the real one by default.
    """

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        *,
        start: Callable[[TransferConfig], runner.StudyHandle] = runner.start_study,
    ) -> None:
        super().__init__()
        self.viewer: Any = getattr(viewer, "__wrapped__", viewer)
        self._start_study = start
        self._crew = Crew()
        self.form = StudyForm(self._crew, partial(docks.run_folders, self.viewer))
        self.form.set_fields(remember.load("transfer"))
        self.view = StudyView(self.viewer)
        self.status = StatusLine()
        self.progress = QProgressBar()
        shown = Shown(self.status, self.progress)
        self.control = StudyControl(self.viewer, self._crew, self.view, shown)
        self.buttons: dict[str, PushButton] = {}
        self._lay_out()
        self._connect()
        self._refresh_buttons()
        docks.register(self)
        QTimer.singleShot(0, self._find_study)

    def sizeHint(self) -> QSize:
        """Ask for the width of napari's other docks."""
        return QSize(370, 700)

    def _lay_out(self) -> None:
        self.tabs = QTabWidget()
        self.tabs.setObjectName("tabs")
        self.tabs.setDocumentMode(True)
        self.tabs.addTab(self.form, "Settings")
        self.tabs.addTab(self.view, "Result")
        self.status.setObjectName("status")
        self.progress.setObjectName("progress")
        self.progress.setRange(0, 1000)
        self.progress.setValue(0)
        self.progress.setFormat("")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self._button_row().native)
        layout.addWidget(self.progress)
        layout.addWidget(self.status)
        self.setMinimumWidth(300)
        self.status.say("Choose a pretrained network and labelled images, then Start.")

    def _button_row(self) -> Any:
        for name, (text, tip) in BUTTONS.items():
            button = PushButton(text=text, tooltip=tip)
            button.native.setObjectName(name)
            button.native.setMinimumWidth(20)
            self.buttons[name] = button
        row: Any = Container(widgets=list(self.buttons.values()), layout="horizontal", labels=False)
        row.margins = (0, 0, 0, 0)
        inner = row.native.layout()
        if inner is not None:
            inner.setSpacing(4)
        self._row = row
        return row

    def _connect(self) -> None:
        for name, button in self.buttons.items():
            button.native.clicked.connect(getattr(self, f"_on_{name}"))
        self._memory = QTimer(self)
        self._memory.setSingleShot(True)
        self._memory.setInterval(REMEMBER_MS)
        self._memory.timeout.connect(self._remember)
        self.form.changed.connect(lambda _: self._memory.start())
        self.form.link_clicked.connect(self._on_link)
        self.control.changed.connect(self._refresh_buttons)
        self.control.problem.connect(self._show_error)
        self.control.config_found.connect(self.setValue)
        ends = (
            self._crew.dismiss,
            self.control.activity.close,
            self.control.calm.end,
            self.view.close_links,
        )
        self.destroyed.connect(partial(_part, ends))

    def value(self) -> TransferConfig:
        """Return the study that the form shows; raises ``ConfigError`` if it is wrong."""
        return self.form.value()

    def setValue(self, config: TransferConfig) -> None:
        """Show a study."""
        self.form.setValue(config)

    def _remember(self) -> None:
        remember.save("transfer", self.form.fields())

    def _show_error(self, error: UserError) -> None:
        taken = error.subject == "output" and "report" in error.rule
        extra = '<a href="next">Take the next free name.</a>' if taken else ""
        if self.form.show_error(error, extra=extra):
            self.tabs.setCurrentWidget(self.form)
        self.status.say(str(error), error=True)

    def _on_link(self, _target: str) -> None:
        self.form.set("output", study_watch.next_output(str(self.form.get("output"))))

    def _refresh_buttons(self) -> None:
        active, study = self.control.active, self.control.study
        self.buttons["start"].enabled = not active
        self.buttons["stop"].enabled = active
        report = study is not None and study.report.exists()
        cases = study is not None and study.pictures.exists()
        self.buttons["open_report"].enabled = report and not active
        self.buttons["open_cases"].enabled = cases and not active

    def _on_start(self) -> None:
        self.form.clear_errors()
        try:
            config = self.form.value()
        except UserError as error:
            self._show_error(error)
            return
        self._remember()
        self.tabs.setCurrentWidget(self.view)
        self.control.start(self._start_study, config)

    def _on_stop(self) -> None:
        self.control.stop()

    def _on_open_report(self) -> None:
        if self.control.study is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.control.study.report)))

    def _on_open_cases(self) -> None:
        if self.control.study is not None:
            self._crew.start(
                study_watch.read_cases,
                self.control.study,
                returned=self._show_cases,
                errored=self._unexpected,
            )

    def _show_cases(self, cases: list[Case]) -> None:
        """Show the cases, of the first what the pretrained network finds on the image."""
        for case in reversed(cases):
            for shown in sorted(case.pictures, key=_height):
                visible = case is cases[0] and shown in {"image", "pretrained"}
                self._put(f"{case.kind} case {shown}", case.pictures[shown], visible=visible)
        self.viewer.reset_view()
        self.status.say("The layers' eyes show truth and networks; napari's grid spreads them.")

    def _put(self, name: str, picture: Any, *, visible: bool) -> None:
        """Show a picture in the layer of its name, which is made anew where there is one."""
        if name in self.viewer.layers:
            self.viewer.layers.remove(name)
        rgb = picture.ndim > 2  # noqa: PLR2004
        opacity = 1.0 if name.endswith("image") else OPACITY
        layer = ImageLayer(picture, name=name, rgb=rgb, opacity=opacity, visible=visible)
        layer.metadata = {OWN: {"file": str(self.control.study and self.control.study.pictures)}}
        self.viewer.layers.append(layer)

    def _unexpected(self, error: Exception) -> None:
        self.status.say(f"Something went wrong: {type(error).__name__}: {error}", error=True)

    def _find_study(self) -> None:
        """Look for a study begun here earlier, and for runs to compare."""
        self.form.checkpoint.suggest("")
        self._crew.start(
            study_watch.find_study,
            *remember.load_study(),
            returned=self._on_found,
            errored=self._unexpected,
        )

    def _on_found(self, found: runner.StudyHandle | Found | None) -> None:
        if found is None or self.control.active:
            return
        if isinstance(found, Found):
            self.control.show(found)
        else:
            self.tabs.setCurrentWidget(self.view)
            self.control.attach(found)


def _height(shown: str) -> int:
    """Return how high above the image the picture of a case lies."""
    return ORDER.index(shown) if shown in ORDER else len(ORDER)


def _part(ends: tuple[Callable[[], None], ...], *_: object) -> None:
    """Leave the study alone, and let go of the viewer."""
    for end in ends:
        end()
