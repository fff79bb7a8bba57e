"""The door between whoever shows a run and the process that does it.

A run is a child process; its folder is the interface. It outlives whoever started it, is
found again by its folder, and is asked to stop by a file in it. No Qt, no torch.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain.data.links import refuse_links, refuse_links_in
from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.runner.handle import (
    MAX_STEPS_READ,
    OTHER,
    JobHandle,
    RunHandle,
    StudyHandle,
    is_running,
    last_error,
    unwritable,
)
from napari_ssl_pretrain.runner.process import COMMAND, NICENESS, start_in
from napari_ssl_pretrain.spec.run_dir import RunDir
from napari_ssl_pretrain.spec.study_dir import StudyDir

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ssl_pretrain.spec.config import PretrainConfig
    from napari_ssl_pretrain.spec.transfer import TransferConfig

__all__ = [
    "COMMAND",
    "MAX_STEPS_READ",
    "NICENESS",
    "JobHandle",
    "RunHandle",
    "StudyHandle",
    "attach",
    "attach_study",
    "find_running",
    "last_error",
    "start",
    "start_study",
    "transfer_words",
]


def start(
    config: PretrainConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    command: Sequence[str] = COMMAND,
) -> RunHandle:
    """Start a run as a process of its own, which goes on when this program ends.

    Parameters
    ----------
    config
        What to run.
    resume
        Go on from the last checkpoint of the run.
    overwrite
        Replace the run if it exists.
    command
        What to start instead of this package's command line.

    Raises
    ------
    ConfigError
        The run is under way already, its folder cannot be written, or links lead out of it.
    """
    run = RunDir(Path(config.result_dir).expanduser().absolute(), config.name, config.run_id)
    if is_running(run):
        raise ConfigError(
            "run_id",
            "is running already",
            value=run.run_id,
            remedy="Stop it first, or take another number.",
        )
    refuse_links(run)
    config_file = _write_config(config)
    arguments = [*command, "run", "--config", str(config_file)]
    arguments += ["--resume"] * resume + ["--overwrite"] * overwrite
    handle = RunHandle(run, config_file=config_file)
    handle.look_back(keep=resume)
    try:
        handle.follow(start_in(run, arguments, append=resume))
    except OSError as error:
        config_file.unlink(missing_ok=True)
        raise ConfigError(*unwritable(error), value=run.result_dir, remedy=OTHER) from None
    return handle


def start_study(config: TransferConfig, *, command: Sequence[str] = COMMAND) -> StudyHandle:
    """Start a transfer study as a process of its own, which goes on when this program ends.

    Parameters
    ----------
    config
        What to compare; where the study stands is ``config.output``.
    command
        What to start instead of this package's command line.

    Raises
    ------
    ConfigError
        The study is under way already, its folder cannot be written, or links lead out of it.
    """
    study = StudyDir(Path(config.output).expanduser().absolute())
    if is_running(study):
        raise ConfigError(
            "output",
            "holds a study that is running",
            value=study.results,
            remedy="Stop it first, or choose another folder.",
        )
    refuse_links_in("output", study.results, [study.results])
    arguments = [*command, "transfer", *transfer_words(config, study), "--json"]
    handle = StudyHandle(study)
    handle.look_back(keep=False)
    try:
        handle.follow(start_in(study, arguments))
    except OSError as error:
        rule = unwritable(error)[1]
        raise ConfigError("output", rule, value=study.results, remedy=OTHER) from None
    return handle


def transfer_words(config: TransferConfig, study: StudyDir) -> list[str]:
    """Return a study's settings as the words of the command line; those of old are left out."""
    fields = config.model_dump(exclude={"output"}, exclude_defaults=True)
    words = [word for key, value in fields.items() for word in (f"--{key}", _word(value))]
    return [*words, "--output", str(study.results)]


def _word(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def attach(run: RunDir) -> RunHandle:
    """Watch a run that is there already; the first :meth:`RunHandle.poll` returns its history."""
    return RunHandle(run)


def attach_study(study: StudyDir) -> StudyHandle:
    """Watch a study that is there already."""
    return StudyHandle(study)


def find_running(root: Path) -> list[RunDir]:
    """Return the runs under a folder whose process lives on this machine, newest last."""
    return [run for run in RunDir.find(root) if is_running(run)]


def _write_config(config: PretrainConfig) -> Path:
    safe = re.sub(r"\W+", "_", config.name, flags=re.ASCII)[:40]
    number, path = tempfile.mkstemp(prefix=f"ssl_pretrain_{safe}_", suffix=".yaml")
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(config.to_yaml())
    return Path(path)
