"""The main job: prepare, train, test, write everything; the same for dock, command, Python."""

from __future__ import annotations

import os
import socket
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain.data.links import refuse_links
from napari_ssl_pretrain.data.writers import CannotWrite
from napari_ssl_pretrain.engine import checks, world
from napari_ssl_pretrain.engine.failures import explain, refuse_unwritable
from napari_ssl_pretrain.errors import RunFailed, UserError
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.claim import TakenOver, say_last_word
from napari_ssl_pretrain.spec.run_dir import RunDir

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_ssl_pretrain.engine.report import Reporter
    from napari_ssl_pretrain.engine.session import Session
    from napari_ssl_pretrain.spec.config import PretrainConfig


@dataclass(frozen=True)
class PretrainResult:
    """What a run came to.

    Attributes
    ----------
    run_dir
        Where everything is.
    summary
        The content of ``summary.json``.
    """

    run_dir: RunDir
    summary: dict[str, Any]


def pretrain(
    config: PretrainConfig,
    *,
    emit: Callable[[ev.AnyEvent], None] | None = None,
    should_stop: Callable[[], bool | str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> PretrainResult:
    """Pretrain a network on unlabelled images; returns when the run has ended.

    Parameters
    ----------
    config
        What to do.
    emit
        Called with every event.
    should_stop
        Asked after each step; True ends the run, its state saved. ``"interrupt"`` does, too, and
        is what the last word gives as the reason. A file named ``stop`` in the run's result
        folder is a wish to stop as well.
    resume
        Go on from the run's last checkpoint.
    overwrite
        Delete what a run of the same name and number left, and begin anew.

    Raises
    ------
    ConfigError
        A value is wrong; nothing was written.
    DataError
        There is nothing to train on; nothing was written.
    CheckpointError
        A checkpoint cannot be loaded; nothing was written.
    RunFailed
        Something went wrong while training; the folder says what.
    """
    from napari_ssl_pretrain.engine.report import Reporter  # noqa: PLC0415 - after the first event

    run = RunDir(_absolute(config.result_dir), config.name, config.run_id)
    world.adopt_slurm()
    world.quiet_torch()
    report = Reporter(emit, silent=world.rank() != 0)
    report(
        ev.ProcessStarted(
            pid=os.getpid(),
            host=socket.gethostname(),
            config=config.to_yaml(),
            resumed=resume,
            folder=_working_folder(),
        )
    )
    checks.refuse_existing(run, resume=resume, overwrite=overwrite)
    refuse_links(run)
    refuse_unwritable(run.results, "result_dir", run.result_dir)

    return _together(config, run, report, should_stop or (lambda: False), resume, overwrite)


def _together(
    config: PretrainConfig,
    run: RunDir,
    report: Reporter,
    should_stop: Callable[[], bool | str],
    resume: bool,  # noqa: FBT001
    overwrite: bool,  # noqa: FBT001
) -> PretrainResult:
    """Check a run and carry it out, in one process or as one of several.

    Raises
    ------
    UserError
        As :func:`pretrain`.
    RunFailed
        Another process is gone.
    """
    from napari_ssl_pretrain.engine.ranks import join  # noqa: PLC0415 - imports torch
    from napari_ssl_pretrain.engine.session import Session  # noqa: PLC0415 - imports torch

    with join(config.compute.device) as ranks:
        session = Session(config, run, report, ranks, resume=resume)
        try:
            session.check()
            with session.claimed(overwrite=overwrite):
                return _carry_out(session, report, should_stop)
        except Exception as error:
            if (lost := ranks.ending(error)) is not None:
                raise lost from None
            raise


def _carry_out(
    session: Session, report: Callable[[ev.AnyEvent], None], should_stop: Callable[[], bool | str]
) -> PretrainResult:
    """Run a checked session and say the last word whatever happens.

    Raises
    ------
    KeyboardInterrupt
        The user wishes to end at once.
    UserError
        Something that the user can mend.
    TakenOver
        Another process goes on with this run; nothing is said there.
    RunFailed
        Anything else.
    """
    state: ev.FinishState = "failed"
    reason: ev.FinishReason = "error"
    message = ""
    session.ranks.on_lost = lambda gone: _say_gone(session, report, gone)
    wish = Wish(session, should_stop)
    try:
        session.begin()
        reason = session.train_and_test(wish)
        state = "stopped" if reason == "stop" else "finished"
        reason = wish.reason if reason == "stop" else reason
        message = last_word(session, reason)
    except KeyboardInterrupt:
        state, reason, message = (
            "stopped",
            "interrupt",
            "Interrupted; resume goes on from the last saved state.",
        )
        raise
    except TakenOver:  # the folder belongs to another process
        session.report.close()
        session.report.silent = True
        raise
    except Exception as error:
        if isinstance(error, UserError) and not isinstance(error, CannotWrite):
            message = str(error)
            if not session.trained or isinstance(error, RunFailed):
                raise
            raise RunFailed(
                error.subject, error.rule, value=error.value, remedy=error.remedy
            ) from error
        if (lost := session.ranks.ending(error)) is not None:
            reason, message = "killed", str(lost)
            if session.ranks.rank and not isinstance(lost, SystemExit):
                _say_gone(session, report, lost)
            raise lost from None
        message = _explained(error, session)
        raise RunFailed(session.run.run_name, message.rstrip(".")) from error
    finally:
        summary = _end(session, report, state, reason, message)
    return PretrainResult(session.run, summary)


def _end(
    session: Session,
    report: Callable[[ev.AnyEvent], None],
    state: ev.FinishState,
    reason: ev.FinishReason,
    message: str,
) -> dict[str, Any]:
    """Write the summary and say the last word.

    Raises
    ------
    RunFailed
        All went well, but the summary cannot be written.
    """
    done, planned = session.epochs()
    last = ev.RunFinished(
        state=state, reason=reason, message=message, epochs_done=done, epochs_planned=planned
    )
    summary: dict[str, Any] = {}
    failure: RunFailed | None = None
    if session.claim:
        session.claim.free_reserve()
    try:
        summary = session.summarize(state, reason, message)
    except (OSError, CannotWrite) as error:  # must not hide what made the run fail
        if state != "failed":
            said = _explained(error, session)
            failure = RunFailed(session.run.run_name, said.rstrip("."))
            last = last.replace(state="failed", reason="error", message=said)
    with suppress(OSError) if last.state == "failed" else nullcontext():
        report(last)
    if failure is not None:
        raise failure
    return summary


def last_word(session: Session, reason: ev.FinishReason) -> str:
    """Return the sentence that tells the user how the run ended."""
    state, where = session.state, session.run.checkpoint("best")
    if reason in {"stop", "interrupt"}:
        how = "Stopped" if reason == "stop" else "Interrupted"
        place = f"at step {state.step} of {state.steps}"
        if state.step >= state.steps:
            place = "after the training"
        return f"{how} {place}; the state is saved and can be resumed."
    why = {"patience": "No improvement any more", "time": "Time is up"}.get(reason, "Done")
    return f"{why}: the pretrained model is {where}."


class Wish:
    """Whether a run shall stop, and why.

    Parameters
    ----------
    session
        The run; a file in its folder is a wish, too.
    ask
        Whoever started it.
    """

    def __init__(self, session: Session, ask: Callable[[], bool | str]) -> None:
        self._session, self._ask = session, ask
        self.reason: ev.FinishReason = "stop"

    def __call__(self) -> bool:
        """Whether to stop.

        Raises
        ------
        TakenOver
            Another process goes on with this run.
        """
        if self._session.claim:
            self._session.claim.check()
        answer = self._ask()
        self.reason = "interrupt" if answer == "interrupt" else "stop"
        return bool(answer) or self._session.run.stop_file.exists()


def _say_gone(session: Session, report: Callable[[ev.AnyEvent], None], gone: Any) -> None:
    """Say the last word of a run that hangs, or whose first process is gone."""
    done, planned = session.epochs()
    word = ev.RunFinished(
        state="failed",
        reason="killed",
        message=str(gone),
        epochs_done=done,
        epochs_planned=planned,
    )
    with suppress(OSError):
        if session.ranks.rank == 0:
            report(word)
        else:
            say_last_word(session.run, word, sure=True)


def _explained(error: Exception, session: Session) -> str:
    """Turn what went wrong into a sentence with a remedy."""
    c = session.plan.config
    memory = (
        f"Out of memory with training.batch_size {c.training.batch_size} and data.patch_size "
        f"{list(c.data.patch_size)} on {c.compute.device}. Halve training.batch_size, "
        "or use a smaller data.patch_size or backbone.size."
    )
    disk = "Free some space and resume."
    return explain(error, memory=memory, where=session.run.result_dir, disk=disk)


def _absolute(folder: str) -> Path:
    return Path(folder).expanduser().absolute()


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was deleted
        return ""
