"""The form of a run: one row for each field of the configuration, made from the model itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_ssl_pretrain.gui.editors import (
    ChoiceEditor,
    Editor,
    TextEditor,
    flatten,
    make_editor,
)
from napari_ssl_pretrain.gui.field_form import FieldForm, Row
from napari_ssl_pretrain.gui.paths_editor import PathsEditor
from napari_ssl_pretrain.spec.backbones import AUTO_BACKBONE, BACKBONES
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.config_errors import all_keys, field_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_ssl_pretrain.errors import UserError

SECTIONS = (
    ("Images", "data"),
    ("Pretext task", "pretext"),
    ("Results", ""),
    ("Training", "training"),
    ("Network", "backbone"),
    ("Computer", "compute"),
)
LABELS = {
    "data.train": "Train on",
    "data.validation": "Validate on",
    "data.test": "Test on",
    "data.ndim": "Dimensions",
    "data.validation_fraction": "Validation part",
    "pretext.fresh": "Fresh each step",
    "pretext.ssl_source_dir": "Worsened copies",
    "pretext.normalize_target": "Scale tokens",
    "result_dir": "Result folder",
    "run_id": "Run number",
    "backbone.name": "Network",
    "backbone.decoder_embed_dim": "Decoder width",
    "backbone.embed_dim": "Width",
    "backbone.num_heads": "Heads",
    "backbone.decoder_num_heads": "Decoder heads",
    "backbone.features_per_stage": "Features a stage",
    "backbone.blocks_per_stage": "Blocks a stage",
    "training.steps_per_epoch": "Steps an epoch",
    "training.load_checkpoint": "Start from",
    "compute.memory_gb": "Memory (GB)",
}
SPECIAL: dict[str, Callable[[], Editor]] = {
    "result_dir": lambda: PathsEditor("folder", empty=""),
    "pretext.ssl_source_dir": lambda: PathsEditor("folder", empty="auto"),
    "training.load_checkpoint": lambda: PathsEditor("file", empty=None),
    "backbone.name": lambda: ChoiceEditor(["auto"]),
    "compute.device": lambda: ChoiceEditor(["auto", "cpu", "cuda", "mps"]),
    "data.axes": lambda: TextEditor(empty="auto", as_text=True),
}
UNET, MAE = "U-Nets", "mae_vit"


class Only(NamedTuple):
    """When a field matters, read from the word before the colon of its description."""

    task: str | None
    family: str | None

    def holds(self, task: str, backbone: str) -> bool:
        """Whether the field matters for this task and network."""
        name = AUTO_BACKBONE[task] if backbone == "auto" else backbone  # type: ignore[index]
        row = BACKBONES.get(name)
        family = row.family if row else None
        return self.task in {None, task} and self.family in {None, family}


def split_description(text: str) -> tuple[Only, str]:
    """Split a field's description into when it matters and the sentence itself."""
    head, colon, rest = text.partition(": ")
    if colon and head in AUTO_BACKBONE and "masking: " not in rest:
        return Only(head, None), rest[:1].upper() + rest[1:]
    if colon and head in {UNET, MAE}:
        return Only(None, "unet" if head == UNET else "mae"), rest[:1].upper() + rest[1:]
    return Only(None, None), text


class ConfigForm(FieldForm):
    """All fields of a configuration, by section, the rare ones folded away.

    Parameters
    ----------
    layers
        Returns the open layers as pairs of name and file, for the fields that take images.
    """

    def __init__(self, layers: Callable[[], list[tuple[str, str]]] = list) -> None:
        super().__init__()
        self._layers = layers
        self._only: dict[str, Only] = {}
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.setContentsMargins(4, 2, 6, 4)
        layout.setSpacing(4)
        for title, group in SECTIONS:
            self._add_section(layout, title, group)
        layout.addStretch(1)
        self.setWidget(inside)
        self.set_fields(defaults())
        self._show_what_matters()

    def _add_section(self, layout: QVBoxLayout, title: str, group: str) -> None:
        header = QLabel(f"<b>{title}</b>")
        header.setContentsMargins(0, 6, 0, 0)
        layout.addWidget(header)
        rare = []
        for path in fields_of(group):
            row = self._add_row(path)
            extra = field_at(path, PretrainConfig).json_schema_extra or {}
            if extra.get("advanced", False):
                rare.append(row)
            else:
                layout.addWidget(row)
        self.fold_away(layout, f"More about {title.lower()}", group, rare)

    def _add_row(self, path: str) -> Row:
        field = field_at(path, PretrainConfig)
        editor = self._special_editor(path) or make_editor(field)
        self._only[path], sentence = split_description(field.description or "")
        return self.make_row(path, editor, sentence, LABELS.get(path, ""))

    def _special_editor(self, path: str) -> Editor | None:
        field = field_at(path, PretrainConfig)
        if tuple[str, ...] in flatten(field.annotation):
            empty = () if field.is_required() else None
            return PathsEditor("images", empty=empty, layers=self._layers)
        make = SPECIAL.get(path)
        return make() if make else None

    def fields(self, *, only_relevant: bool = False) -> dict[str, Any]:
        """Return what the fields hold, nested, valid or not.

        Parameters
        ----------
        only_relevant
            Leave out fields that do not matter for the task and the network.
        """
        task, backbone = str(self.get("pretext.task")), str(self.get("backbone.name"))
        nested: dict[str, Any] = {"data": {}, "pretext": {}}
        for path, row in self.rows.items():
            if only_relevant and not self._only[path].holds(task, backbone):
                continue
            group, _, key = path.rpartition(".")
            (nested.setdefault(group, {}) if group else nested)[key] = row.editor.get()
        if not nested["data"]["train"]:
            del nested["data"]["train"]
        return nested

    def set_fields(self, fields: dict[str, Any]) -> None:
        """Show nested values; what is missing or unknown is left as it is."""
        self._quiet = True
        try:
            for path, row in self.rows.items():
                group, _, key = path.rpartition(".")
                inside = fields.get(group) if group else fields
                if isinstance(inside, dict) and key in inside:
                    row.editor.set(inside[key])
        finally:
            self._quiet = False
        self.clear_errors()
        self._show_what_matters()
        self.changed.emit("")

    def value(self) -> PretrainConfig:
        """Return the configuration; raises ``ConfigError`` where a field is wrong."""
        return PretrainConfig.from_dict(self.fields())

    def setValue(self, config: PretrainConfig) -> None:
        """Show a configuration."""
        self.set_fields(config.model_dump())

    def after_change(self, path: str) -> None:
        """Show what matters for another task or network."""
        if path in {"pretext.task", "backbone.name"}:
            self._show_what_matters()

    def _show_what_matters(self) -> None:
        task = str(self.get("pretext.task"))
        name = self.rows["backbone.name"].editor
        if isinstance(name, ChoiceEditor):
            self._quiet, was_quiet = True, self._quiet
            name.set_choices(backbone_choices(task))
            self._quiet = was_quiet
        for path, row in self.rows.items():
            row.setVisible(self._only[path].holds(task, str(self.get("backbone.name"))))
        for fold in self._folds.values():
            if fold.isExpanded():
                fold.expand(animate=False)

    def field_of(self, error: UserError) -> str | None:
        """Return the path of the field that an error concerns, or None."""
        own = super().field_of(error)
        if own is not None:
            return own
        for path in ("data.train", "data.validation", "data.test", "training.load_checkpoint"):
            given = self.get(path) or ()
            entries = (given,) if isinstance(given, str) else given
            stems = (entry.split("*")[0].rstrip("/\\") for entry in entries)
            if any(stem and stem in error.subject for stem in stems):
                return path
        named = (p for p in self.rows if "." in p and p.rpartition(".")[2] in error.rule.split())
        return next(named, None)


def fields_of(group: str) -> Iterator[str]:
    """Yield the dotted paths of a group's own fields."""
    groups = {g for _, g in SECTIONS if g}
    for path in all_keys(PretrainConfig):
        if path not in groups and path.rpartition(".")[0] == group:
            yield path


def backbone_choices(task: str) -> list[Any]:
    """Return the networks that can learn a task."""
    return ["auto", *(row.name for row in BACKBONES.values() if task in row.tasks)]


def defaults() -> dict[str, Any]:
    """Return the defaults of all fields; masking, which transfers best, is the first task."""
    config = PretrainConfig(data={"train": ("x",)}, pretext={"task": "masking"})
    fields = config.model_dump()
    fields["data"]["train"] = ()
    return fields
