"""The form of a transfer study: what is compared on which labelled images, and how long."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import PushButton
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_ssl_pretrain.errors import ConfigError, UserError
from napari_ssl_pretrain.gui.checkpoint_editor import CheckpointEditor
from napari_ssl_pretrain.gui.editors import ChoiceEditor, Editor, TextEditor, make_editor
from napari_ssl_pretrain.gui.field_form import FieldForm, Row
from napari_ssl_pretrain.gui.paths_editor import PathsEditor
from napari_ssl_pretrain.gui.words import duration
from napari_ssl_pretrain.spec.transfer import TransferConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_ssl_pretrain.gui.crew import Crew

SECTIONS = {
    "Pretrained network": ("checkpoint",),
    "Labelled images": ("images", "labels", "test_images", "test_labels"),
    "Comparison": ("n_labels", "seeds", "minutes", "output"),
}
RARE = ("arms", "axes", "device", "precision", "seed")
LABELS = {
    "images": "Images",
    "test_images": "Test images",
    "test_labels": "Test labels",
    "n_labels": "Label counts",
    "seeds": "Repetitions",
    "minutes": "Minutes each",
    "output": "Report folder",
    "arms": "Compare",
    "seed": "Seed",
}
SPECIAL: dict[str, Callable[[], Editor]] = {
    "images": lambda: PathsEditor("folder", empty=""),
    "labels": lambda: PathsEditor("folder", empty=""),
    "test_images": lambda: PathsEditor("folder", empty=None),
    "test_labels": lambda: PathsEditor("folder", empty=None),
    "output": lambda: PathsEditor("folder", empty=""),
    "minutes": lambda: TextEditor(empty=TransferConfig.model_fields["minutes"].default),
    "axes": lambda: TextEditor(empty="auto", as_text=True),
    "device": lambda: ChoiceEditor(["auto", "cpu", "cuda", "mps"]),
}
USE_LAYERS = (
    "Take the open images that have a Labels layer each. They are kept as TIFFs beside the report."
)
NEEDED = ("checkpoint", "images", "labels", "output")
"""Fields whose emptiness is said as such."""


class StudyForm(FieldForm):
    """All fields of a transfer study, the rare ones folded away.

    Parameters
    ----------
    crew
        Looks for runs.
    roots
        Returns the folders in which runs are looked for.
    """

    def __init__(self, crew: Crew, roots: Callable[[], list[Path]]) -> None:
        super().__init__()
        self.checkpoint = CheckpointEditor(crew, roots)
        self.estimate = QLabel()
        self.estimate.setObjectName("estimate")
        self.estimate.setWordWrap(True)
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.setContentsMargins(4, 2, 6, 4)
        layout.setSpacing(4)
        self.use_layers = PushButton(text="Use open layers", tooltip=USE_LAYERS)
        self.use_layers.native.setObjectName("use_layers")
        for title, paths in SECTIONS.items():
            header = QLabel(f"<b>{title}</b>")
            header.setContentsMargins(0, 6, 0, 0)
            layout.addWidget(header)
            if "images" in paths:
                layout.addWidget(self.use_layers.native)
            for path in paths:
                layout.addWidget(self._add_row(path))
        layout.addWidget(self.estimate)
        self.fold_away(layout, "More", "transfer", [self._add_row(path) for path in RARE])
        layout.addStretch(1)
        self.setWidget(inside)
        self.set_fields(defaults())

    def _add_row(self, path: str) -> Row:
        field = TransferConfig.model_fields[path]
        make = SPECIAL.get(path)
        editor: Editor = make() if make else make_editor(field)
        if path == "checkpoint":
            editor = self.checkpoint
        return self.make_row(path, editor, field.description or "", LABELS.get(path, ""))

    def fields(self) -> dict[str, Any]:
        """Return what the fields hold, valid or not; needed ones that are empty are left out."""
        held = {path: row.editor.get() for path, row in self.rows.items()}
        return {path: value for path, value in held.items() if value or path not in NEEDED}

    def set_fields(self, fields: dict[str, Any]) -> None:
        """Show values; what is missing or unknown is left as it is."""
        self._quiet = True
        try:
            for path, row in self.rows.items():
                if path in fields:
                    row.editor.set(fields[path])
        finally:
            self._quiet = False
        self.clear_errors()
        self._show_estimate()
        self.changed.emit("")

    def value(self) -> TransferConfig:
        """Return the study.

        Raises
        ------
        ConfigError
            A field is wrong.
        """
        fields = self.fields()
        for one, other in (("test_images", "test_labels"), ("test_labels", "test_images")):
            if fields[one] and not fields[other]:
                name = LABELS[one].lower()
                remedy = f"Give them, or leave the {name} empty: then some images are held back."
                raise ConfigError(other, f"is required where {name} are given", remedy=remedy)
        if "output" not in fields:
            remedy = "Choose where the report goes."
            raise ConfigError("output", "must name a folder", remedy=remedy)
        return TransferConfig(**fields)

    def setValue(self, config: TransferConfig) -> None:
        """Show a study."""
        self.set_fields(config.model_dump())

    def after_change(self, path: str) -> None:
        """Tell the time anew."""
        del path
        self._show_estimate()

    def _show_estimate(self) -> None:
        stand_in = dict.fromkeys(NEEDED, "x")
        try:
            config = TransferConfig(**self.fields() | stand_in)
        except UserError:
            self.estimate.setText("")
            return
        self.estimate.setText(estimate_line(config))

    def field_of(self, error: UserError) -> str | None:
        """Return the path of the field that an error concerns, or None."""
        subject = error.subject.removeprefix("--")
        if subject in self.rows:
            return subject
        for path in ("labels", "test_labels", "images", "test_images", "checkpoint", "output"):
            given = str(self.get(path) or "").rstrip("/\\")
            if given and (subject == given or subject.startswith((f"{given}/", f"{given}\\"))):
                return path
        return None


def estimate_line(config: TransferConfig) -> str:
    """Say how long a study takes, and why."""
    each = duration(60 * config.minutes)
    parts = (
        _count(config.seeds, "repetition"),
        _count(len(config.n_labels), "label count"),
        _count(len(config.arms), "network"),
        each,
    )
    rates = duration(60 * config.sweep_minutes)
    total = duration(60 * config.total_minutes)
    return (
        f"Up to about {total}: {' x '.join(parts)}, and {rates} to choose learning rates. "
        "Reading and scoring the images come on top."
    )


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + "s" * (number != 1)


def defaults() -> dict[str, Any]:
    """Return the defaults of all fields."""
    fields = {key: field.default for key, field in TransferConfig.model_fields.items()}
    place = str(Path.home() / "exp_results" / "transfer")
    return fields | dict.fromkeys(NEEDED, "") | {"output": place}
