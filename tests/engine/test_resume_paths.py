from __future__ import annotations

import pytest

from napari_ssl_pretrain.engine.states import same


@pytest.mark.parametrize(
    ("before", "now", "equal"),
    [
        (["data/x"], ["/home/me/data/x"], True),  # the same folder, named from another one
        (["data/x"], ["/home/me/other/x"], False),
        (["/a/x"], ["/b/x"], False),
        (["x"], ["x", "y"], False),
        ([64, 64], [64, 64], True),
        ([64, 64], [64, 32], False),
        ("", "/a", False),
        (0.2, 0.2, True),
        (None, ["/a"], False),
    ],
)
def test_a_path_that_is_given_whole_is_no_change(before, now, equal):
    assert same(before, now) is equal
