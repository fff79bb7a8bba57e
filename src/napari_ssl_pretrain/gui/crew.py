"""The workers of a dock: started, counted, and sent home when the dock closes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.qt.threading import thread_worker

if TYPE_CHECKING:
    from collections.abc import Callable


class Crew:
    """Starts workers and holds them until they have finished."""

    def __init__(self) -> None:
        self._workers: set[Any] = set()

    def start(self, work: Callable[..., Any], *args: Any, **connect: Callable[..., Any]) -> Any:
        """Run a function or a generator in a thread of napari's.

        Parameters
        ----------
        work
            What to do; it touches neither widgets nor layers.
        args
            Its arguments.
        connect
            Slots for ``started``, ``yielded``, ``returned``, ``errored`` and ``finished``.
        """
        worker = thread_worker(work, start_thread=False)(*args)
        for signal, slot in connect.items():
            getattr(worker, signal).connect(slot)
        self._workers.add(worker)
        worker.finished.connect(lambda: self._workers.discard(worker))
        worker.start()
        return worker

    def dismiss(self) -> None:
        """Ask all workers to end; runs go on without them."""
        for worker in self._workers:
            worker.quit()
        self._workers.clear()
