"""``run``: the main job."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain import __version__
from napari_ssl_pretrain.cli import report as reports
from napari_ssl_pretrain.cli import text
from napari_ssl_pretrain.cli.output import make_report
from napari_ssl_pretrain.cli.source import load_config
from napari_ssl_pretrain.cli.stopping import StopOnSignal
from napari_ssl_pretrain.errors import RunFailed, UserError
from napari_ssl_pretrain.spec.run_dir import RunDir

if TYPE_CHECKING:
    from argparse import Namespace

    from napari_ssl_pretrain.cli.report import Report
    from napari_ssl_pretrain.spec.config import PretrainConfig
    from napari_ssl_pretrain.spec.events import AnyEvent

DONE, INTERRUPTED = 0, 130


def command(args: Namespace) -> int:
    """Run the main job of a configuration."""
    gpus = read_gpus(args.gpu)
    loaded = load_config(args)
    if len(gpus) > 1:
        from napari_ssl_pretrain.cli import ranks  # noqa: PLC0415 - only for several devices

        return ranks.launch(args, gpus)
    config = loaded.config
    if gpus:
        config = config.replace(
            compute={**config.compute.model_dump(), "device": f"cuda:{gpus[0]}"}
        )
    report = make_report(as_json=args.json)
    if not args.json:
        report.note(hello(config))
    for note in loaded.notes:
        report.note(note if args.json else text.wrapped(note))
    expect = _Channels(report, loaded.channels)
    summary, code = train(config, report, resume=args.resume, overwrite=args.overwrite, emit=expect)
    if not args.json:
        for line in [*reports.score_lines(summary), *where(config, summary, code)]:
            report.note(line)
    return code


def read_gpus(given: str | None) -> list[int]:
    """Read ``--gpu``; an empty list leaves the choice to the program.

    Raises
    ------
    UserError
        It is no list of numbers.
    """
    if not given:
        return []
    numbers = [part.strip() for part in given.split(",")]
    if not all(part.isdecimal() for part in numbers) or len(set(numbers)) < len(numbers):
        remedy = "Give numbers such as 0 or 0,1, or leave it out."
        raise UserError(
            "--gpu", "must be different numbers, joined by commas", value=given, remedy=remedy
        )
    return [int(part) for part in numbers]


def hello(config: PretrainConfig) -> str:
    """Say what was understood, before anything slow happens."""
    job = f"{config.name} ({config.pretext.task})"
    return f"napari-ssl-pretrain {__version__}: {job}, results go to {run_dir(config).results}"


def run_dir(config: PretrainConfig) -> RunDir:
    """Return where the run lives."""
    return RunDir(Path(config.result_dir).expanduser(), config.name, config.run_id)


def train(
    config: PretrainConfig,
    report: Report,
    *,
    resume: bool = False,
    overwrite: bool = False,
    emit: Any = None,
) -> tuple[dict[str, Any], int]:
    """Run a configuration to its end; return its summary and the exit code.

    Raises
    ------
    RunFailed
        The run failed while it was under way.
    """
    from napari_ssl_pretrain.engine.run import pretrain  # noqa: PLC0415 - torch: 2 s

    with StopOnSignal() as stop:

        def hear(event: AnyEvent) -> None:
            stop.training = stop.training or event.kind == "run_started"
            (emit or report)(event)

        try:
            result = pretrain(
                config, emit=hear, should_stop=stop, resume=resume, overwrite=overwrite
            )
        finally:
            report.close()
    if result.summary.get("state") == "failed":
        raise RunFailed(run_dir(config).results, result.summary.get("message") or "the run failed")
    stopped = stop.interrupted and result.summary.get("state") == "stopped"
    return result.summary, INTERRUPTED if stopped else DONE


def where(config: PretrainConfig, summary: dict[str, Any], code: int) -> list[str]:
    """Say where the results are and what comes next."""
    run = run_dir(config)
    lines = []
    if total := (summary.get("seconds") or {}).get("total"):
        lines.append(f"Took {text.duration(total)}")
    lines.append(f"Results: {run.results}")
    if run.checkpoint("best").exists():
        lines.append(f"Model:   {run.checkpoint('best')}")
    if code == INTERRUPTED or summary.get("state") == "stopped":
        config_file = shlex.quote(str(run.config))
        words = f"napari-ssl-pretrain run --config {config_file} --run_id {config.run_id}"
        lines.append(f"Go on:   {words} --resume")
    elif run.checkpoint("best").exists():
        checkpoint = shlex.quote(str(run.checkpoint("best")))
        words = f"napari-ssl-pretrain predict --checkpoint {checkpoint}"
        lines.append(f"Next:    {words} --input IMAGES --output FOLDER")
    return lines


class _Channels:
    """Passes events on and says when a BiaPy file expected other channels."""

    def __init__(self, report: Report, channels: int | None) -> None:
        self._report = report
        self._channels = channels

    def __call__(self, event: AnyEvent) -> None:
        self._report(event)
        if event.kind == "data_checked" and self._channels not in {None, event.channels}:
            self._report.note(
                f"note: DATA.PATCH_SIZE says {self._channels} channels, "
                f"the images have {event.channels}: {event.channels} are used."
            )
