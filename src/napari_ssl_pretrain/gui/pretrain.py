"""The dock widget *Pretrain*: choose images, check, preview, start, watch, stop, resume."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image as ImageLayer
from qtpy.QtCore import QTimer

from napari_ssl_pretrain import runner
from napari_ssl_pretrain.data.discovery import find_images
from napari_ssl_pretrain.errors import UserError
from napari_ssl_pretrain.gui import remember, watch
from napari_ssl_pretrain.gui.check import CheckTable, Counted, Report, check
from napari_ssl_pretrain.gui.form import ConfigForm
from napari_ssl_pretrain.gui.job import make_job, open_layers
from napari_ssl_pretrain.gui.job_dock import JobDock
from napari_ssl_pretrain.gui.layer_source import FILE, active_layer, users_layers
from napari_ssl_pretrain.gui.monitor import Monitor
from napari_ssl_pretrain.gui.preview import Preview
from napari_ssl_pretrain.gui.problem import Problem
from napari_ssl_pretrain.gui.result_layers import image_pieces
from napari_ssl_pretrain.gui.results import MAX_IMAGES, Opened, ResultReader, open_picture
from napari_ssl_pretrain.gui.run_control import RunControl
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


class Pretrain(JobDock):
    """Pretrain a network on unlabelled images.

    Parameters
    ----------
    viewer
        The viewer.
    start
        Starts a run; the real one by default.
    """

    MEMORY = "form"

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        *,
        start: Callable[..., runner.RunHandle] = runner.start,
    ) -> None:
        super().__init__(viewer)
        self._start_run = start
        self._checking = False
        self._after_open: Callable[[ImageLayer], None] | None = None
        self.form = ConfigForm(partial(open_layers, self.viewer))
        self.form.set("result_dir", str(Path.home() / "exp_results"))
        self.form.set_fields(remember.load(self.MEMORY))
        self.table = CheckTable()
        self.monitor = Monitor(self.viewer)
        self.preview = Preview(self.viewer, self._preview_settings, self)
        self.control = RunControl(self.viewer, self._crew, self.monitor, self.shown)
        pages = {"Settings": self.form, "Images": self.table, "Training": self.monitor}
        buttons = {name: (name.capitalize(), tip) for name, tip in BUTTONS.items()}
        self.lay_out(pages, buttons, "Choose images to train on, then Check or Start.")
        self._connect()
        QTimer.singleShot(0, self._find_run)

    def _connect(self) -> None:
        self.form.changed.connect(self._on_form_changed)
        self.table.image_chosen.connect(self._open_image)
        self.preview.failed.connect(self._show_error)
        self.control.layer_saved.connect(self._on_layer_saved)
        self.begin(self.form, self.control, (self.preview.close, self.monitor.close_links))

    def value(self) -> PretrainConfig:
        """Return the configuration that the form shows; raises ``ConfigError`` if it is wrong."""
        return make_job(self.form.fields(), self.viewer)[0]

    def _on_form_changed(self, path: str) -> None:
        if not path or path.startswith("pretext.") or path == "data.ndim":
            self.preview.update()

    def _preview_settings(self) -> tuple[PretextConfig, Any]:
        fields = self.form.fields()
        stand_in = {"train": ("x",), "ndim": fields["data"]["ndim"]}
        config = PretrainConfig(data=stand_in, pretext=fields["pretext"])
        return config.pretext, config.data.ndim

    def _remedy(self, error: UserError) -> str:
        taken = error.subject == "run_id" and "exists" in error.rule
        return '<a href="next">Take the next free number.</a>' if taken else ""

    def _on_link(self, _target: str) -> None:
        self.form.set("run_id", watch.next_run_id(self._run()))

    def _run(self) -> RunDir:
        """Return the run that the form names."""
        folder = Path(str(self.form.get("result_dir"))).expanduser().absolute()
        return RunDir(folder, str(self.form.get("name")), int(self.form.get("run_id")))

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
