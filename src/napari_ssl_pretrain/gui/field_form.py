"""A form of fields: a row each with its editor, the rare ones folded away, errors in place.

Every field's editor carries the field's dotted path as its Qt object name.
"""

from __future__ import annotations

import contextlib
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import QFrame, QGridLayout, QLabel, QScrollArea, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_ssl_pretrain.gui.editors import Editor, WheelGuard

if TYPE_CHECKING:
    from napari_ssl_pretrain.errors import UserError

LABEL_WIDTH = 108
ERROR_COLOR = "#f0616d"
OPEN, CLOSED = "▾", "▸"


class Row(QWidget):
    """A label, an editor, and below it the place of an error."""

    def __init__(self, path: str, editor: Editor, sentence: str, title: str = "") -> None:
        super().__init__()
        self.path, self.editor = path, editor
        key = path.rpartition(".")[2].replace("_", " ")
        self.title = title or key[:1].upper() + key[1:]
        label = QLabel(self.title)
        label.setFixedWidth(LABEL_WIDTH)
        tip = f"<p>{sentence}</p><p><tt>{path}</tt></p>"
        label.setToolTip(tip)
        editor.native.setToolTip(tip)
        editor.native.setObjectName(path)
        self.error = QLabel()
        self.error.setTextFormat(Qt.TextFormat.RichText)
        self.error.setObjectName(f"{path}.error")
        self.error.setWordWrap(True)
        self.error.setStyleSheet(f"color: {ERROR_COLOR};")
        self.error.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self.error.hide()
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setHorizontalSpacing(6)
        layout.setVerticalSpacing(2)
        layout.addWidget(label, 0, 0)
        layout.addWidget(editor.native, 0, 1)
        layout.addWidget(self.error, 1, 0, 1, 2)
        layout.setColumnStretch(1, 1)

    def show_error(self, text: str) -> None:
        """Show a sentence under the editor; an empty one takes it away."""
        self.error.setText(text)
        self.error.setVisible(bool(text))


class FieldForm(QScrollArea):
    """Rows of fields by their paths; what they mean is up to whoever fills it."""

    changed = Signal(str)
    link_clicked = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, Row] = {}
        self._folds: dict[str, QCollapsible] = {}
        self._guard = WheelGuard(self)
        self._quiet = False
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def make_row(self, path: str, editor: Editor, sentence: str, title: str = "") -> Row:
        """Return the row of a field, which tells of its changes."""
        row = Row(path, editor, sentence, title)
        self._guard.protect(editor.native)
        editor.on_change(lambda: self._on_change(path))
        row.error.linkActivated.connect(self.link_clicked)
        self.rows[path] = row
        return row

    def fold_away(self, layout: QVBoxLayout, title: str, group: str, rows: list[Row]) -> None:
        """Add rows that are shown when their title is clicked; none where there are none."""
        if not rows:
            return
        folded = QWidget()
        rare = QVBoxLayout(folded)
        rare.setContentsMargins(0, 0, 0, 0)
        rare.setSpacing(4)
        for row in rows:
            rare.addWidget(row)
        fold = _fold(title, folded)
        fold.setObjectName(f"{group}.more")
        layout.addWidget(fold)
        self._folds[group] = fold

    def get(self, path: str) -> Any:
        """Return what one field holds, as YAML would give it."""
        return self.rows[path].editor.get()

    def set(self, path: str, value: Any) -> None:
        """Change one field."""
        self.rows[path].editor.set(value)

    def _on_change(self, path: str) -> None:
        if self._quiet:
            return
        self.rows[path].show_error("")
        self.after_change(path)
        self.changed.emit(path)

    def after_change(self, path: str) -> None:
        """Take note of a change before others hear of it."""

    def clear_errors(self) -> None:
        """Take all errors away."""
        for row in self.rows.values():
            row.show_error("")

    def show_error(self, error: UserError, *, extra: str = "") -> bool:
        """Show an error under the field that it concerns; false when it concerns none."""
        path = self.field_of(error)
        if path is None:
            return False
        value = error.value if error.value not in {"", error.subject} else ""
        subject = "" if error.subject == path else error.subject
        head = ": ".join(part for part in (subject, value, error.rule) if part)
        if head == error.rule and ": " not in head:
            head = head[:1].upper() + head[1:]
        # what the user wrote is no markup; ``extra`` is ours and may hold a link
        self.rows[path].show_error(
            f"{escape(f'{head}. {error.remedy}', quote=False)} {extra}".strip()
        )
        self.reveal(path)
        return True

    def field_of(self, error: UserError) -> str | None:
        """Return the path of the field that an error concerns, or None."""
        return error.subject if error.subject in self.rows else None

    def reveal(self, path: str) -> None:
        """Unfold and scroll to a field."""
        row = self.rows[path]
        row.show()
        for fold in self._folds.values():
            if fold.content().isAncestorOf(row):
                fold.expand(animate=False)
        # the new line under the field has its place only after the layout has run
        QTimer.singleShot(0, partial(self._scroll_to, row))

    def _scroll_to(self, row: Row) -> None:
        with contextlib.suppress(RuntimeError):  # closed in the meantime
            self.ensureWidgetVisible(row, 0, 40)


def _fold(title: str, content: QWidget) -> QCollapsible:
    fold = QCollapsible(f"{CLOSED} {title}", expandedIcon=QIcon(), collapsedIcon=QIcon())
    fold.setDuration(0)
    fold.setContent(content)
    fold.collapse(animate=False)
    fold.toggled.connect(lambda open_: fold.setText(f"{OPEN if open_ else CLOSED} {title}"))
    fold.toggleButton().setStyleSheet(
        "QPushButton { text-align: left; border: none; background: transparent; padding: 2px; }"
        "QPushButton:hover { text-decoration: underline; }"
    )
    inner = fold.layout()
    if inner is not None:
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(2)
    return fold
