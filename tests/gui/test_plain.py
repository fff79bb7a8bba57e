"""Names of files are shown as they are, whatever they hold."""

from __future__ import annotations

import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QTextDocument

from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.gui.field_form import FieldForm
from napari_ssl_pretrain.gui.form import ConfigForm
from napari_ssl_pretrain.gui.plain import plain
from napari_ssl_pretrain.gui.status import StatusLine

HOSTILE = '<img src="x"><a href="file:///etc/passwd">click</a> & "q".tif'


def shown(text: str) -> str:
    """Return what Qt shows of a tooltip or label that guesses the format."""
    if "<" not in text:
        return text
    document = QTextDocument()
    document.setHtml(text)
    return document.toPlainText()


@pytest.mark.parametrize("text", [HOSTILE, "a.tif", "a & b.tif", "<b>\nsecond line", "a\nb"])
def test_text_is_shown_as_it_is(text):
    assert shown(plain(text)) == text


def test_the_status_takes_no_markup(qtbot):
    line = StatusLine()
    qtbot.addWidget(line)
    line.say(HOSTILE)
    assert line.textFormat() == Qt.TextFormat.PlainText
    assert line.text() == HOSTILE
    assert shown(line.toolTip()) == HOSTILE


def test_an_error_at_a_field_takes_no_markup(qtbot):
    form = ConfigForm()
    qtbot.addWidget(form)
    assert isinstance(form, FieldForm)
    form.show_error(ConfigError("data.train", "is no image", value=HOSTILE))
    document = QTextDocument()
    document.setHtml(form.rows["data.train"].error.text())
    assert HOSTILE in document.toPlainText()
