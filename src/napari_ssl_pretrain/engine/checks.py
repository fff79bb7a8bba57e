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
