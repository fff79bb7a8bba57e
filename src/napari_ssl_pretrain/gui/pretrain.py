"""The dock widget *Pretrain*: choose images, check, preview, start, watch, stop, resume."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import Container, PushButton
from napari.layers import Image as ImageLayer
from qtpy.QtCore import QSize, QTimer
from qtpy.QtWidgets import QProgressBar, QTabWidget, QVBoxLayout, QWidget

from napari_ssl_pretrain import runner
from napari_ssl_pretrain.data.discovery import find_images
from napari_ssl_pretrain.errors import UserError
from napari_ssl_pretrain.gui import docks, remember, watch
from napari_ssl_pretrain.gui.check import CheckTable, Counted, Report, check
from napari_ssl_pretrain.gui.crew import Crew
from napari_ssl_pretrain.gui.form import ConfigForm
from napari_ssl_pretrain.gui.job import make_job, open_layers
from napari_ssl_pretrain.gui.layer_source import FILE, active_layer, users_layers
from napari_ssl_pretrain.gui.monitor import Monitor
from napari_ssl_pretrain.gui.preview import Preview
from napari_ssl_pretrain.gui.problem import Problem
from napari_ssl_pretrain.gui.result_layers import image_pieces
from napari_ssl_pretrain.gui.results import MAX_IMAGES, Opened, ResultReader, open_picture
from napari_ssl_pretrain.gui.run_control import RunControl, Shown
from napari_ssl_pretrain.gui.status import StatusLine
from napari_ssl_pretrain.spec.config import PretextConfig, PretrainConfig
from napari_ssl_pretrain.spec.run_dir import RunDir

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari.viewer

BUTTONS = {
    "check": "Show what would be trained on; trains nothing.",
    "preview": "Draw what the network will be shown on the open layer; follows the sliders.",
    "start": "Start the training as a process of its own; it goes on when napari is closed.",
    "stop": "Save the state and end the training. Resume goes on later.",
    "resume": "Go on with this run from its last saved state.",
}
REMEMBER_MS = 500


class Pretrain(QWidget):
    """Pretrain a network on unlabelled images.

    Parameters
    ----------
    viewer
        The viewer.
    start
        Starts a run; the real one by default.
    """

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        *,
        start: Callable[..., runner.RunHandle] = runner.start,
    ) -> None:
        super().__init__()
        # napari hands out a proxy; behind it each layer is one object that equals itself alone
        self.viewer: Any = getattr(viewer, "__wrapped__", viewer)
        self._start_run = start
        self._crew = Crew()
        self._checking = False
        self._after_open: Callable[[ImageLayer], None] | None = None
        self.form = ConfigForm(partial(open_layers, self.viewer))
        self.form.set("result_dir", str(Path.home() / "exp_results"))
        self.form.set_fields(remember.load("form"))
        self.table = CheckTable()
        self.monitor = Monitor(self.viewer)
        self.preview = Preview(self.viewer, self._preview_settings, self)
        self.status = StatusLine()
        self.progress = QProgressBar()
        shown = Shown(self.status, self.progress)
        self.control = RunControl(self.viewer, self._crew, self.monitor, shown)
        self.buttons: dict[str, PushButton] = {}
        self._lay_out()
        self._connect()
        self._refresh_buttons()
        docks.register(self)
        QTimer.singleShot(0, self._find_run)

    def sizeHint(self) -> QSize:
        """Ask for the width of napari's other docks."""
        return QSize(370, 700)

    def _lay_out(self) -> None:
        self.tabs = QTabWidget()
        self.tabs.setObjectName("tabs")
        self.tabs.setDocumentMode(True)
        pages = {"Settings": self.form, "Images": self.table, "Training": self.monitor}
        for title, page in pages.items():
            self.tabs.addTab(page, title)
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
        self.status.say("Choose images to train on, then Check or Start.")

    def _button_row(self) -> Any:
        for name, tip in BUTTONS.items():
            button = PushButton(text=name.capitalize(), tooltip=tip)
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
        self.form.changed.connect(self._on_form_changed)
        self.form.link_clicked.connect(self._on_link)
        self.table.image_chosen.connect(self._open_image)
        self.preview.failed.connect(self._show_error)
        self.control.changed.connect(self._refresh_buttons)
        self.control.problem.connect(self._show_error)
        self.control.layer_saved.connect(self._on_layer_saved)
        self.control.config_found.connect(self.setValue)
        ends = (
            self._crew.dismiss,
            self.preview.close,
            self.control.activity.close,
            self.control.calm.end,
            self.monitor.close_links,
        )
        self.destroyed.connect(partial(_part, ends))

    def value(self) -> PretrainConfig:
        """Return the configuration that the form shows; raises ``ConfigError`` if it is wrong."""
        return make_job(self.form.fields(), self.viewer)[0]

    def setValue(self, config: PretrainConfig) -> None:
        """Show a configuration."""
        self.form.setValue(config)

    def _remember(self) -> None:
        remember.save("form", self.form.fields())

    def _on_form_changed(self, path: str) -> None:
        self._memory.start()
        if not path or path.startswith("pretext.") or path == "data.ndim":
            self.preview.update()

    def _preview_settings(self) -> tuple[PretextConfig, Any]:
        fields = self.form.fields()
        stand_in = {"train": ("x",), "ndim": fields["data"]["ndim"]}
        config = PretrainConfig(data=stand_in, pretext=fields["pretext"])
        return config.pretext, config.data.ndim

    def _show_error(self, error: UserError) -> None:
        taken = error.subject == "run_id" and "exists" in error.rule
        extra = '<a href="next">Take the next free number.</a>' if taken else ""
        if self.form.show_error(error, extra=extra):
            self.tabs.setCurrentWidget(self.form)
        self.status.say(str(error), error=True)

    def _on_link(self, _target: str) -> None:
        self.form.set("run_id", watch.next_run_id(self._run()))

    def _run(self) -> RunDir:
        """Return the run that the form names."""
        folder = Path(str(self.form.get("result_dir"))).expanduser().absolute()
        return RunDir(folder, str(self.form.get("name")), int(self.form.get("run_id")))

    def _unexpected(self, error: Exception) -> None:
        self.status.say(f"Something went wrong: {type(error).__name__}: {error}", error=True)

    def _refresh_buttons(self) -> None:
        active = self.control.active
        self.buttons["check"].enabled = not self._checking
        self.buttons["start"].enabled = self.buttons["resume"].enabled = not active
        self.buttons["stop"].enabled = active

    def _job(self) -> tuple[PretrainConfig, Any] | None:
        """Return the job that the form describes, or show what is wrong with it."""
        self.form.clear_errors()
        try:
            job = make_job(self.form.fields(only_relevant=True), self.viewer)
        except UserError as error:
            self._show_error(error)
            return None
        self._remember()
        return job

    def _on_check(self) -> None:
        job = self._job()
        if job is None:
            return
        self._checking = True
        self._refresh_buttons()
        self.status.say("Reading the headers of the images…")
        self._crew.start(
            check,
            *job,
            remember.load_speeds(),
            yielded=self._on_checking,
            returned=self._on_checked,
            errored=self._unexpected,
            finished=self._on_check_over,
        )

    def _on_checking(self, update: Any) -> None:
        if isinstance(update, Problem):
            self._show_error(update.error)
        elif isinstance(update, watch.Saved):
            self._on_layer_saved(update.layer, update.path)
        elif isinstance(update, Counted):
            self.status.say(f"Looking at image {update.done + 1} of {update.total}…")

    def _on_checked(self, report: Report | None) -> None:
        if report is None:
            return
        self.table.show_report(report)
        self.tabs.setCurrentWidget(self.table)
        self.status.say(report.summary)

    def _on_check_over(self) -> None:
        self._checking = False
        self._refresh_buttons()

    def _on_layer_saved(self, name: str, path: str) -> None:
        for layer in users_layers(self.viewer):
            if layer.name == name:
                layer.metadata = {**layer.metadata, FILE: path}
        self.status.say(f"Layer {name} has no file: a copy is kept as {path}")

    def _on_preview(self) -> None:
        self.form.clear_errors()
        layer = active_layer(self.viewer)
        if layer is not None:
            self.preview.begin(layer)
            self.status.say("The preview follows the settings; remove its layer to end it.")
            return
        entry = (self.form.get("data.train") or ("",))[0]
        if not entry:
            self.status.say("Open an image, or choose images to train on.", error=True)
            return
        self._after_open = self.preview.begin
        self._crew.start(
            open_first,
            entry,
            str(self.form.get("data.axes")),
            returned=self._on_opened,
            errored=self._unexpected,
        )

    def _open_image(self, path: str) -> None:
        """Open an image of the table as layers, or select them where it is open."""
        found = [x for x in users_layers(self.viewer) if self._file_of(x) == path]
        if found:
            self.viewer.layers.selection.active = found[0]
            return
        self._after_open = None
        self._crew.start(
            open_picture,
            path,
            str(self.form.get("data.axes")),
            returned=self._on_opened,
            errored=self._unexpected,
        )

    @staticmethod
    def _file_of(layer: ImageLayer) -> str:
        return str(layer.source.path or layer.metadata.get(FILE) or "")

    def _on_opened(self, found: Opened | Problem) -> None:
        if isinstance(found, Problem):
            self._show_error(found.error)
            return
        pieces = image_pieces(found.name, found.picture)
        layers = [ImageLayer(**piece, metadata={FILE: found.path}) for piece in pieces]
        for layer in layers:
            self.viewer.layers.append(layer)
        if self._after_open is not None:
            self._after_open(layers[0])
            self._after_open = None

    def _on_start(self) -> None:
        self._launch(resume=False)

    def _on_resume(self) -> None:
        self._launch(resume=True)

    def _launch(self, *, resume: bool) -> None:
        job = self._job()
        if job is None:
            return
        config, sources = job
        self.preview.end()
        self.tabs.setCurrentWidget(self.monitor)
        launch = partial(watch.launch, self._start_run, config, resume=resume)
        self.control.start(launch, sources, self._reader())

    def _reader(self, limit: int = MAX_IMAGES) -> ResultReader:
        files = frozenset(self._file_of(layer) for layer in users_layers(self.viewer))
        return ResultReader(preferred=files - {""}, limit=limit)

    def _on_stop(self) -> None:
        self.control.stop()

    def _find_run(self) -> None:
        """Look for a run that goes on, begun here earlier."""
        last, watching = remember.load_run()
        folder = Path(str(self.form.get("result_dir"))).expanduser()
        self._crew.start(
            watch.find_run,
            folder,
            last,
            watching,
            returned=self._on_found,
            errored=self._unexpected,
        )

    def _on_found(self, handle: runner.RunHandle | None) -> None:
        if handle is None or self.control.active:
            return
        self.tabs.setCurrentWidget(self.monitor)
        self.control.attach(handle, self._reader())


def open_first(entry: str, axes: str) -> Opened | Problem:
    """Read the first image that an entry of the form names."""
    try:
        return open_picture(str(find_images("data.train", (entry,))[0]), axes)
    except UserError as error:
        return Problem(error)


def _part(ends: tuple[Callable[[], None], ...], *_: object) -> None:
    """Leave the run alone, and let go of the viewer."""
    for end in ends:
        end()
