"""Read a BiaPy YAML of its self-supervised workflow: translate or name every key."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.spec.biapy_keys import (
    ARCHITECTURES,
    AUTOMATIC,
    DIFFERENT_DEFAULTS,
    GROUPS,
    LOSSES,
    MASKING_DEFAULTS,
    NEAREST_NETWORK,
    NORMALIZATIONS,
    NORMS,
    ON_UNLESS_OFF,
    PLAIN,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Translation:
    """What became of a BiaPy file.

    Attributes
    ----------
    fields
        Nested dictionaries for :meth:`PretrainConfig.from_dict`.
    translated
        BiaPy key to the key here that took its value.
    automatic
        Keys that need no setting here.
    unused
        Keys without a counterpart.
    notes
        Sentences on what means something else here.
    channels
        Channels that the file says the images have, or None.
    """

    fields: dict[str, Any]
    translated: dict[str, str]
    automatic: tuple[str, ...]
    unused: tuple[str, ...]
    notes: tuple[str, ...]
    channels: int | None = None

    def lines(self) -> list[str]:
        """Return what to tell the user: every key of the file is in it once."""
        pairs = ", ".join(f"{theirs} -> {ours}" for theirs, ours in self.translated.items())
        lines = [f"BiaPy file, translated: {pairs}."]
        if self.automatic:
            lines.append(f"Needs no setting here: {', '.join(self.automatic)}.")
        if self.unused:
            lines.append(f"Without a counterpart, not used: {', '.join(self.unused)}.")
        return [*lines, *self.notes]


def is_biapy(fields: dict[str, Any]) -> bool:
    """Whether these are the upper-case groups of a BiaPy file."""
    return any(key in GROUPS for key in fields)


def translate(fields: dict[str, Any]) -> Translation:
    """Translate the nested dictionaries of a BiaPy file.

    Raises
    ------
    ConfigError
        The file belongs to another workflow, asks for no training, or one of its values
        cannot be understood.
    """
    work = _Work(flatten(fields))
    if problem := _not_for_us(work):
        subject, broken, value, remedy = problem
        raise ConfigError(subject, broken, value=value, remedy=remedy)
    work.translated["PROBLEM.TYPE"] = "this program"
    for rule in _RULES:
        rule(work)
    unused = [key for key in work.given if key not in work.translated and key not in work.automatic]
    return Translation(
        nested(work.found),
        work.translated,
        tuple(work.automatic),
        tuple(unused),
        tuple(work.notes),
        work.channels,
    )


def flatten(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return dotted keys and their values; texts such as ``(256, 256, 1)`` become what they say."""
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = _literal(value)
    return flat


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Return nested dictionaries from dotted keys."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *groups, last = path.split(".")
        here = tree
        for group in groups:
            here = here.setdefault(group, {})
        here[last] = value
    return tree


def _literal(value: Any) -> Any:
    if isinstance(value, str) and value.strip()[:1] in {"(", "["}:
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            return value
    return list(value) if isinstance(value, tuple) else value


@dataclass
class _Work:
    """A translation under way."""

    given: dict[str, Any]
    found: dict[str, Any] = field(default_factory=dict)
    translated: dict[str, str] = field(default_factory=dict)
    automatic: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    channels: int | None = None

    def put(self, theirs: str, ours: str, value: Any) -> None:
        """Record that our key takes a value from theirs."""
        self.found[ours] = value
        if theirs in self.given:
            self.translated[theirs] = ours

    def known(self, key: str) -> bool:
        """Whether the file sets the key to anything but nothing."""
        return (
            self.given.get(key) not in {None, ""}
            if not isinstance(self.given.get(key), list)
            else True
        )

    def masking(self) -> bool:
        """Whether the file's task is masking."""
        return self.given.get("PROBLEM.SELF_SUPERVISED.PRETEXT_TASK") == "masking"


def _not_for_us(work: _Work) -> tuple[str, str, str, str] | None:
    """Return subject, rule, value and remedy where this program cannot run the file."""
    kind = work.given.get("PROBLEM.TYPE", "missing")
    if kind != "SELF_SUPERVISED":
        rule = "only BiaPy's workflow SELF_SUPERVISED can be run here"
        return "PROBLEM.TYPE", rule, str(kind), "Run other workflows in BiaPy itself."
    if work.given.get("TRAIN.ENABLE", True) is False:
        remedy = "`napari-ssl-pretrain predict` applies a trained model."
        return "TRAIN.ENABLE", "a run here always trains", "False", remedy
    return None


def _problem(work: _Work) -> None:
    dims = str(work.given.get("PROBLEM.NDIM", "2D")).upper()
    if dims not in {"2D", "3D"}:
        raise ConfigError(
            "PROBLEM.NDIM", "must be 2D or 3D", value=dims, remedy="Correct the file."
        )
    work.put("PROBLEM.NDIM", "data.ndim", int(dims[0]))
    work.found["pretext.task"] = "crappify"


def _plain(work: _Work) -> None:
    for theirs, ours in PLAIN.items():
        if work.known(theirs):
            value = work.given[theirs]
            single = isinstance(value, list) and len(value) == 1
            work.put(theirs, ours, value[0] if single and theirs != "MODEL.FEATURE_MAPS" else value)
    if "TRAIN.EPOCHS" in work.translated:
        work.notes.append(
            "TRAIN.EPOCHS: an epoch there is one pass over all patches, here it is "
            "training.steps_per_epoch steps."
        )
    if any(key.startswith("MODEL.MAE_DEC_") for key in work.translated):
        work.notes.append("MODEL.MAE_DEC_* had no effect in BiaPy; here they set the decoder.")


def _paths(work: _Work) -> None:
    work.put(
        "DATA.TRAIN.PATH", "data.train", work.given.get("DATA.TRAIN.PATH", "user_data/train/x")
    )
    if work.given.get("DATA.VAL.FROM_TRAIN", True) is False and work.known("DATA.VAL.PATH"):
        work.put("DATA.VAL.PATH", "data.validation", work.given["DATA.VAL.PATH"])
    if work.given.get("TEST.ENABLE", False) and work.known("DATA.TEST.PATH"):
        work.put("DATA.TEST.PATH", "data.test", work.given["DATA.TEST.PATH"])
    elif work.known("DATA.TEST.PATH"):
        work.notes.append("DATA.TEST.PATH is not used: TEST.ENABLE is off.")
    if work.known("DATA.TRAIN.SSL_SOURCE_DIR"):
        work.put(
            "DATA.TRAIN.SSL_SOURCE_DIR",
            "pretext.ssl_source_dir",
            work.given["DATA.TRAIN.SSL_SOURCE_DIR"],
        )
        work.notes.append(
            "Worsened copies go into train, validation and test inside DATA.TRAIN.SSL_SOURCE_DIR."
        )


def _patch(work: _Work) -> None:
    if not work.known("DATA.PATCH_SIZE"):
        return
    size, ndim = work.given["DATA.PATCH_SIZE"], work.found["data.ndim"]
    if (
        not isinstance(size, list)
        or len(size) != ndim + 1
        or not all(isinstance(n, int) for n in size)
    ):
        order = "(y, x, channels)" if ndim == 2 else "(z, y, x, channels)"  # noqa: PLR2004
        raise ConfigError(
            "DATA.PATCH_SIZE", f"must be {order}", value=size, remedy="Correct the file."
        )
    work.channels = size[-1]
    work.put("DATA.PATCH_SIZE", "data.patch_size", size[:-1])


def _normalization(work: _Work) -> None:
    prefix = "DATA.NORMALIZATION."
    kind = str(work.given.get(f"{prefix}TYPE", "zero_mean_unit_variance"))
    ours = NORMALIZATIONS.get(kind)
    if ours is None:
        raise ConfigError(
            f"{prefix}TYPE",
            f"must be one of {', '.join(NORMALIZATIONS)}",
            value=kind,
            remedy="Correct the file.",
        )
    if f"{prefix}TYPE" in work.given:
        work.put(f"{prefix}TYPE", "data.normalization", ours)
    for key in (f"{prefix}ZERO_MEAN_UNIT_VAR.MEAN_VAL", f"{prefix}CUSTOM_MEAN"):
        if work.given.get(key, -1) not in (-1, [-1], None):
            work.put(key, "data.normalization", "custom")
            work.notes.append(
                f"{key} gives numbers; here `custom` measures them on the training set."
            )
    for key in (f"{prefix}PERC_CLIP.ENABLE", f"{prefix}PERC_CLIP"):
        if work.given.get(key) is True:
            work.put(key, "data.normalization", "percentile")
            work.notes.append(f"{key}: normalised by percentiles here, not clipped.")


def _network(work: _Work) -> None:
    key = "MODEL.ARCHITECTURE"
    if work.known(key):
        theirs = str(work.given[key]).lower()
        ours = ARCHITECTURES.get(theirs, NEAREST_NETWORK)
        work.put(key, "backbone.name", ours)
        if theirs not in ARCHITECTURES:
            work.notes.append(f"{key} {theirs} is not here: {ours} is the nearest.")
    key = "MODEL.NORMALIZATION"
    if work.known(key):
        work.put(key, "backbone.norm", NORMS.get(str(work.given[key]), "instance"))
        if work.given[key] not in NORMS:
            work.notes.append(
                f"{key} {work.given[key]} is not here: instance normalisation instead."
            )


def _checkpoint(work: _Work) -> None:
    key = "MODEL.LOAD_CHECKPOINT"
    if not work.given.get(key):
        if key in work.given:
            work.automatic.append(key)
        return
    which = "last" if work.given.get("MODEL.LOAD_CHECKPOINT_EPOCH") == "last_on_train" else "best"
    path = work.given.get("PATHS.CHECKPOINT_FILE") or ""
    for source in (key, "PATHS.CHECKPOINT_FILE" if path else "MODEL.LOAD_CHECKPOINT_EPOCH"):
        work.put(source, "training.load_checkpoint", path or which)


def _learning(work: _Work) -> None:
    if work.known("TRAIN.PATIENCE"):
        patience = work.given["TRAIN.PATIENCE"]
        work.put("TRAIN.PATIENCE", "training.patience", None if patience == -1 else patience)
    if work.known("SYSTEM.NUM_WORKERS"):
        workers = work.given["SYSTEM.NUM_WORKERS"]
        work.put("SYSTEM.NUM_WORKERS", "compute.workers", "auto" if workers == -1 else workers)
    optimizer = work.given.get("TRAIN.OPTIMIZER")
    name = optimizer[0] if isinstance(optimizer, list) and optimizer else optimizer
    if str(name).upper() == "ADAMW":
        work.automatic.append("TRAIN.OPTIMIZER")
    elif name:
        work.notes.append(f"TRAIN.OPTIMIZER {name}: AdamW is used here.")
    if "TRAIN.LR_SCHEDULER.NAME" in work.given:
        work.automatic.append("TRAIN.LR_SCHEDULER.NAME")
        work.notes.append(
            "TRAIN.LR_SCHEDULER: the learning rate warms up and falls as a cosine here."
        )


def _loss(work: _Work) -> None:
    if not work.known("LOSS.TYPE"):
        return
    theirs = work.given["LOSS.TYPE"]
    names = [str(name).upper() for name in (theirs if isinstance(theirs, list) else [theirs])]
    ours = next((LOSSES[name] for name in names if name in LOSSES), "auto")
    work.put("LOSS.TYPE", "training.loss", ours)
    dropped = [name for name in names if LOSSES.get(name) != ours]
    if dropped:
        work.notes.append(f"LOSS.TYPE {', '.join(dropped)}: not here; the loss is {ours}.")


def _automatic(work: _Work) -> None:
    for key, value in work.given.items():
        if key in work.translated or key in work.automatic:
            continue
        if value is False and key in ON_UNLESS_OFF:
            continue
        # an option that is off needs nothing, but flips that are off are still made here
        off = value is False and key not in AUTOMATIC
        on = key in AUTOMATIC and not (key.startswith("AUGMENTOR.") and value is False)
        if off or on:
            work.automatic.append(key)


def _defaults(work: _Work) -> None:
    defaults = DIFFERENT_DEFAULTS | (MASKING_DEFAULTS if work.masking() else {})
    left_out = [text for key, text in defaults.items() if key not in work.given]
    if left_out:
        work.notes.append(
            f"Not in the file, so chosen by this program (BiaPy would take {', '.join(left_out)})."
        )


_RULES: tuple[Callable[[_Work], None], ...] = (
    _problem,
    _plain,
    _paths,
    _patch,
    _normalization,
    _network,
    _checkpoint,
    _learning,
    _loss,
    _automatic,
    _defaults,
)
