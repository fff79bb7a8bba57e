"""Deleting runs: says what goes and how much it is, asks, then puts it into the trash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QFile, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout

from napari_ssl_pretrain.errors import UserError
from napari_ssl_pretrain.runner.removal import Removal, plan_removal, remove

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_ssl_pretrain.gui.crew import Crew
    from napari_ssl_pretrain.gui.status import StatusLine
    from napari_ssl_pretrain.spec.run_dir import RunDir

MOST_NAMES = 3


@dataclass(frozen=True)
class Planned:
    """What deleting runs takes away, and which cannot be deleted and why."""

    removals: tuple[Removal, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True)
class Deleted:
    """Runs that are gone, those for which there is no trash, and what went wrong."""

    gone: tuple[Removal, ...]
    untrashed: tuple[Removal, ...]
    errors: tuple[str, ...]


class Deletion(QFrame):
    """Asks before runs are deleted; hidden while there is nothing to ask.

    Parameters
    ----------
    crew
        Who measures and deletes.
    status
        Where to say what happened.
    """

    deleted = Signal()

    def __init__(self, crew: Crew, status: StatusLine) -> None:
        super().__init__()
        self._crew, self._status = crew, status
        self._planned = Planned((), ())
        self._for_good = False
        self.setObjectName("confirmation")
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.question = QLabel()
        self.question.setObjectName("question")
        self.question.setTextFormat(Qt.TextFormat.PlainText)
        self.question.setWordWrap(True)
        policy = self.question.sizePolicy()
        policy.setHorizontalPolicy(QSizePolicy.Policy.Ignored)
        self.question.setSizePolicy(policy)
        self.confirm, self.cancel = QPushButton(), QPushButton("Keep")
        self.confirm.setObjectName("confirm_delete")
        self.cancel.setObjectName("cancel_delete")
        self.confirm.clicked.connect(self._on_confirm)
        self.cancel.clicked.connect(self.dismiss)
        buttons = QHBoxLayout()
        buttons.addWidget(self.confirm)
        buttons.addWidget(self.cancel)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 6)
        layout.setSpacing(6)
        layout.addWidget(self.question)
        layout.addLayout(buttons)
        self.hide()

    @property
    def asking(self) -> bool:
        """Whether an answer is waited for."""
        return not self.isHidden()

    def ask(self, runs: Sequence[RunDir]) -> None:
        """Measure what these runs left, then ask."""
        self._status.say(f"Looking at the files of {names([r.run_name for r in runs])}…")
        self._crew.start(plan, tuple(runs), returned=self._on_planned, errored=self._unexpected)

    def dismiss(self) -> None:
        """Delete nothing."""
        self._planned = Planned((), ())
        self.hide()

    def _on_planned(self, planned: Planned) -> None:
        self._status.say(" ".join(planned.refused), error=bool(planned.refused))
        if planned.removals:
            self._show(planned, for_good=False)

    def _show(self, planned: Planned, *, for_good: bool) -> None:
        self._planned, self._for_good = planned, for_good
        self.question.setText(question(planned.removals, for_good=for_good))
        self.confirm.setText("Delete for good" if for_good else "Move to trash")
        self.show()
        self.cancel.setFocus()

    def _on_confirm(self) -> None:
        planned, for_good = self._planned, self._for_good
        self.dismiss()
        self._status.say(f"Deleting {names([r.run.run_name for r in planned.removals])}…")
        self._crew.start(
            delete,
            planned.removals,
            for_good,
            returned=self._on_deleted,
            errored=self._unexpected,
        )

    def _on_deleted(self, done: Deleted) -> None:
        if done.gone:
            gone = names([removal.run.run_name for removal in done.gone])
            self._status.say(f"{gone} deleted, {size_text(sum(r.size for r in done.gone))}.")
        if done.errors:
            self._status.say(" ".join(done.errors), error=True)
        if done.untrashed:
            self._show(Planned(done.untrashed, ()), for_good=True)
        self.deleted.emit()

    def _unexpected(self, error: Exception) -> None:
        self._status.say(f"Something went wrong: {type(error).__name__}: {error}", error=True)


def plan(runs: Sequence[RunDir]) -> Planned:
    """Find what deleting these runs takes away."""
    removals, refused = [], []
    for run in runs:
        try:
            removals.append(plan_removal(run))
        except UserError as error:
            refused.append(str(error))
    return Planned(tuple(removals), tuple(refused))


def delete(removals: Sequence[Removal], for_good: bool) -> Deleted:  # noqa: FBT001 - a worker's
    """Delete runs: into the trash, or for good."""
    gone: list[Removal] = []
    untrashed: list[Removal] = []
    errors: list[str] = []
    for removal in removals:
        try:
            left = remove(removal, None if for_good else trash)
        except UserError as error:
            errors.append(str(error))
        else:
            (untrashed if left else gone).append(removal)
    return Deleted(tuple(gone), tuple(untrashed), tuple(errors))


def trash(path: Path) -> bool:
    """Put a file or a folder into the trash of the desktop; false where there is none."""
    found: Any = QFile.moveToTrash(str(path))
    return bool(found[0] if isinstance(found, tuple) else found)


def question(removals: Sequence[Removal], *, for_good: bool) -> str:
    """Say what goes, how much it is, and what stays."""
    runs = names([removal.run.run_name for removal in removals])
    files, size = sum(r.files for r in removals), sum(r.size for r in removals)
    count = f"{files} files" if files != 1 else "1 file"
    if for_good:
        return (
            f"There is no trash where {runs} lies. Delete {count}, {size_text(size)}, for good? "
            "This cannot be undone."
        )
    whose = "their" if len(removals) > 1 else "its"
    jobs = list(dict.fromkeys(removal.run.name for removal in removals))
    kept = f"{jobs[0]}.yaml" if len(jobs) == 1 else "Settings as given"
    return (
        f"Delete {runs}? {count}, {size_text(size)}: {whose} result folder, checkpoints and "
        f"resolved settings. {kept} and other runs stay."
    )


def names(given: Sequence[str]) -> str:
    """Return names in a sentence."""
    if len(given) > MOST_NAMES:
        return f"{len(given)} runs"
    return ", ".join(given[:-1]) + (" and " if len(given) > 1 else "") + given[-1]


def size_text(count: float) -> str:
    """Return a number of bytes as a person reads it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":  # noqa: PLR2004 - steps of units
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
