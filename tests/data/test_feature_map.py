"""Places, enlargement, similarity and colours against their formulas."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_ssl_pretrain.data import similarity
from napari_ssl_pretrain.data.feature_map import (
    FeatureMap,
    cosine,
    enlarge,
    principal_axes,
    read_map,
    rgb_limits,
    to_rgb,
    units,
    write_about,
)
from napari_ssl_pretrain.data.similarity import Similarity
from napari_ssl_pretrain.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def ramp(grid: tuple[int, ...], step: tuple[int, ...]) -> np.ndarray:
    """Features that are the pixel coordinates of the cells' centres."""
    places = np.indices(grid).astype(np.float32)
    return np.stack([p * s + (s - 1) / 2 for p, s in zip(places, step, strict=True)])


def a_map(
    axes: str, shape: tuple[int, ...], step: tuple[int, ...], channels: int = 5
) -> FeatureMap:
    grid = tuple(-(-n // s) for n, s in zip(shape, step, strict=True))
    values = np.random.default_rng(0).normal(size=(channels, *grid)).astype(np.float16)
    return FeatureMap(values, axes, step, shape)


def test_enlarging_coordinates_gives_coordinates() -> None:
    found = enlarge(ramp((6, 4), (2, 4)), (2, 4), (11, 15))
    y, x = np.indices((11, 15))
    inside = (slice(1, 11), slice(2, 14))  # beyond the outermost centres the border holds
    np.testing.assert_allclose(found[0][inside], y[inside], atol=1e-5)
    np.testing.assert_allclose(found[1][inside], x[inside], atol=1e-5)
    assert found[0, 0, 0] == 0.5


@pytest.mark.parametrize(
    ("shape", "step"), [((9, 14), (2, 4)), ((7, 9, 8), (1, 2, 2)), ((6, 9, 8), (4, 2, 1))]
)
def test_a_point_a_plane_and_its_enlargement_agree(
    shape: tuple[int, ...], step: tuple[int, ...]
) -> None:
    found = a_map("ZYX"[-len(shape) :], shape, step)
    points = np.argwhere(np.ones(shape))
    at = found.at(points)
    for place in found.planes():
        plane = found.enlarge(found.plane(place))
        assert plane.shape == (5, *shape[-2:])
        here = (points[:, :-2] == place).all(axis=1)
        np.testing.assert_allclose(plane.reshape(5, -1).T, at[here], atol=2e-3)


def test_a_point_lies_in_its_cell() -> None:
    found = a_map("YX", (9, 14), (2, 4))
    assert found.cell((0, 0)) == (0, 0)
    assert found.cell((1.4, 3.6)) == (0, 1)
    assert found.cell((100, -3)) == (4, 0)
    assert found.holds((8.4, 13.4))
    assert not found.holds((8.6, 3))


def test_cosine_is_the_cosine() -> None:
    values = np.random.default_rng(1).normal(size=(7, 3, 4))
    values[:, 0, 0] = 0
    vector = values[:, 1, 2]
    found = cosine(values, vector)
    wanted = np.einsum("cyx,c->yx", values, vector) / (
        np.linalg.norm(vector) * np.maximum(np.linalg.norm(values, axis=0), 1e-9)
    )
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert found[1, 2] == pytest.approx(1)
    assert found[0, 0] == 0


@pytest.mark.parametrize("rows", [9, 150])
def test_likeness_is_the_cosine_of_interpolated_features(rows: int) -> None:
    found = a_map("ZYX", (3, rows, 14), (2, 2, 4))
    vector = found.at(np.array([[1, 5, 6]]))[0]
    made = found.likeness((1,), vector)
    wanted = cosine(found.enlarge(found.plane((1,))), vector)
    np.testing.assert_allclose(made, wanted, atol=1e-5)
    assert made[5, 6] == pytest.approx(1, abs=1e-5)


def test_colours_run_from_the_low_to_the_high_limit() -> None:
    values = np.array([[-1.0, 0, 1, 5], [0, 10, 20, 30], [3, 3, 3, 3]])
    limits = np.array([[0.0, 1], [0, 20], [3, 3]])
    np.testing.assert_array_equal(
        to_rgb(values, limits), [[0, 0, 0], [0, 128, 0], [255, 255, 0], [255, 255, 0]]
    )
    sample = np.random.default_rng(0).normal(size=(3, 1000))
    np.testing.assert_allclose(rgb_limits(sample)[1], np.percentile(sample[1], (1, 99)))


def test_principal_axes_are_those_of_the_singular_values_with_a_fixed_sign() -> None:
    random = np.random.default_rng(2)
    sample = random.normal(size=(500, 6)) @ random.normal(size=(6, 6))
    sample -= sample.mean(axis=0)
    _, _, wanted = np.linalg.svd(sample, full_matrices=False)
    found = principal_axes(sample, 4)
    np.testing.assert_allclose(np.abs(np.sum(found * wanted[:4], axis=1)), 1, atol=1e-5)
    largest = np.abs(found).argmax(axis=1)
    assert (found[range(4), largest] > 0).all()
    np.testing.assert_allclose(found, principal_axes(-sample[::-1], 4), atol=1e-6)
    assert principal_axes(sample, 99).shape == (6, 6)


def test_files_are_read_back_and_damage_is_named(tmp_path: Path) -> None:
    found = a_map("TYX", (3, 9, 14), (1, 2, 4))
    np.save(tmp_path / "a_features.npy", found.features)
    about = tmp_path / "a_features.json"
    write_about(about, FeatureMap(found.features, "TYX", found.step, found.shape, {"image": "a"}))
    again = read_map(about)
    assert (again.axes, again.step, again.shape) == ("TYX", (1, 2, 4), (3, 9, 14))
    assert again.about["image"] == "a"
    assert isinstance(again.features, np.memmap)
    np.testing.assert_array_equal(again.features, found.features)
    fields: dict[str, Any] = json.loads(about.read_text())
    about.write_text(json.dumps(fields | {"step": [1]}))
    with pytest.raises(DataError, match=r"a_features\.json: does not fit"):
        read_map(about)
    (tmp_path / "a_features.npy").unlink()
    with pytest.raises(DataError, match="cannot be read as features"):
        read_map(about)


@pytest.mark.parametrize(
    ("axes", "shape", "step", "point", "start", "size"),
    [
        ("YX", (9, 14), (2, 4), (5, 9), (0.5, 1.5), (5, 4)),
        ("ZYX", (9, 8, 8), (1, 2, 2), (5, 3, 3), (3, 0.5, 0.5), (5, 4, 4)),
        ("ZYX", (9, 8, 8), (2, 2, 2), (0, 3, 3), (0.5, 0.5, 0.5), (3, 4, 4)),
        ("TYX", (4, 8, 8), (1, 2, 2), (2, 3, 3), (2, 0.5, 0.5), (1, 4, 4)),
        ("TZYX", (4, 9, 8, 8), (1, 1, 2, 2), (2, 4, 3, 3), (2, 2, 0.5, 0.5), (1, 5, 4, 4)),
    ],
)
def test_similarity_is_that_of_what_is_shown(
    axes: str,
    shape: tuple[int, ...],
    step: tuple[int, ...],
    point: tuple[int, ...],
    start: tuple[float, ...],
    size: tuple[int, ...],
) -> None:
    found = a_map(axes, shape, step)
    compare = Similarity(found)
    vector = compare.vector(point)
    np.testing.assert_allclose(vector, units(found.features[:, *found.cell(point)]), rtol=1e-5)
    likeness = compare(vector, point)
    assert likeness.values.max() == pytest.approx(1, abs=1e-5)
    assert (likeness.start, likeness.values.shape) == (start, size)
    assert likeness.step == step
    cells = tuple(
        slice(round((s - (k - 1) / 2) / k), round((s - (k - 1) / 2) / k) + n)
        for s, k, n in zip(start, step, size, strict=True)
    )
    wanted = cosine(found.features[(slice(None), *cells)], vector)
    np.testing.assert_allclose(likeness.values, wanted, atol=1e-3)


def test_of_large_planes_every_other_cell_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "MOST_CELLS", 100)
    found = a_map("YX", (40, 40), (2, 2))
    likeness = Similarity(found)(np.ones(5, np.float32), (0, 0))
    assert likeness.values.shape == (10, 10)
    assert likeness.step == (4, 4)
    assert likeness.start == (0.5, 0.5)
