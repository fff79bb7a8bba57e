"""A wish to stop by signal: the first one saves the state, the second one ends at once.

Before a run trains there is nothing to save: it ends at once.
"""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, Self

from napari_ssl_pretrain.engine import world

if TYPE_CHECKING:
    from types import FrameType, TracebackType

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class StopOnSignal:
    """While open, Ctrl-C, SIGTERM and SIGHUP set a flag that the run looks at.

    Parameters
    ----------
    saves
        Whether the state is saved then, which the user is told.

    Attributes
    ----------
    interrupted
        Whether Ctrl-C was pressed.
    training
        Whether there is something to save.
    """

    def __init__(self, *, saves: bool = True) -> None:
        self._saves = saves
        self.interrupted = False
        self.training = not saves
        self._asked = False
        self._before: dict[int, signal.Handlers] = {}

    def __call__(self) -> Literal["interrupt", ""]:
        """Whether the run should stop, and why."""
        return "interrupt" if self._asked else ""

    def __enter__(self) -> Self:
        for number in SIGNALS:
            nohup = number not in {signal.SIGINT, signal.SIGTERM}
            if nohup and signal.getsignal(number) == signal.SIG_IGN:
                continue
            try:
                self._before[number] = signal.signal(number, self._handle)  # type: ignore[assignment]
            except ValueError:  # not the main thread: whoever called us handles signals
                break
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's own
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = True
        self.interrupted = self.interrupted or number == signal.SIGINT
        if not self.training and world.size() == 1:
            raise KeyboardInterrupt
        if world.rank():  # the first of several processes says it
            return
        what = "\nStopping: the state is being saved." if self._saves else "\nStopping."
        again = " Press Ctrl-C again to end at once" + ", without saving" * self._saves + "."
        said = what + again * (number == signal.SIGINT)
        with suppress(OSError, RuntimeError):  # the terminal is gone, or was just being written
            print(said, file=sys.stderr, flush=True)
