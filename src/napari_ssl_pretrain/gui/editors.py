"""One editor for one field of the configuration, chosen by the field's type.

Each editor holds a value as YAML would give it; whether it is valid, the model says.
"""

from __future__ import annotations

import types
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Protocol,
    Union,
    cast,
    get_args,
    get_origin,
)

from annotated_types import Ge, Gt, Le, Lt
from magicgui.widgets import CheckBox, ComboBox, LineEdit, SpinBox
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QAbstractSlider, QAbstractSpinBox, QComboBox, QWidget
from superqt import QLabeledDoubleSlider

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic.fields import FieldInfo

LARGEST_INT = 2**63 - 1


class Editor(Protocol):
    """What a form asks of the widget of a field."""

    @property
    def native(self) -> Any:
        """The Qt widget."""

    def get(self) -> Any:
        """Return what the user entered, as YAML would give it."""

    def set(self, value: Any) -> None:
        """Show a value of the configuration."""

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back whenever the user, or the program, changes the value."""


class MagicEditor:
    """A magicgui widget whose value is the field's own."""

    def __init__(self, widget: Any) -> None:
        self.widget = widget
        self.native: Any = widget.native

    def get(self) -> Any:
        """Return the value of the widget."""
        return self.widget.value

    def set(self, value: Any) -> None:
        """Show a value."""
        self.widget.value = value

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back at every change."""
        self.widget.changed.connect(lambda _: callback())


class ChoiceEditor(MagicEditor):
    """A combo box; a value that is no choice is added, and left for the model to judge."""

    def __init__(self, choices: list[Any]) -> None:
        super().__init__(ComboBox(choices=[(str(c), c) for c in choices]))

    def set(self, value: Any) -> None:
        """Choose a value."""
        if value not in self.widget.choices:
            self.set_choices([*self.widget.choices, value])
        self.widget.value = value

    def set_choices(self, choices: list[Any]) -> None:
        """Offer other choices; what is chosen stays so if it is among them."""
        if list(self.widget.choices) != choices:
            self.widget.choices = [(str(c), c) for c in choices]


class SliderEditor:
    """A slider with its number beside it; keeps the digits that it cannot show."""

    def __init__(self, low: float, high: float, decimals: int) -> None:
        slider: Any = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.native = slider
        self.native.setRange(low, high)
        self.native.setDecimals(decimals)
        self.native.setSingleStep(10.0**-decimals)
        self.native.setPageStep((high - low) / 10)
        self._exact = low
        self._decimals = decimals

    def get(self) -> float:
        """Return the number."""
        shown = float(self.native.value())
        return self._exact if shown == self._exact else round(shown, self._decimals)

    def set(self, value: Any) -> None:
        """Move the slider."""
        self.native.setValue(float(value))
        self._exact = float(value)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back while the slider moves."""
        self.native.valueChanged.connect(lambda _: callback())


class TextEditor(MagicEditor):
    """A line for values that are a number, several, or a word: ``auto``, ``64, 64``, ``1e-3``.

    Parameters
    ----------
    empty
        What an empty line stands for.
    as_text
        Leave the text as it is: the field is text, whatever it looks like.
    """

    def __init__(self, *, empty: Any, as_text: bool = False) -> None:
        super().__init__(LineEdit())
        self._empty = empty
        self._as_text = as_text
        self.native.setPlaceholderText("none" if empty is None else str(empty))

    def get(self) -> Any:
        """Return number, numbers or word."""
        text = self.widget.value.strip()
        if not text:
            return self._empty
        return text if self._as_text else parse_value(text)

    def set(self, value: Any) -> None:
        """Show a value as text."""
        self.widget.value = format_value(value)


def parse_value(text: str) -> Any:
    """Read a number, a list of numbers, or a word."""
    parts = text.strip("[]() ").replace(",", " ").split()
    numbers = [_number(part) for part in parts]
    if not numbers or None in numbers:
        return text
    listed = len(numbers) > 1 or text[0] in "[(" or text.rstrip().endswith(",")
    return tuple(numbers) if listed else numbers[0]


def format_value(value: Any) -> str:
    """Write a value so that :func:`parse_value` reads it back."""
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) + ("," if len(value) == 1 else "")
    return str(value)


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def make_editor(field: FieldInfo) -> Editor:
    """Return the editor that suits the type of a field."""
    options = flatten(field.annotation)
    choices = literal_values(options)
    if choices is not None:
        return ChoiceEditor(choices)
    bounds = _bounds(field.metadata)
    if options == [bool]:
        return MagicEditor(CheckBox())
    if options == [int]:
        low, high = bounds
        # one more than fits: magicgui compares as floats, which rounds large numbers up
        top = int(high) if high is not None and high < LARGEST_INT else LARGEST_INT + 1
        return MagicEditor(SpinBox(min=int(low or 0), max=top))
    if options == [float] and None not in bounds:
        return _slider(*cast("tuple[float, float]", bounds))
    return TextEditor(empty=_meaning_of_empty(options, field.default), as_text=str in options)


def _slider(low: float, high: float) -> Editor:
    return SliderEditor(low, high, 2 if high - low <= 1 else 1)


def _meaning_of_empty(options: list[Any], default: Any) -> Any:
    """Return what an empty line stands for: nothing, the first word of a list, or the default."""
    if type(None) in options:
        return None
    words = [get_args(option)[0] for option in options if get_origin(option) is Literal]
    if words:
        return words[0]
    return "" if str in options else default


def _bounds(metadata: list[Any]) -> tuple[float | None, float | None]:
    """Return the range of a number; an open end is moved in by a thousandth."""
    low = high = None
    for rule in metadata:
        if isinstance(rule, Ge | Gt):
            low = float(rule.ge if isinstance(rule, Ge) else rule.gt + 1e-3)  # type: ignore[arg-type,operator]
        elif isinstance(rule, Le):
            high = float(rule.le)  # type: ignore[arg-type]
        elif isinstance(rule, Lt):
            high = LARGEST_INT if rule.lt == LARGEST_INT + 1 else float(rule.lt - 1e-3)  # type: ignore[operator]
    return low, high


def flatten(annotation: Any) -> list[Any]:
    """Return the alternatives of a type, without unions, aliases and annotations."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return flatten(get_args(annotation)[0])
    if origin in {Union, types.UnionType}:
        return [option for part in get_args(annotation) for option in flatten(part)]
    return [annotation]


def literal_values(options: list[Any]) -> list[Any] | None:
    """Return all values of a type that lists them, or None."""
    if not all(get_origin(option) is Literal for option in options):
        return None
    return [value for option in options for value in get_args(option)]


class WheelGuard(QObject):
    """Lets the wheel scroll the form instead of changing the number under the pointer."""

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Pass on wheel events of editors that were not clicked before."""
        if event is None or event.type() != QEvent.Type.Wheel or not isinstance(watched, QWidget):
            return False
        if watched.hasFocus():
            return False
        event.ignore()
        return True

    def protect(self, widget: QWidget) -> None:
        """Watch an editor and the numbers inside it."""
        kinds = (QComboBox, QAbstractSpinBox, QAbstractSlider)
        for part in [widget, *widget.findChildren(QWidget)]:
            if isinstance(part, kinds):
                part.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
                part.installEventFilter(self)
