"""``new --guide``: the questions one by one; every answer is checked before the next question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from napari_ssl_pretrain.cli import text
from napari_ssl_pretrain.cli.parser import UsageError
from napari_ssl_pretrain.errors import UserError
from napari_ssl_pretrain.spec.config import PretrainConfig

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from napari_ssl_pretrain.data.survey import Survey

T = TypeVar("T")

TASKS = {
    "1": "crappify",
    "2": "masking",
    "crappify": "crappify",
    "masking": "masking",
}


def ask_all(args: Namespace) -> dict[str, Any]:
    """Ask everything that the options have not said; return values by dotted key."""
    dims, task = args.template.split("-") if args.template else (None, None)
    survey, train = (
        _found(args.train) if args.train else ask("Folder of images to learn from", _found)
    )
    print(f"  {describe(survey)}")
    values: dict[str, Any] = {"data.train": train}
    if dims is None:
        default = f"{survey.ndim}D"
        dims = ask(
            "Train on planes (2D) or volumes (3D)?", lambda s: _dims(s, train), default=default
        )
    values["data.ndim"] = int(dims[0])
    if task is None:
        print("  1 crappify: restore images worsened by noise and lower resolution")
        print("  2 masking:  restore hidden parts; helped segmentation more in our tests")
        task = ask("What to learn from: 1 or 2?", _task, default="2")
    values["pretext.task"] = task
    asked = "Folder of test images (empty: none)"
    test = _optional(args.test) if args.test else ask(asked, _optional, default="")
    if test:
        values["data.test"] = test
    values["name"] = ask("Name of the job", _name, default=f"my_{dims.lower()}_{task}")
    minutes = ask("Minutes to train (empty: automatic)", _minutes, default="")
    if minutes:
        values["training.max_minutes"] = minutes
    return values


def ask(question: str, read: Callable[[str], T], *, default: str | None = None) -> T:
    """Ask until the answer can be read.

    Raises
    ------
    UsageError
        There is nobody to answer.
    """
    shown = f" [{default}]" if default else ""
    while True:
        try:
            answer = input(f"{question}{shown}: ").strip()
        except EOFError:
            rule = "needs answers, and there is no input"
            raise UsageError("--guide", rule, remedy="Use --template instead.") from None
        if not answer and default is None:
            continue
        try:
            return read(answer or str(default))
        except UserError as error:
            print(f"  {error}")


def describe(survey: Survey) -> str:
    """Say in one line what a folder holds."""
    found = f"{text.count(len(survey.train), 'image')}, {survey.ndim}D, axes {survey.axes}"
    skipped = f", {len(survey.skipped)} skipped" if survey.skipped else ""
    return f"{found}, {text.count(survey.in_channels, 'channel')}{skipped}"


def _survey(train: str, **data: Any) -> Survey:
    from napari_ssl_pretrain.data.survey import survey  # noqa: PLC0415 - tifffile: 0.2 s

    fields = {"data": {"train": train, **data}, "pretext": {"task": "crappify"}}
    return survey(PretrainConfig.from_dict(fields).data)


def _found(answer: str) -> tuple[Survey, str]:
    return _survey(answer), answer


def _optional(answer: str) -> str:
    if answer:
        _survey(answer)
    return answer


def _dims(answer: str, train: str) -> str:
    dims = answer.upper().removesuffix("D")
    if dims not in {"2", "3"}:
        raise UserError("answer", "must be 2D or 3D", value=answer)
    _survey(train, ndim=int(dims))
    return f"{dims}D"


def _task(answer: str) -> str:
    if answer.lower() not in TASKS:
        raise UserError("answer", "must be 1 or 2", value=answer)
    return TASKS[answer.lower()]


def _name(answer: str) -> str:
    fields = {"name": answer, "data": {"train": "."}, "pretext": {"task": "crappify"}}
    return PretrainConfig.from_dict(fields).name


def _minutes(answer: str) -> float | None:
    if not answer:
        return None
    try:
        value = float(answer)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e5:  # noqa: PLR2004
        raise UserError("answer", "must be a number above 0", value=answer)
    return value
