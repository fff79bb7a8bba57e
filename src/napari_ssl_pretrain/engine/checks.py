"""What must hold before a run writes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.spec import events as ev

if TYPE_CHECKING:
    from napari_ssl_pretrain.data.survey import Survey
    from napari_ssl_pretrain.engine.prepare import Plan
    from napari_ssl_pretrain.engine.ranks import Ranks
    from napari_ssl_pretrain.engine.report import Reporter
    from napari_ssl_pretrain.spec.run_dir import RunDir


def refuse_existing(run: RunDir, *, resume: bool, overwrite: bool) -> None:
    """Refuse to mix two runs of one number.

    Raises
    ------
    ConfigError
        The run exists and neither resume nor overwrite is asked for, or both are.
    """
    if resume and overwrite:
        raise ConfigError("--resume", "cannot go with --overwrite", remedy="Give one of them.")
    exists = run.events.exists()
    if exists and not (resume or overwrite):
        raise ConfigError(
            "run_id",
            f"this run exists already in {run.results}",
            value=run.run_id,
            remedy="Use another --run_id, --resume to go on, or --overwrite to begin anew.",
        )
    if resume and not exists:
        raise ConfigError(
            "run_id",
            f"there is no run to resume in {run.results}",
            value=run.run_id,
            remedy="Check name, run_id and result_dir, or leave --resume out.",
        )


def refuse_own_results(found: Survey, run: RunDir, given: str) -> None:
    """Keep the images apart from what this run writes, and from what --overwrite deletes.

    Raises
    ------
    ConfigError
        An image lies in the result folder of this run.
    """
    results = run.results.resolve()
    for image in (*found.train, *found.validation, *found.test):
        if image.info.path.resolve().is_relative_to(results):
            raise ConfigError(
                "result_dir",
                f"{image.info.path} lies in the result folder of this very run",
                value=given,
                remedy="Use another result_dir, name or run_id.",
            )


def agree(plan: Plan, step: int, ranks: Ranks, report: Reporter) -> None:
    """Find out that all processes see the same images, settings and state to go on from.

    Raises
    ------
    ConfigError
        They do not.
    """
    batch, size, found = plan.config.training.batch_size, ranks.size, plan.survey
    if batch % size:
        most, fewer = -(-batch // size), size - batch % size
        less = f"{fewer} of them take{'s' * (fewer == 1)} {most - 1}"
        message = (
            f"training.batch_size {batch} is no multiple of the {size} processes: "
            f"{less} of its patches a step, the others {most}."
        )
        report(ev.Warned(message=message))
    fields = plan.config.to_dict()
    fields["compute"] = fields["compute"]["precision"]
    sets = (found.train, found.validation, found.test)
    names = [[(image.info.name, image.info.shape) for image in images] for images in sets]
    ranks.compare("plan", repr((fields, names, step)))
