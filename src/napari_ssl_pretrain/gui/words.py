"""Short texts about runs, the same in every dock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ssl_pretrain.spec import run_record

if TYPE_CHECKING:
    from napari_ssl_pretrain.spec.run_dir import RunDir
    from napari_ssl_pretrain.spec.status import RunStatus

MINUTE, HOUR, DAY = 60, 3600, 86400
WHEN_FORM = "%d %b %H:%M"


def duration(seconds: float) -> str:
    """Say a time span: ``8 s``, ``3 min``, ``2 h 5 min``, ``3 d 4 h``."""
    seconds = max(0.0, seconds)
    if seconds < 1.5 * MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    if seconds < DAY:
        return f"{seconds // HOUR:.0f} h {seconds % HOUR // MINUTE:.0f} min"
    return f"{seconds // DAY:.0f} d {seconds % DAY // HOUR:.0f} h"


def moment(seconds: float | None) -> str:
    """Say when something was, by this machine's clock."""
    return run_record.moment(seconds, WHEN_FORM)


def progress_line(status: RunStatus) -> str:
    """Say how far a run is."""
    if status.state in {"starting", "preparing", "testing"}:
        return status.message or status.state.capitalize()
    if not status.steps:
        return status.state.capitalize()
    line = f"Step {status.step} of {status.steps}"
    if not status.epochs:
        return line
    epoch = min(status.epoch + (not status.ended), status.epochs)
    return f"{line}, epoch {epoch} of {status.epochs}"


def status_line(status: RunStatus, run: RunDir, *, remote: bool = False) -> str:
    """Say in one line what a run that goes on is doing."""
    if status.state == "starting":
        return f"{run.run_name}: loading; the first step comes in a few seconds."
    line = f"{run.run_name}: {status.message[:1].lower()}{status.message[1:]}"
    if status.state == "training":
        line = f"{run.run_name}: training, {progress_line(status).lower()}"
    if remote and status.last_seen is not None:
        line += f" (on {status.host}, last seen {moment(status.last_seen)})"
    return f"{line}."


def silence_line(status: RunStatus, run: RunDir, silence: float, *, remote: bool) -> str:
    """Say that a run gives no sign of life."""
    if not remote:
        said = f"{run.run_name}: process {status.pid} has given no sign of life for"
        return f"{said} {duration(silence)}, though it is there. It may be suspended."
    said = f"{run.run_name}: no sign of life from {status.host} for {duration(silence)}"
    return f"{said}. It is watched a little longer, then you can resume it here."


def last_line(status: RunStatus, run: RunDir, *, saved: bool) -> str:
    """Say how a run ended, its best score, and where its checkpoint is."""
    best = status.best_validation_loss
    score = f" Best validation loss {best:.4g}." if best is not None else ""
    where = f" Checkpoint: {run.checkpoint('best')}" if saved else ""
    if status.state == "failed":
        remedy = " Resume goes on from the last saved state." if saved else ""
        return f"{run.run_name} failed: {status.message.rstrip('.')}.{remedy}{score}{where}"
    if status.state == "stopped":
        at = f"{run.run_name} stopped at step {status.step} of {status.steps}, state saved."
        return f"{at} Resume goes on.{score}{where}"
    return f"{run.run_name} finished.{score}{where}"
