"""The dock widget *Features*: what a pretrained network sees in an open image."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from magicgui.widgets import Container, PushButton
from napari.layers import Labels as LabelsLayer
from qtpy.QtCore import QSize, QTimer
from qtpy.QtWidgets import QCheckBox, QFormLayout, QLabel, QProgressBar, QVBoxLayout, QWidget

from napari_ssl_pretrain.gui import docks, encoding, remember
from napari_ssl_pretrain.gui.boxes import LayerBox
from napari_ssl_pretrain.gui.checkpoint_editor import CheckpointEditor
from napari_ssl_pretrain.gui.crew import Crew
from napari_ssl_pretrain.gui.encoding import Child, Encoded, Request
from napari_ssl_pretrain.gui.feature_layers import FeatureLayers
from napari_ssl_pretrain.gui.hover import FLAT, Hover
from napari_ssl_pretrain.gui.layer_source import OWN, active_layer, describe, users_layers
from napari_ssl_pretrain.gui.monitor import Activity
from napari_ssl_pretrain.gui.probing import Probed, probe
from napari_ssl_pretrain.gui.problem import Problem
from napari_ssl_pretrain.gui.status import StatusLine
from napari_ssl_pretrain.gui.words import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import napari.viewer
    from napari.layers import Image as ImageLayer

    from napari_ssl_pretrain.spec import events as ev

NEW = "new layer"
ADVICE = (
    "Paint a few strokes of label 1 on one kind of thing and of label 2 on another "
    "(M takes a new label), then click Probe again."
)
TIPS = {
    "checkpoint": "The trained network: a checkpoint that a run left (.pth).",
    "layer": "The image to encode.",
    "encode": "Compute the network's features of the whole image, in a process of its own.",
    "stop": "End the encoding, or the probe.",
    "similarity": "Show how similar everything is to the point under the mouse.",
    "scribbles": "A Labels layer with a few strokes of at least two labels.",
    "probe": "Learn the painted labels from the features and predict them everywhere.",
}


class Features(QWidget):
    """Features of an open image: colours, similarity, a linear probe.

    Parameters
    ----------
    viewer
        The viewer.
    command
        What encodes, instead of this package's command line.
    """

    def __init__(
        self, viewer: napari.viewer.Viewer, *, command: Sequence[str] = encoding.COMMAND
    ) -> None:
        super().__init__()
        self.viewer: Any = getattr(viewer, "__wrapped__", viewer)
        self._command = tuple(command)
        self._crew = Crew()
        self._child: Child | None = None
        self._prober: Any = None
        self._activity = Activity()
        self._encoded: WeakKeyDictionary[ImageLayer, Encoded] = WeakKeyDictionary()
        self._layers = FeatureLayers(self.viewer)
        self.hover = Hover(self.viewer, self._layers, self)
        self.checkpoint = CheckpointEditor(self._crew, partial(docks.run_folders, self.viewer))
        self.layer = LayerBox("layer", lambda: users_layers(self.viewer))
        self.scribbles = LayerBox("scribbles", self._painted_layers, NEW)
        self.similarity = QCheckBox("Similarity to the point under the mouse")
        self.status = StatusLine()
        self.progress = QProgressBar()
        self.buttons: dict[str, PushButton] = {}
        self._lay_out()
        self._connect()
        docks.register(self)
        QTimer.singleShot(0, self._begin)

    def sizeHint(self) -> QSize:
        """Ask for the width of napari's other docks."""
        return QSize(370, 360)

    def _lay_out(self) -> None:
        self.similarity.setObjectName("similarity")
        self.status.setObjectName("status")
        self.progress.setObjectName("progress")
        self._rest()
        for name, text in {"encode": "Encode", "stop": "Stop", "probe": "Probe"}.items():
            button = PushButton(text=text, tooltip=TIPS[name])
            button.native.setObjectName(name)
            button.native.setMinimumWidth(20)
            button.native.clicked.connect(getattr(self, f"_on_{name}"))
            self.buttons[name] = button
        for name in ("checkpoint", "layer", "similarity", "scribbles"):
            getattr(self, name).setToolTip(TIPS[name])
        self._row: Any = Container(
            widgets=[self.buttons["encode"], self.buttons["stop"]],
            layout="horizontal",
            labels=False,
        )
        self._row.margins = (0, 0, 0, 0)
        form, painting = QFormLayout(), QFormLayout()
        form.addRow("Network", self.checkpoint)
        form.addRow("Image", self.layer)
        painting.addRow("Scribbles", self.scribbles)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        layout.addWidget(QLabel("<b>Features</b>"))
        layout.addLayout(form)
        layout.addWidget(self._row.native)
        layout.addWidget(self.progress)
        layout.addWidget(self.similarity)
        layout.addWidget(QLabel("<b>Linear probe</b>"))
        layout.addLayout(painting)
        layout.addWidget(self.buttons["probe"].native)
        layout.addWidget(self.status)
        layout.addStretch(1)
        self.setMinimumWidth(300)

    def _connect(self) -> None:
        events = self.viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.connect(self._on_layers)
        self.layer.currentTextChanged.connect(self._refresh)
        self.checkpoint.on_change(self._refresh)
        self.similarity.toggled.connect(self._on_similarity)
        self.destroyed.connect(self._disconnector())
        self._refresh()

    def _disconnector(self) -> Callable[[], None]:
        """Return what lets go of the viewer when the dock is gone."""
        events, crew, hover, stop = self.viewer.layers.events, self._crew, self.hover, self._kill

        def let_go() -> None:
            for event in (events.inserted, events.removed, events.reordered):
                event.disconnect(self._on_layers)
            hover.end()
            stop()
            crew.dismiss()

        return let_go

    def _begin(self) -> None:
        """Offer the image and the network that the user is likely to want."""
        chosen = active_layer(self.viewer)
        if chosen is not None:
            self.layer.choose(chosen.name)
        self.checkpoint.suggest(str(remember.load("features").get("checkpoint") or ""))

    def _painted_layers(self) -> list[LabelsLayer]:
        labels = (layer for layer in self.viewer.layers if isinstance(layer, LabelsLayer))
        return [layer for layer in labels if OWN not in layer.metadata]

    def _on_layers(self, _event: Any = None) -> None:
        self.layer.refresh()
        self.scribbles.refresh()
        self._refresh()

    def encoded(self) -> Encoded | None:
        """Return the features of the chosen image, once encoded."""
        host = self.layer.layer()
        return self._encoded.get(host) if host is not None else None

    def _refresh(self, *_: Any) -> None:
        """Enable what can be done, and follow the mouse where that is wanted."""
        host, found = self.layer.layer(), self.encoded()
        encoding_now, probing = self._child is not None, self._prober is not None
        named = host is not None and bool(self.checkpoint.get())
        self.buttons["encode"].enabled = named and not encoding_now
        self.buttons["stop"].enabled = encoding_now or probing
        self.similarity.setEnabled(found is not None)
        self.buttons["probe"].enabled = found is not None and not probing
        if host is not None and found is not None and self.similarity.isChecked():
            self.hover.begin(host, found)
        else:
            self.hover.end()

    def _on_similarity(self, on: bool) -> None:  # noqa: FBT001 - Qt's
        """Show similarity over the image in place of the colours, or the colours again."""
        host = self.layer.layer()
        if host is not None:
            self._layers.show(host, similarity=on, features=not on)
        if on and self.viewer.dims.ndisplay != FLAT:
            self.status.say("Similarity follows the mouse in the 2D view.")
        self._refresh()

    def _on_encode(self) -> None:
        host = self.layer.layer()
        if host is None or self._child is not None:
            return
        checkpoint = str(Path(str(self.checkpoint.get())).expanduser())
        if not Path(checkpoint).is_file():
            self.status.say(f"checkpoint: {checkpoint}: no such file.", error=True)
            return
        remember.save("features", {"checkpoint": checkpoint})
        self._child = Child()
        request = Request(describe(host), checkpoint, encoding.fresh_folder())
        self.status.say(f"Encoding {host.name}: loading the network…")
        self.progress.setRange(0, 0)
        self._crew.start(
            encoding.encode,
            request,
            self._child,
            self._command,
            yielded=self._on_progress,
            returned=self._on_encoded,
            errored=self._unexpected,
            finished=self._on_encode_finished,
        )
        self._refresh()

    def _on_stop(self) -> None:
        self._kill()
        if self._prober is not None:
            self._prober.quit()
            self.status.say("The probe was stopped.")

    def _kill(self) -> None:
        if self._child is not None:
            self._child.stop()

    def _on_progress(self, event: ev.Progress) -> None:
        self._activity.show(event.done, event.total, f"Encoding {self.layer.currentText()}")
        self.progress.setRange(0, max(1, event.total))
        self.progress.setValue(event.done)
        left = event.seconds_left
        self.progress.setFormat("" if left is None else f"{duration(left)} left")
        self.status.say(f"Encoding {self.layer.currentText()}…")

    def _on_encoded(self, found: Encoded | Problem | None) -> None:
        if found is None:
            self.status.say("Encoding was stopped.")
            return
        if isinstance(found, Problem):
            self.status.say(str(found.error), error=True)
            return
        host = next((x for x in users_layers(self.viewer) if x.name == found.layer), None)
        if host is None:
            self.status.say(f"{found.layer} is no longer open.", error=True)
            return
        old = self._encoded.pop(host, None)
        self._encoded[host] = found
        self._layers.features(host, found)
        if old is not None:
            encoding.discard(old.folder)
        grid = " x ".join(map(str, found.map.grid))
        self.status.say(f"{host.name}: {len(found.map.features)} features on a grid of {grid}.")

    def _on_encode_finished(self) -> None:
        self._child = None
        self._activity.close()
        self._rest()
        self._refresh()

    def _on_probe(self) -> None:
        host, found = self.layer.layer(), self.encoded()
        if host is None or found is None:
            return
        strokes = self.scribbles.layer()
        if strokes is None:
            self.similarity.setChecked(False)
            self._layers.show(host, similarity=False, features=False)
            strokes = self._layers.scribbles(host, found)
            self.scribbles.choose(strokes.name)
            self.status.say(ADVICE)
            return
        self.status.say("Probing…")
        self.progress.setRange(0, 0)
        self._prober = self._crew.start(
            probe,
            found,
            strokes.name,
            strokes.data,
            yielded=self._on_planes,
            returned=self._on_probed,
            errored=self._unexpected,
            finished=self._on_probe_finished,
        )
        self._refresh()

    def _on_planes(self, done_of: tuple[int, int]) -> None:
        self.progress.setRange(0, done_of[1])
        self.progress.setValue(done_of[0])

    def _on_probed(self, answer: Probed | Problem) -> None:
        if isinstance(answer, Problem):
            self.status.say(str(answer.error), error=True)
            return
        host = self.layer.layer()
        if host is None or self._encoded.get(host) is not answer.found:
            return
        self._layers.probe(host, answer.found, answer.labels, self.scribbles.layer())
        labels = ", ".join(map(str, answer.values))
        self.status.say(
            f"Probe: labels {labels} from {answer.painted} painted pixels "
            f"in {answer.seconds:.1f} s. Paint more where it is wrong and click Probe again."
        )

    def _on_probe_finished(self) -> None:
        self._prober = None
        self._rest()
        self._refresh()

    def _rest(self) -> None:
        self.progress.setRange(0, 1)
        self.progress.setValue(0)
        self.progress.setFormat("")

    def _unexpected(self, error: Exception) -> None:
        self.status.say(f"Something went wrong: {type(error).__name__}: {error}", error=True)
