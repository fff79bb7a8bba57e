"""A transfer study as it goes and as it ended: scores, verdict, gain, what it had to say."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from napari.utils.theme import get_theme
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QPlainTextEdit, QVBoxLayout, QWidget

from napari_ssl_pretrain.gui.plain import plain
from napari_ssl_pretrain.gui.study_plots import GainPlot, ScorePlot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel

    from napari_ssl_pretrain.spec import events as ev

MAX_LINES = 300
VERDICT_COLORS = {"helps": "#54b87f", "hurts": "#f0616d"}
WAITING = "Start shows here how each network scores, as they come in."


class StudyView(QWidget):
    """Verdict, plots and messages of the study that is watched.

    Parameters
    ----------
    viewer
        The viewer, for its theme.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self.verdict = QLabel(WAITING)
        self.verdict.setObjectName("verdict")
        self.verdict.setWordWrap(True)
        self.verdict.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.scores = ScorePlot(self._colors())
        self.gains = GainPlot(self._colors())
        self.gains.hide()
        self.messages = QPlainTextEdit()
        self.messages.setObjectName("messages")
        self.messages.setReadOnly(True)
        self.messages.setMaximumBlockCount(MAX_LINES)
        self.messages.setPlaceholderText("What was found in the labels appears here.")
        viewer.events.theme.connect(self._on_theme)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.verdict)
        layout.addWidget(self.scores, 3)
        layout.addWidget(self.gains, 3)
        layout.addWidget(self.messages, 2)

    def close_links(self) -> None:
        """Stop listening to the viewer."""
        self._viewer.events.theme.disconnect(self._on_theme)

    def _colors(self) -> tuple[str, str]:
        theme = get_theme(self._viewer.theme)
        return str(theme.text.as_hex()), str(theme.background.as_hex())

    def _on_theme(self, _event: Any = None) -> None:
        for plot in (self.scores, self.gains):
            plot.set_colors(*self._colors())

    def clear(self) -> None:
        """Begin to watch another study."""
        self.scores.clear()
        self.gains.clear()
        self.gains.hide()
        self.messages.clear()
        self.verdict.setText("Loading…")

    def take(self, events: Sequence[ev.AnyEvent]) -> None:
        """Show what a study said."""
        for event in events:
            if event.kind == "fine_tuned":
                self.scores.add(event.arm, event.n_labels, event.seed, event.iou)
            elif event.kind == "warned":
                self.messages.appendPlainText(event.message)
            elif event.kind == "progress":
                self.verdict.setText(plain(f"{event.message[:1].upper()}{event.message[1:]}…"))

    def show_found(self, summary: dict[str, Any]) -> None:
        """Show the verdict, the gain and the labels saved, from ``summary.json``."""
        self.verdict.setText(verdict_html(summary))
        for row in summary.get("scores", ()):
            if not self.scores.found.get((row["arm"], row["n_labels"])):
                self.scores.add(row["arm"], row["n_labels"], 0, row["iou"])
        self.gains.show_gains(summary.get("gains", []))
        self.gains.show()
        for saved in summary.get("labels_saved", ()):
            self.messages.appendPlainText(saved["sentence"])


def verdict_html(summary: dict[str, Any]) -> str:
    """Return the verdict, its caution below it."""
    color = VERDICT_COLORS.get(summary.get("verdict", ""), "")
    style = f' style="color: {color}"' if color else ""
    text = f"<b{style}>{html.escape(summary.get('sentence', ''))}</b>"
    caution = summary.get("caution")
    return f"{text}<br>{html.escape(caution)}" if caution else text
