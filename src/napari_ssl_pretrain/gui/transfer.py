"""The dock widget *Transfer*: does pretraining help? Start, watch, stop, read the verdict."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari.layers import Image as ImageLayer
from qtpy.QtCore import QTimer, QUrl
from qtpy.QtGui import QDesktopServices

from napari_ssl_pretrain import runner
from napari_ssl_pretrain.errors import ConfigError, UserError
from napari_ssl_pretrain.gui import docks, labelled_layers, remember, study_watch
from napari_ssl_pretrain.gui.job_dock import JobDock
from napari_ssl_pretrain.gui.layer_source import OWN
from napari_ssl_pretrain.gui.problem import Problem
from napari_ssl_pretrain.gui.study_control import StudyControl
from napari_ssl_pretrain.gui.study_form import StudyForm
from napari_ssl_pretrain.gui.study_view import StudyView
from napari_ssl_pretrain.gui.study_watch import Case, Found

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari.viewer

    from napari_ssl_pretrain.gui.labelled_layers import Kept
    from napari_ssl_pretrain.spec.transfer import TransferConfig

BUTTONS = {
    "start": ("Start", "Compare, as a process of its own; it goes on when napari is closed."),
    "stop": ("Stop", "End the comparison; what is there so far is reported."),
    "open_report": ("Open report", "Show the report in the browser."),
    "open_cases": ("Open cases", "Show the median and the worst test image as layers."),
}
ORDER = ("image", "truth", "scratch", "frozen", "pretrained")
OPACITY = 0.6
"""Of what is drawn over the image of a case."""


class Transfer(JobDock):
    """Find out whether a pretrained network helps on labelled images.

    Parameters
    ----------
    viewer
        The viewer.
    start
        Starts a study; the real one by default.
    """

    MEMORY = "transfer"

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        *,
        start: Callable[[TransferConfig], runner.StudyHandle] = runner.start_study,
    ) -> None:
        super().__init__(viewer)
        self._start_study = start
        self.form = StudyForm(self._crew, partial(docks.run_folders, self.viewer))
        self.form.set_fields(remember.load(self.MEMORY))
        self.view = StudyView(self.viewer)
        self.control = StudyControl(self.viewer, self._crew, self.view, self.shown)
        pages = {"Settings": self.form, "Result": self.view}
        self.lay_out(pages, BUTTONS, "Choose a pretrained network and labelled images, then Start.")
        self.begin(self.form, self.control, (self.view.close_links,))
        self.form.use_layers.native.clicked.connect(self._on_use_layers)
        QTimer.singleShot(0, self._find_study)

    def value(self) -> TransferConfig:
        """Return the study that the form shows; raises ``ConfigError`` if it is wrong."""
        config: TransferConfig = self.form.value()
        return config

    def _remedy(self, error: UserError) -> str:
        taken = error.subject == "output" and "report" in error.rule
        return '<a href="next">Take the next free name.</a>' if taken else ""

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

    def _on_use_layers(self) -> None:
        """Keep the labelled layers as files, and take these."""
        self.form.clear_errors()
        output = str(self.form.get("output"))
        if not output:
            remedy = "Choose where the report goes; the layers are kept beside it."
            self._show_error(ConfigError("output", "must name a folder", remedy=remedy))
            return
        self.status.say("Keeping the labelled layers as files…")
        self.form.use_layers.enabled = False
        self._crew.start(
            labelled_layers.keep,
            *labelled_layers.labelled_layers(self.viewer),
            output,
            returned=self._on_kept,
            errored=self._unexpected,
            finished=self._after_keeping,
        )

    def _after_keeping(self) -> None:
        self.form.use_layers.enabled = True

    def _on_kept(self, found: Kept | Problem) -> None:
        if isinstance(found, Problem):
            self._show_error(found.error)
            return
        for field in ("images", "labels"):
            self.form.set(field, str(found.folder / field))
        pairs = ", ".join(f"{pair.image.name} + {pair.labels.name}" for pair in found.pairs)
        self.status.say(
            f"Kept in {found.folder}: {pairs}. What is not painted counts as background."
        )

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
