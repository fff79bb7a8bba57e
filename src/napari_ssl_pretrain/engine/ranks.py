"""Several processes that do one run together: they meet, agree, and notice when one is gone.

What they say to each other beside gradients goes through torch's key-value store. The first
process speaks for all; if it is gone, the lowest of those that live.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from napari_ssl_pretrain.engine import world
from napari_ssl_pretrain.engine.hardware import find_device
from napari_ssl_pretrain.errors import ConfigError, RunFailed, UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

MEET = timedelta(minutes=10)
"""How long processes wait for each other at the beginning."""

LONGEST_WAIT = timedelta(days=7)
"""The first may prepare, save and test for hours; that a process is gone is noticed otherwise."""

BEAT_SECONDS = 1.0
SILENT_SECONDS = 5.0
"""A process whose connection broke is gone when it gives no sign of life for so long."""

LOST_SECONDS = 120.0
"""Without a broken connection it takes so long: a busy machine is no dead one."""

HANG_SECONDS = 10.0
"""A process that should have noticed that another is gone, and has not, ends itself."""

RESUME = "Resume the run to go on from its last saved state."


class PeerLost(Exception):
    """Another process of this run has failed or is gone."""


class Gone(RunFailed):
    """What the user is told when a process of the run is gone."""


class Ranks:
    """The processes of a run as one of them sees the others; alone, nothing is ever waited for.

    Parameters
    ----------
    rank, size
        The number of this process, and how many there are.
    store
        What all of them read and write; None for a process that is alone.
    """

    def __init__(self, rank: int = 0, size: int = 1, store: Any = None) -> None:
        self.rank, self.size, self._store = rank, size, store
        self.on_lost: Callable[[Gone], None] = lambda _: None
        self._over = threading.Event()
        self._broken = False
        self._said = ""
        self._who: dict[int, str] = {}
        self._beats: dict[int, tuple[bytes, float]] = {}
        if store is not None:
            self._set(f"who/{rank}", f"{os.getpid()} on {socket.gethostname()}")
            self._beat()
            self._watcher = threading.Thread(target=self._watch, name="ranks", daemon=True)
            self._watcher.start()

    # --- what the run asks ---

    def share(self, count: int) -> range:
        """Return which of so many patches are this process's."""
        return range(self.rank, count, self.size)

    def sum(self, numbers: Sequence[float], device: torch.device) -> list[float]:
        """Return the sums over all processes.

        Raises
        ------
        PeerLost
            One is gone.
        """
        if self.size == 1:
            return list(numbers)
        shared = torch.tensor(numbers, dtype=torch.float64, device=device)
        try:
            distributed.all_reduce(shared)
        except RuntimeError as error:
            raise PeerLost from error
        return [float(number) for number in shared.tolist()]

    def tell(self, what: str) -> None:
        """Let all who wait for this go on."""
        if self._store is not None:
            self._set(what, "done")

    def wait_for(self, what: str) -> str:
        """Wait until some process has told this; return what it said.

        Raises
        ------
        PeerLost
            One has failed or is gone.
        """
        if self._store is None:
            return ""
        while not (said := self._get(what)):
            if self._failure() or self.lost(LOST_SECONDS):
                raise PeerLost
            time.sleep(0.05)
        return said

    def compare(self, what: str, plan: str) -> None:
        """Make sure that all processes are about to do the same.

        Raises
        ------
        ConfigError
            One of them sees other images or settings.
        """
        if self._store is None:
            return
        own = hashlib.sha256(plan.encode()).hexdigest()
        self._set(f"{what}/{self.rank}", own)
        for other in range(self.size):
            self._who[other] = self._get(f"who/{other}")  # the store may be gone when it matters
            if self.wait_for(f"{what}/{other}") != own:
                who = self._who[other].partition(" on ")[2]
                raise ConfigError(
                    "data.train",
                    f"process {other} on {who} sees other images or settings than process "
                    f"{self.rank} on {socket.gethostname()}",
                    remedy="Give all processes one command, and folders that all of them can read.",
                )

    # --- when something goes wrong ---

    def lost(self, seconds: float) -> list[int]:
        """Return the processes that gave no sign of life for so long and have not ended well."""
        now, lost = time.monotonic(), []
        for other in range(self.size):
            beat = self._get(f"alive/{other}").encode()
            if other not in self._beats or self._beats[other][0] != beat:
                self._beats[other] = (beat, now)
            if now - self._beats[other][1] > seconds and beat != b"ended":
                lost.append(other)
        return [other for other in lost if other != self.rank]

    def ending(self, error: BaseException) -> BaseException | None:
        """Return what this process ends with when another one is gone, or None if none is.

        That is a :class:`Gone` for the one process that says so, and :class:`SystemExit` for
        the others.
        """
        if self._store is None or not is_lost(error):
            return None
        gone, speaks = self._explain()
        self._set(f"bye/{self.rank}", "yes")
        return gone if speaks else SystemExit(1)

    def _explain(self) -> tuple[Gone, bool]:
        """Find out why the others are gone; return that and whether to say it here."""
        deadline = time.monotonic() + SILENT_SECONDS + 2 * BEAT_SECONDS
        gone: list[int] = []
        while time.monotonic() < deadline and not self._failure():
            gone = self.lost(SILENT_SECONDS)
            if gone or self._broken:
                break
            time.sleep(0.1)
        speaker, _, said = self._failure().partition(" ")
        if said:
            words = Gone(f"process {speaker} of {self.size}", said.rstrip("."))
            return words, self.rank == 0 and speaker != "0"
        if self._broken:  # it went with the first
            return self._gone([0]), self.rank == 1
        return self._gone(gone), self.rank == min({*range(self.size)} - set(gone))

    def _gone(self, gone: Sequence[int]) -> Gone:
        names = []
        for other in gone:
            who = self._who.get(other, "")
            names.append(f"process {other}" + (f" (pid {who})" if who else ""))
        what = " and ".join(names) or "a process"
        rule = "ended without a word: it was killed, or the memory was full"
        return Gone(f"{what} of {self.size}", rule, remedy=RESUME)

    def failed(self, error: BaseException) -> None:
        """Tell the others that this process ends with an error; the first one says it.

        Raises
        ------
        SystemExit
            The first process will say it, as soon as this one has ended.
        """
        if self._store is None or isinstance(error, Gone | SystemExit):
            return
        if not self._failure():
            self._set("failed", f"{self.rank} {_words(error)}")
        if self.rank and isinstance(error, Exception) and not self._broken:
            raise SystemExit(1 if isinstance(error, RunFailed) else 2)
        if self.rank == 0:  # the store goes with it, so the others have to look first
            deadline = time.monotonic() + 3 * BEAT_SECONDS
            others = range(1, self.size)
            while time.monotonic() < deadline and not all(self._get(f"bye/{r}") for r in others):
                time.sleep(0.05)

    def _failure(self) -> str:
        """Return which process has failed and why, or an empty text; what was read is kept."""
        self._said = self._said or self._get("failed")
        return self._said

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._store is None:
            return
        self._over.set()
        if error is not None:
            self.failed(error)
        else:
            self._set(f"alive/{self.rank}", "ended")
            if distributed.is_initialized():
                distributed.destroy_process_group()

    # --- the thread that gives signs of life and looks for those of the others ---

    def _watch(self) -> None:
        """End a process that hangs because another one is gone: some backends wait for ever."""
        since: float | None = None
        while not self._over.wait(BEAT_SECONDS):
            self._beat()
            gone = self.lost(LOST_SECONDS)
            if not (gone or self._failure()):
                continue
            since = since or time.monotonic()
            if time.monotonic() - since > HANG_SECONDS and not self._over.is_set():
                words, speaks = self._explain()
                if speaks:
                    self.on_lost(words)
                os._exit(1)

    def _beat(self) -> None:
        self._set(f"alive/{self.rank}", f"{time.monotonic():.3f}")

    def _set(self, key: str, value: str) -> None:
        self._ask(lambda: self._store.set(key, value))

    def _get(self, key: str) -> str:
        found = self._ask(lambda: self._store.get(key) if self._store.check([key]) else b"")
        return bytes(found or b"").decode("utf-8", "replace")

    def _ask(self, question: Callable[[], Any]) -> Any:
        """Talk to the store, until the process that keeps it is gone."""
        if not self._broken:
            try:
                return question()
            except RuntimeError:
                self._broken = True
        return None


ALONE = Ranks()


def join(device: str) -> Ranks:
    """Meet the other processes of the run; the only one of them is :data:`ALONE`.

    Parameters
    ----------
    device
        ``compute.device`` as asked.

    Raises
    ------
    RunFailed
        They do not meet.
    ConfigError
        There are more processes here than graphics cards.
    """
    rank, size = world.rank(), world.size()
    if size == 1:
        return ALONE
    cuda = find_device(device).startswith("cuda")
    local, cards = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if cuda and local >= cards:
        rule = f"has no GPU of its own: this machine has {cards}"
        remedy = "Start one process for each, or set compute.device to cpu."
        raise ConfigError(f"process {rank} of {size}", rule, remedy=remedy)
    try:
        store, _, _ = next(rendezvous("env://", timeout=MEET))
        distributed.init_process_group(
            "nccl" if cuda else "gloo",
            store=PrefixStore("torch", store),
            rank=rank,
            world_size=size,
            timeout=LONGEST_WAIT,
        )
    except (RuntimeError, ValueError, OSError) as error:
        place = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
        raise RunFailed(
            f"process {rank} of {size}",
            f"does not meet the others at {place} ({str(error).splitlines()[0][:120]})",
            remedy="Start all processes at about the same time, with torchrun or srun.",
        ) from None
    return Ranks(rank, size, PrefixStore("run", store))


def leave(code: int) -> None:
    """End one of several processes: torch's own threads abort some of them on the usual way out."""
    if world.size() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def is_lost(error: BaseException) -> bool:
    """Whether an error of torch means that another process is gone."""
    text = str(error)
    broken = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
    return isinstance(error, PeerLost | distributed.DistError) or (
        isinstance(error, RuntimeError)
        and not isinstance(error, UserError)
        and any(word in text for word in broken)
    )


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
