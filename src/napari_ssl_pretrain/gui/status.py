"""The status line: one sentence that wraps anywhere, for paths have no spaces."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QPointF, QSize, Qt
from qtpy.QtGui import QFontMetrics, QPainter, QTextLayout, QTextOption
from qtpy.QtWidgets import QLabel, QSizePolicy

from napari_ssl_pretrain.gui.field_form import ERROR_COLOR
from napari_ssl_pretrain.gui.plain import plain

MOST_LINES = 6
LINE_BREAK = "\u2028"
"""What a text layout takes for the end of a line."""


class StatusLine(QLabel):
    """A label of up to six lines."""

    def __init__(self) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    def say(self, text: str, *, error: bool = False) -> None:
        """Show a sentence; an error in red."""
        self.setStyleSheet(f"color: {ERROR_COLOR};" if error else "")
        self.setText(text)
        self.setToolTip(plain(text))
        self.updateGeometry()

    def hasHeightForWidth(self) -> bool:
        """Tell the layout that the height follows from the width."""
        return True

    def heightForWidth(self, width: int) -> int:
        """Return the height that the text takes."""
        lines = max(1, min(MOST_LINES, len(self._lines(width)[1])))
        return lines * QFontMetrics(self.font()).lineSpacing() + 4

    def sizeHint(self) -> QSize:
        """Return the size for the width there is."""
        return QSize(200, self.heightForWidth(max(50, self.width())))

    def minimumSizeHint(self) -> QSize:
        """Return the smallest size."""
        return QSize(50, self.heightForWidth(max(50, self.width())))

    def resizeEvent(self, event: Any) -> None:
        """Let the layout ask again: the lines may have become more."""
        super().resizeEvent(event)
        self.updateGeometry()

    def paintEvent(self, _event: Any) -> None:
        """Draw the lines."""
        painter = QPainter(self)
        painter.setPen(self.palette().color(self.foregroundRole()))
        layout, lines = self._lines(self.width())
        spacing = QFontMetrics(self.font()).lineSpacing()
        for number, line in enumerate(lines[:MOST_LINES]):
            line.draw(painter, QPointF(0, 2 + number * spacing - line.y()))
        painter.end()
        del layout

    def _lines(self, width: int) -> tuple[QTextLayout, list[Any]]:
        layout = QTextLayout(self.text().replace("\n", LINE_BREAK), self.font())
        option = QTextOption()
        option.setWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        option.setAlignment(Qt.AlignmentFlag.AlignLeft)
        layout.setTextOption(option)
        lines = []
        layout.beginLayout()
        while (line := layout.createLine()).isValid():
            line.setLineWidth(max(20, width))
            lines.append(line)
        layout.endLayout()
        return layout, lines
