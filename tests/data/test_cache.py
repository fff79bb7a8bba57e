"""The cache keeps what was used last, within its bytes."""

from __future__ import annotations

import numpy as np

from napari_ssl_pretrain.data.cache import ByteCache


def test_oldest_go_first_and_the_limit_holds():
    made = []
    cache = ByteCache(30)

    def get(key, size=10):
        return cache.get(key, lambda: made.append(key) or np.zeros(size, np.uint8))

    for key in "abcabc":
        assert get(key).nbytes == 10
    assert made == ["a", "b", "c"]
    get("a")
    get("d")
    assert cache.used == 30
    get("a")
    get("c")
    assert made == ["a", "b", "c", "d"]
    get("b")
    assert made == ["a", "b", "c", "d", "b"]


def test_what_is_too_large_is_not_kept():
    cache = ByteCache(30)
    for _ in range(2):
        assert cache.get("a", lambda: np.zeros(31, np.uint8)).nbytes == 31
    assert cache.used == 0
