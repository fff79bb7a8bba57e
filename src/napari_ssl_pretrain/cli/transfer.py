"""``transfer``: whether pretraining helps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from napari_ssl_pretrain import __version__
from napari_ssl_pretrain.cli import text
from napari_ssl_pretrain.cli.output import make_report
from napari_ssl_pretrain.cli.parser import UsageError
from napari_ssl_pretrain.cli.stopping import StopOnSignal
from napari_ssl_pretrain.errors import CheckpointError, ConfigError
from napari_ssl_pretrain.spec.transfer import TransferConfig

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from napari_ssl_pretrain.cli.report import Report
    from napari_ssl_pretrain.spec.events import AnyEvent

DONE, INTERRUPTED = 0, 130
FIELDS = frozenset(TransferConfig.model_fields)


def command(args: Namespace) -> int:
    """Fine-tune from scratch and from a checkpoint, write the report, say what it says.

    Raises
    ------
    CheckpointError
        The checkpoint is not there.
    """
    config = read_config(args)
    if not Path(config.checkpoint).expanduser().is_file():
        remedy = "Give a .pth file from the checkpoints folder of a run."
        raise CheckpointError(
            "--checkpoint", "no such file", value=config.checkpoint, remedy=remedy
        )
    report = make_report(as_json=args.json)
    if not args.json:
        name = Path(config.checkpoint).name
        report.note(
            f"napari-ssl-pretrain {__version__}: does {name} help? "
            f"The report goes to {Path(config.output).expanduser().absolute()}"
        )
    summary, code = _compare(config, report, args)
    if not args.json and summary is not None:
        for line in _found(summary, config):
            report.note(line)
    return code


def read_config(args: Namespace) -> TransferConfig:
    """Return what the words ask for; what is not given keeps its default.

    Raises
    ------
    UsageError
        A value is out of range, or an option lacks its partner.
    """
    given = {k: v for k, v in vars(args).items() if k in FIELDS and v is not None}
    if ("test_images" in given) != ("test_labels" in given):
        missing = "test_labels" if "test_images" in given else "test_images"
        other = "test_images" if missing == "test_labels" else "test_labels"
        raise UsageError(
            f"--{missing}",
            f"is required where --{other} is given",
            remedy=f"Add it, or leave out --{other}: then some of the labelled images are held "
            "back for scoring.",
        )
    try:
        return TransferConfig(**given)
    except ConfigError as error:
        _refuse(error)


def _refuse(error: ConfigError) -> NoReturn:
    """Name the option instead of the field.

    Raises
    ------
    UsageError
        Always.
    """
    raise UsageError(
        f"--{error.subject}", error.rule, value=error.value, remedy=error.remedy
    ) from None


def _compare(
    config: TransferConfig, report: Report, args: Namespace
) -> tuple[dict[str, Any] | None, int]:
    """Do the work; return what was found and the exit code.

    Raises
    ------
    ConfigError
        Something is wrong with the images.
    """
    from napari_ssl_pretrain.engine.transfer.job import run_transfer  # noqa: PLC0415

    with StopOnSignal(saves=False) as stop:
        try:
            summary = run_transfer(
                config,
                emit=report if args.json else _Plain(report),
                should_stop=lambda: bool(stop()),
                overwrite=args.overwrite,
            )
        except ConfigError as error:
            if error.subject in FIELDS:
                _refuse(error)
            raise
        finally:
            report.close()
    if summary is None and not args.json:
        report.note("Stopped before the end: no report was written.")
    early = summary is None or summary["stopped"]
    return summary, INTERRUPTED if stop.interrupted and early else DONE


class _Plain:
    """Passes events on, but for the last word, which is said with its numbers."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def __call__(self, event: AnyEvent) -> None:
        """Show one event."""
        if event.kind == "fine_tuned":
            labels = text.count(event.n_labels, "label")
            self._report.note(f"{event.arm}, {labels}, seed {event.seed}: test IoU {event.iou:.3f}")
        elif event.kind != "run_finished":
            self._report(event)


def _found(summary: Mapping[str, Any], config: TransferConfig) -> list[str]:
    """Say what the report says, in a few lines."""
    lines = ["", text.wrapped(summary["sentence"])]
    if summary["caution"]:
        lines.append(text.wrapped(summary["caution"]))
    lines += ["", _table(summary), ""]
    if summary["verdict"] == "helps":
        lines += [row["sentence"] for row in summary["labels_saved"]]
    lines += [
        f"Took {text.duration(summary['seconds'])}",
        f"Report:  {Path(config.output).expanduser().absolute() / 'report.html'}",
    ]
    if summary["stopped"]:
        done, planned = (summary["fine_tunings"][key] for key in ("done", "planned"))
        lines += [
            f"Compared {done} of {text.count(planned, 'fine-tuning')}",
            text.wrapped(f"Stopped early; so far: {summary['sentence']}"),
        ]
    return lines


def _table(summary: Mapping[str, Any]) -> str:
    """Return IoU of each arm and the gain, one row a number of labels."""
    arms = list(dict.fromkeys(row["arm"] for row in summary["scores"]))
    iou = {(row["arm"], row["n_labels"]): row["iou"] for row in summary["scores"]}
    gains = {row["n_labels"]: row["iou"] for row in summary["gains"][0]["rows"]}
    rows = [
        [str(n), *(f"{iou[arm, n]:.3f}" for arm in arms), _interval(gains[n])]
        for n in summary["n_labels"]
    ]
    if len(rows) > 1:
        rows.append(["all", *("" for _ in arms), _interval(gains["all"])])
    return text.table(["labels", *arms, "gain in IoU points (95 %)"], rows)


def _interval(gain: Mapping[str, Any]) -> str:
    from napari_ssl_pretrain.engine.transfer.statistics import points  # noqa: PLC0415

    if gain["mean"] is None:
        return ""
    if gain["low"] is None:
        return points(gain["mean"])
    return f"{points(gain['mean'])} ({points(gain['low'])} to {points(gain['high'])})"
