"""A run as it goes: the curve of its loss, its figures, and what it had to say."""

from __future__ import annotations

import html
import time
from typing import TYPE_CHECKING, Any

from napari.utils import progress as activity
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QLabel, QPlainTextEdit, QVBoxLayout, QWidget

from napari_ssl_pretrain.gui.layer_source import grid_of
from napari_ssl_pretrain.gui.plot import LossPlot
from napari_ssl_pretrain.gui.words import duration, progress_line
from napari_ssl_pretrain.spec.status import LONGEST_MESSAGE

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_ssl_pretrain.gui.watch import News
    from napari_ssl_pretrain.spec import events as ev
    from napari_ssl_pretrain.spec.status import RunStatus

MAX_LINES = 300
ACTIVITY_SECONDS = 0.5


class Activity:
    """A job's bar in napari's own activity dock."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._shown = 0.0

    def show(self, done: int, total: int, name: str) -> None:
        """Move the bar to where a job stands, twice a second at most."""
        if not total or time.monotonic() - self._shown < ACTIVITY_SECONDS:
            return
        self._shown = time.monotonic()
        coarser = max(0, total.bit_length() - 31)  # Qt counts so far, and pixels may be more
        done, total = done >> coarser, total >> coarser
        if self._bar is None:
            self._bar = activity(total=total, desc=name, leave=False, mininterval=1)
        if self._bar.total != total:
            self._bar.total = total
        if done > self._bar.n:
            self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Monitor(QWidget):
    """Loss plot, figures and messages of the run that is watched.

    Parameters
    ----------
    viewer
        The viewer, for its grid.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = viewer
        self._grid: Any = grid_of(viewer)
        self.plot = LossPlot(*self._colors())
        self.figures = QLabel("Start shows here how the network learns.")
        self.figures.setObjectName("figures")
        self.figures.setWordWrap(True)
        self.figures.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.messages = QPlainTextEdit()
        self.messages.setObjectName("messages")
        self.messages.setReadOnly(True)
        self.messages.setMaximumBlockCount(MAX_LINES)
        self.messages.setPlaceholderText("Warnings and saved states appear here.")
        self.grid = QCheckBox("Layers side by side")
        self.grid.setObjectName("side_by_side")
        self.grid.setToolTip(
            "Spread all layers on napari's grid. Otherwise results lie exactly on the image "
            "that they were made from: use the layers' eyes to compare."
        )
        self.grid.setChecked(self._grid.enabled)
        self.grid.toggled.connect(self._on_toggled)
        self._grid.events.enabled.connect(self._on_grid)
        viewer.events.theme.connect(self._on_theme)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.figures)
        layout.addWidget(self.plot, 3)
        layout.addWidget(self.grid)
        layout.addWidget(self.messages, 1)

    def close_links(self) -> None:
        """Stop listening to the viewer."""
        self._grid.events.enabled.disconnect(self._on_grid)
        self.viewer.events.theme.disconnect(self._on_theme)

    def _colors(self) -> tuple[str, str]:
        theme = get_theme(self.viewer.theme)
        return str(theme.text.as_hex()), str(theme.background.as_hex())

    def _on_theme(self, _event: Any = None) -> None:
        self.plot.set_colors(*self._colors())

    def _on_toggled(self, checked: bool) -> None:  # noqa: FBT001 - Qt's signal
        self._grid.enabled = checked

    def _on_grid(self, _event: Any = None) -> None:
        self.grid.setChecked(self._grid.enabled)

    def clear(self) -> None:
        """Begin to watch another run."""
        self.plot.clear()
        self.messages.clear()
        self.figures.setText("Loading…")

    def take(self, news: News) -> None:
        """Show what a run said."""
        for event in news.events:
            handler = getattr(self, f"_on_{event.kind}", None)
            if handler is not None:
                handler(event)
        if news.events:
            self.figures.setText(figures(news.status))

    def say(self, text: str) -> None:
        """Add a line to the messages."""
        self.messages.appendPlainText(text[:LONGEST_MESSAGE])

    def _on_process_started(self, event: ev.ProcessStarted) -> None:
        if not event.resumed:
            self.plot.clear()
        self.say(f"Process {event.pid} on {event.host}{', resumed' if event.resumed else ''}")

    def _on_data_checked(self, event: ev.DataChecked) -> None:
        for text in (*event.skipped, *event.notes)[-MAX_LINES:]:
            self.say(text)

    def _on_run_started(self, event: ev.RunStarted) -> None:
        patch = " x ".join(map(str, event.patch_size))
        self.say(
            f"{event.backbone}, {event.parameters / 1e6:.2f} M parameters, on {event.device} "
            f"({event.precision}); {event.batch_size} patches of {patch} a step"
        )

    def _on_steps_planned(self, event: ev.StepsPlanned) -> None:
        self.say(f"{event.steps} steps fit into the time that was given")

    def _on_step_finished(self, event: ev.StepFinished) -> None:
        self.plot.add_train(event.step, event.loss)

    def _on_epoch_finished(self, event: ev.EpochFinished) -> None:
        self.plot.add_validation(event.step, event.validation_loss)

    def _on_checkpoint_saved(self, event: ev.CheckpointSaved) -> None:
        if event.which == "best":
            self.say(f"Best state so far saved at step {event.step}")

    def _on_warned(self, event: ev.Warned) -> None:
        self.say(event.message)

    def _on_run_finished(self, event: ev.RunFinished) -> None:
        self.say(event.message or event.state.capitalize())

    def show_scores(self, scores: dict[str, float]) -> None:
        """Add the scores of the test images to the figures."""
        if scores:
            shown = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
            self.say(f"Test: {shown}")


def figures(status: RunStatus) -> str:
    """Return the figures of a run as HTML."""
    parts = [html.escape(progress_line(status))]
    if status.loss is not None:
        numbers = [f"loss <b>{status.loss:.4g}</b>"]
        if status.best_validation_loss is not None:
            numbers.append(f"best validation <b>{status.best_validation_loss:.4g}</b>")
        if status.patches_per_second:
            numbers.append(f"{status.patches_per_second:.3g} patches/s")
        parts.append(", ".join(numbers))
    if status.seconds_left is not None and not status.ended:
        parts.append(f"<b>{duration(status.seconds_left)}</b> left")
    return "<br>".join(parts)
