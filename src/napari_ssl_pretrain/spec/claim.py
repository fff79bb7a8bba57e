"""A job's folder belongs to one process at a time, on this machine and on others that see it."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, NoReturn, Protocol

from napari_ssl_pretrain.errors import ConfigError, RunFailed
from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.heartbeat import (
    QUIET_SECONDS,
    Heartbeat,
    Owner,
    read_owner,
    wait_for_sign,
)
from napari_ssl_pretrain.spec.last_word import append_line, last_event
from napari_ssl_pretrain.spec.lock import Lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECONDS = 2.0
"""How long a start waits for another one that is just ending."""

DYING_SECONDS = 10.0
"""How long one that was killed may take to let go: its memory has to be given back first."""

RESERVE = 1 << 15
"""Bytes set aside for the last word and the summary."""


class Place(Protocol):
    """Where a job lives: a run, or a transfer study."""

    @property
    def results(self) -> Path:
        """Its folder."""

    @property
    def events(self) -> Path:
        """What it says."""

    @property
    def lock(self) -> Path:
        """Held by the process that writes the job."""

    @property
    def heartbeat(self) -> Path:
        """Signs of life of that process."""

    @property
    def reserve(self) -> Path:
        """Some space for the last word."""


class TakenOver(RunFailed):
    """Another process goes on with this job."""


class Claim:
    """What a process holds that writes a job.

    Parameters
    ----------
    place
        The job.
    """

    def __init__(self, place: Place) -> None:
        self._heart = Heartbeat(place.heartbeat)
        self._reserve = place.reserve

    def begin(self) -> None:
        """Give signs of life, and set some space aside."""
        self._heart.start()
        with suppress(OSError):
            self._reserve.write_bytes(os.urandom(RESERVE))

    def end(self) -> None:
        """Give no more signs of life."""
        self.free_reserve()
        self._heart.stop()

    def free_reserve(self) -> None:
        """Give back the space that was set aside, so that a full disk takes a last word."""
        if self.lost:
            return
        with suppress(OSError):
            self._reserve.unlink(missing_ok=True)

    @property
    def lost(self) -> bool:
        """Whether another process took the job over."""
        return self._heart.taken is not None

    def check(self) -> None:
        """Make sure that the job is still this process's.

        Raises
        ------
        TakenOver
            This one gave no sign of life for so long that another one went on with it.
        """
        if (by := self._heart.taken) is not None:
            rule = f"was taken over by {by}, for this process gave no sign of life for too long"
            raise TakenOver("run", rule, remedy="Nothing more is written here.")


@contextmanager
def held(
    place: Place,
    field: str = "run_id",
    value: object = "",
    say: Callable[[str], None] = lambda _: None,
    *,
    beat: bool = True,
) -> Iterator[Claim]:
    """Hold a job's folder and give signs of life there.

    What a dead process left is taken over; one of another machine, which cannot be looked at from
    here, is watched for half a minute first.

    Parameters
    ----------
    place
        The job.
    field, value
        What a refusal speaks of.
    say
        Told when there is something to wait for.
    beat
        Whether to give signs of life; not needed for a moment.

    Raises
    ------
    ConfigError
        Another process holds it.
    """
    place.results.mkdir(parents=True, exist_ok=True)
    lock = Lock(place.lock)
    if not lock.acquire(SECONDS):
        _refuse(place, field, value, read_owner(place.heartbeat))
    try:
        _refuse_living(place, field, value, say)
        claim = Claim(place)
        try:
            if beat:
                claim.begin()
            yield claim
        finally:
            claim.end()
    finally:
        lock.release()


def say_last_word(
    place: Place, word: ev.RunFinished, *, sure: bool = False
) -> Literal["said", "held", "closed"]:
    """Write the last word of a process that is gone, unless there is one, or another one writes.

    Parameters
    ----------
    place
        The job.
    word
        What to write.
    sure
        Whether the process is known to be gone, or about to be: it is waited for, and one of
        another machine is taken for dead.

    Returns
    -------
    str
        ``said``; ``held`` where another process has the folder or spoke before; ``closed`` where
        it cannot be written.
    """
    lock = Lock(place.lock)
    if not lock.acquire(DYING_SECONDS if sure else 0.0):
        return "held"
    try:
        owner = read_owner(place.heartbeat)
        lives = owner.lives() if owner else False
        if lives and sure:
            lives = _goes_on(owner)
        if lives or (lives is None and not sure):
            return "held"
        if isinstance(last_event(place.events), ev.RunFinished):
            return "held"
        append_line(place.events, word.to_line())
    except OSError:
        return "closed"
    finally:
        lock.release()
    return "said"


def _refuse_living(place: Place, field: str, value: object, say: Callable[[str], None]) -> None:
    owner = read_owner(place.heartbeat)
    lives = owner.lives() if owner else False
    if owner is not None and lives is None:
        say(
            f"The last sign of life here is from {owner}: looking for another one for up to "
            f"{QUIET_SECONDS:.0f} seconds."
        )
        lives = wait_for_sign(place.heartbeat, owner)
    elif lives:
        lives = _goes_on(owner)
    if lives:
        _refuse(place, field, value, owner)


def _goes_on(owner: Owner | None) -> bool:
    """Whether a process that lives is not just ending: it lets go of its lock a moment before."""
    return owner is not None and not owner.ends_within(SECONDS)


def _refuse(place: Place, field: str, value: object, owner: Owner | None) -> NoReturn:
    """Refuse a second process.

    Raises
    ------
    ConfigError
        Always.
    """
    who = f" by {owner}" if owner else ""
    raise ConfigError(
        field,
        f"is under way already in {place.results}{who}",
        value=value,
        remedy="Wait for its end or stop it, or take another number or folder.",
    )
