"""A cache that is bounded in bytes and safe between threads."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import numpy as np


class ByteCache:
    """Keep the arrays used last, up to a number of bytes.

    Parameters
    ----------
    limit
        Bytes to keep; a larger array is never kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._arrays: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the array of this key, making it where it is not kept; do not write to it."""
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
                return self._arrays[key]
        array = make()
        if array.nbytes <= self.limit:
            self._keep(key, array)
        return array

    def _keep(self, key: Hashable, array: np.ndarray) -> None:
        with self._lock:
            if key in self._arrays:
                return
            self._arrays[key] = array
            self.used += array.nbytes
            while self.used > self.limit:
                self.used -= self._arrays.popitem(last=False)[1].nbytes
