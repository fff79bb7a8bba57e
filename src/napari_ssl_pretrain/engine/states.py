"""What a checkpoint holds, and what is taken from it again."""

from __future__ import annotations

import glob
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import napari_ssl_pretrain
from napari_ssl_pretrain.engine import checkpoint
from napari_ssl_pretrain.engine.checkpoint import plain, save
from napari_ssl_pretrain.engine.last_state import refuse_unfit
from napari_ssl_pretrain.engine.load import load_weights
from napari_ssl_pretrain.engine.state import TrainState
from napari_ssl_pretrain.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from napari_ssl_pretrain.engine.backbones import BackboneSpec
    from napari_ssl_pretrain.engine.machine import Machine
    from napari_ssl_pretrain.engine.prepare import Plan
    from napari_ssl_pretrain.spec.resolve import ResolvedConfig, ResolvedTraining
    from napari_ssl_pretrain.spec.run_dir import RunDir

__all__ = ["checkpoint_state", "load_last", "load_start", "resumed_state", "save", "weights"]


def checkpoint_state(
    plan: Plan, spec: BackboneSpec, state: TrainState, machine: Machine, *, resume: bool
) -> dict[str, Any]:
    """Return the content of a checkpoint; ``resume`` adds what going on needs."""
    config, found = plan.config, plan.survey
    last = state.history[-1] if state.history else None
    content = {
        "format_version": checkpoint.FORMAT_VERSION,
        "model": weights(machine.model),
        "backbone": plain(spec._asdict()),
        "task": config.pretext.task,
        "axes": found.axes,
        "ndim": config.data.ndim,
        "in_channels": found.in_channels,
        "normalization": config.data.normalization,
        "patch_size": list(config.data.patch_size),
        "voxel_size": plain(found.voxel_size),
        "config": config.to_dict(),
        "epoch": last.epoch if last else 0,
        "step": state.step,
        "metrics": plain({"validation_loss": last.validation_loss, **last.metrics}) if last else {},
        "versions": {
            "napari-ssl-pretrain": napari_ssl_pretrain.__version__,
            "torch": version("torch"),
            "python": platform.python_version(),
        },
    }
    if plan.custom is not None:
        mean, std = plan.custom
        content["normalization_statistics"] = {"mean": mean.tolist(), "std": std.tolist()}
    if not resume:
        return content
    scaler = machine.accelerator.scaler
    return content | {
        "optimizer": machine.optimizer.state_dict(),
        "schedule": {"steps": state.steps, "planned": state.planned},
        "scaler": scaler.state_dict() if scaler is not None else {},
        # every draw is a function of (seed, step, index): the generators' whole state is this
        "random": {"seed": config.training.seed, "step": state.step},
        "best_score": state.best_score,
        "state": state.to_dict(),
    }


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights on the CPU; what several modules share is one tensor, so saved once."""
    copies: dict[tuple[int, torch.Size], torch.Tensor] = {}
    named: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict().items():
        key = (value.data_ptr(), value.shape)
        if key not in copies:
            copies[key] = value.detach().cpu().contiguous()
        named[name] = copies[key]
    return named


def load_last(run: RunDir, spec: BackboneSpec) -> dict[str, Any] | None:
    """Load the last state of a run; None when it was ended before it had one.

    Raises
    ------
    CheckpointError
        The file is damaged, or holds what no run of this network saves.
    ConfigError
        The configuration asks for another network than the run has.
    """
    path = run.checkpoint("last")
    if not path.exists():
        return None
    state = checkpoint.load(path)
    if state["backbone"] != plain(spec._asdict()):
        was, now = state["backbone"], plain(spec._asdict())
        changed = [key for key in now if was.get(key) != now[key]]
        raise ConfigError(
            "backbone",
            f"differs from the run to resume in {', '.join(changed)}",
            remedy="Resume with the configuration of the run, or start another run_id.",
        )
    refuse_unfit(state, spec, path)
    return state


def resumed_state(resumed: dict[str, Any], steps: int, training: ResolvedTraining) -> TrainState:
    """Return where the run stood; a plan made from ``max_minutes`` is kept."""
    state = TrainState.from_dict(resumed["state"])
    if training.max_minutes is None or not state.planned:
        state.steps = steps
    return state


LENGTH = ("epochs", "max_minutes", "patience", "load_checkpoint")
"""Training settings that may change on a resume without a word."""


def changes(resumed: dict[str, Any], config: ResolvedConfig) -> list[str]:
    """Return one sentence for each setting that differs from the run that is gone on with."""
    now, said = config.to_dict(), []
    for group in ("data", "pretext", "training"):
        before = resumed["config"].get(group, {})
        for key, value in plain(now[group]).items():
            if key not in LENGTH and key in before and not same(before[key], value):
                said.append(
                    f"{group}.{key} is {value}, it was {before[key]}: the resumed run will not "
                    "end as the uninterrupted one would have."
                )
    return said


def same(before: Any, now: Any) -> bool:
    """Whether a setting is the same; a path may be given from another folder."""
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return all(same(a, b) for a, b in zip(before, now, strict=True))
    if isinstance(before, str) and isinstance(now, str) and Path(now).is_absolute():
        short = Path(before).parts
        return before == now or (bool(short) and Path(now).parts[-len(short) :] == short)
    return bool(before == now)


def load_start(asked: str, run: RunDir, spec: BackboneSpec) -> dict[str, Any]:
    """Load the checkpoint to start from and make sure that it fits, before anything is written.

    Raises
    ------
    CheckpointError
        It is missing, no checkpoint, or next to nothing of it fits.
    """
    from napari_ssl_pretrain.engine.backbones import build_backbone  # noqa: PLC0415

    path = find_start(asked, run)
    state = checkpoint.load(path)
    with torch.random.fork_rng():
        load_weights(build_backbone(spec), state["model"], path)
    return state


def find_start(asked: str, run: RunDir) -> Path:
    """Return the path of ``best`` or ``last`` of this job's newest run, or of a path as given.

    Raises
    ------
    CheckpointError
        The job has no such checkpoint.
    """
    if asked not in {"best", "last"}:
        return Path(asked).expanduser().absolute()
    found = sorted(
        run.checkpoints.glob(f"{glob.escape(run.name)}_*-checkpoint-{asked}.pth"),
        key=lambda p: p.stat().st_mtime,
    )
    if not found:
        raise CheckpointError(
            "training.load_checkpoint",
            f"there is no {asked} checkpoint in {run.checkpoints}",
            value=asked,
            remedy="Train first, or give the path of a checkpoint.",
        )
    return found[-1]
