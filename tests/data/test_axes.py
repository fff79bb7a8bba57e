"""Axes that are assumed, stored or given."""

from __future__ import annotations

import pytest

from napari_ssl_pretrain.data.axes import assume, settle
from napari_ssl_pretrain.data.header import RefusedError
from napari_ssl_pretrain.errors import ConfigError


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((64, 64), "YX"),
        ((2, 64), "YX"),
        ((64, 64, 3), "YXC"),
        ((3, 64, 64), "CYX"),
        ((4, 64, 64), "CYX"),
        ((5, 64, 64), "ZYX"),
        ((30, 64, 64), "ZYX"),
        ((30, 2, 64, 64), "ZCYX"),
        ((2, 30, 64, 64), "CZYX"),
        ((30, 64, 64, 3), "ZYXC"),
        ((7, 30, 64, 64), "TZYX"),
        ((7, 30, 2, 64, 64), "TZCYX"),
        ((7, 2, 30, 64, 64), "TCZYX"),
        ((7, 30, 64, 64, 2), "TZYXC"),
        ((7, 30, 9, 64, 64), "TZCYX"),
        ((5, 3, 3), "ZYX"),
    ],
)
def test_assumed_axes(shape, axes):
    assert assume(shape) == axes


@pytest.mark.parametrize("shape", [(), (5,), (1,) * 6])
def test_other_ranks_are_refused(shape):
    with pytest.raises(RefusedError, match="where an image has 2 to 5"):
        assume(shape)


def test_stored_axes_need_no_note_and_assumed_ones_do():
    assert settle("ZYX", (9, 9, 9)) == ("ZYX", "")
    assert settle("??", (9, 9)) == ("YX", "")
    axes, note = settle("?YX", (9, 9, 9))
    assert axes == "ZYX"
    assert note == "axes not stored, ZYX assumed for 9 x 9 x 9 (set data.axes if that is wrong)"
    assert settle("?YXS", (9, 9, 9, 3))[0] == "ZYXS"
    assert settle("C?YX", (9, 9, 9, 9))[0] == "CZYX"


def test_given_axes_settle_it():
    assert settle("???", (9, 9, 9), "tyx") == ("TYX", "")
    assert settle("ZYX", (9, 9, 9), "CYX") == ("CYX", "")
    with pytest.raises(ConfigError, match=r"^data\.axes: YX: names 2 axes, but there are 3"):
        settle("ZYX", (9, 9, 9), "YX")
    with pytest.raises(ConfigError, match="calls the colour samples Z"):
        settle("YXS", (9, 9, 3), "YXZ")


@pytest.mark.parametrize("axes", ["YQ", "YYX", "ZY"])
def test_axes_of_no_image_are_refused(axes):
    with pytest.raises(RefusedError, match=f"has the axes {axes}"):
        settle(axes, (9,) * len(axes))
