"""Dense features: every network, tiles that do not show, files that fit their source."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import torch
from run_samples import TINY, config, do, run_of, write

from napari_ssl_pretrain.data.feature_map import FeatureMap, read_map
from napari_ssl_pretrain.data.intensity import measure
from napari_ssl_pretrain.data.survey import open_image
from napari_ssl_pretrain.engine import encoder as encoding
from napari_ssl_pretrain.engine.backbones import BackboneSpec, build_backbone
from napari_ssl_pretrain.engine.encoder import Encoder
from napari_ssl_pretrain.engine.feature_basis import DIMENSIONS, fit_basis, place_parts
from napari_ssl_pretrain.engine.features import features
from napari_ssl_pretrain.engine.taps import Taps, to_grid
from napari_ssl_pretrain.errors import CheckpointError, ConfigError
from napari_ssl_pretrain.spec import events as ev

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ssl_pretrain.data.images import Image
    from napari_ssl_pretrain.engine.backbones import Backbone

UNET = {
    "features_per_stage": [4, 6, 8],
    "blocks_per_stage": 1,
    "norm": "none",
}


def spec(name: str, ndim: int, channels: int = 1, *, hidden: bool = False) -> BackboneSpec:
    options: dict[str, Any] = {"width": 8}
    if name in {"unet", "residual_unet"}:
        flat = (1, 2, 2)[-ndim:]
        options = UNET | {
            "strides": ((1,) * ndim, flat, (2,) * ndim),
            "kernel_sizes": ((3,) * ndim,) * 3,
        }
    if name == "mae_vit":
        options = TINY["mae_vit"] | {"mlp_ratio": 2.0, "token_size": (4,) * ndim}
    return BackboneSpec(name, ndim, channels, channels, hidden, options)


def network(given: BackboneSpec) -> Backbone:
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        return build_backbone(given).eval()


def encode(given: BackboneSpec, image: Image, patch: tuple[int, ...]) -> FeatureMap:
    made = Encoder(network(given), given, patch, precision="fp32")
    known = measure(image, "zscore")
    made.fit({image: known}, lambda _: None)
    return made.encode(image, known, np.zeros, lambda _: None)


@pytest.mark.parametrize(
    "name", ["unet", "residual_unet", "mae_vit", "segresnet", "attention_unet"]
)
@pytest.mark.parametrize(("axes", "shape"), [("YX", (45, 38)), ("CZYX", (2, 14, 21, 18))])
def test_every_network_has_features_of_any_size(
    tmp_path: Path, name: str, axes: str, shape: tuple[int, ...]
) -> None:
    write(tmp_path / "a.tif", axes, shape, "uint8")
    image = open_image(tmp_path / "a.tif")
    given = spec(name, image.ndim, image.in_channels, hidden=name != "mae_vit")
    found = encode(given, image, (16,) * image.ndim)
    assert found.shape == image.spatial
    assert found.grid == tuple(-(-n // s) for n, s in zip(found.shape, found.step, strict=True))
    assert len(found.features) <= DIMENSIONS
    assert np.isfinite(found.features).all()
    assert (found.features.std(axis=tuple(range(1, found.features.ndim))) > 0)[:3].all()
    if name in {"unet", "residual_unet"}:
        assert found.step == (1, 2, 2)[-image.ndim :], "as anisotropic as the network"


@pytest.mark.parametrize(("axes", "shape"), [("YX", (150, 121)), ("ZYX", (50, 60, 41))])
def test_tiles_do_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axes: str, shape: tuple[int, ...]
) -> None:
    write(tmp_path / "a.tif", axes, shape, "uint16")
    image = open_image(tmp_path / "a.tif")
    given, known = spec("residual_unet", image.ndim), measure(image, "zscore")
    net = network(given)
    small, large = (Encoder(net, given, (p,) * image.ndim, precision="fp32") for p in (24, 160))
    large.fit({image: known}, lambda _: None)
    assert large.work(image) == 1
    assert small.work(image) > 4
    monkeypatch.setattr(small, "_basis", large.basis)
    whole = large.encode(image, known, np.zeros, lambda _: None).features
    tiled = small.encode(image, known, np.zeros, lambda _: None).features
    assert np.abs(tiled - whole).mean() < 0.02 * np.abs(whole).mean()


def test_memory_is_bounded_by_a_coarser_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.tif", "ZYX", (16, 32, 32), "uint8")
    image = open_image(tmp_path / "a.tif")  # voxels 0.5, 0.25, 0.25
    monkeypatch.setattr(encoding, "MOST_BYTES", DIMENSIONS * 2 * 16 * 8 * 8)
    found = encode(spec("residual_unet", 3), image, (8, 16, 16))
    assert found.step in {(1, 4, 4), (2, 4, 4)}
    assert found.features[0].size <= 16 * 8 * 8


def test_no_layer_dominates() -> None:
    random = np.random.default_rng(0)
    wide = random.normal(5, 100, (2000, 30))
    narrow = random.normal(-1, 0.01, (2000, 2))
    dead = np.ones((2000, 3))
    basis = fit_basis([[wide], [narrow], [dead]], (), torch.device("cpu"))
    layers = [torch.from_numpy(v.T[None, :, :, None].astype(np.float32)) for v in (wide, narrow)]
    parts = [
        torch.einsum("kd,bd...->bk...", w, x - x.mean(dim=2, keepdim=True))
        for w, x in zip(basis.weights, layers, strict=False)
    ]
    shares = [float(p.var(dim=2, unbiased=False).sum()) for p in parts]
    assert shares[0] == pytest.approx(shares[1], rel=0.15)
    assert shares[1] == pytest.approx(1, rel=1e-3)
    assert not basis.weights[2].any()


def test_a_basis_is_the_standardised_projection() -> None:
    random = np.random.default_rng(0)
    layer = random.normal(3, 2, (1, 5, 8, 8)).astype(np.float32)
    values = layer.reshape(5, -1).T
    basis = fit_basis([[values]], (), torch.device("cpu"))
    made = basis.project([torch.from_numpy(layer)], [8, 8]).numpy().reshape(5, -1)
    standard = (values - values.mean(0)) / values.std(0) / np.sqrt(5)
    np.testing.assert_allclose(made @ made.T, np.diag(np.diag(made @ made.T)), atol=1e-3)
    np.testing.assert_allclose((made**2).sum(0), (standard**2).sum(1), rtol=1e-3, atol=1e-4)


def test_what_the_place_adds_is_learnt_from_tiles() -> None:
    random = torch.Generator().manual_seed(0)
    y = torch.linspace(-1, 1, 16)[:, None].expand(16, 16)
    tiles = [[0.3 * torch.randn(1, 2, 16, 16, generator=random) + y] for _ in range(64)]
    (part,) = place_parts(tiles)
    assert float((part - y).abs().max()) < 0.15


def test_layers_come_to_a_grid_by_means_and_by_interpolation() -> None:
    fine = torch.arange(16.0).reshape(1, 1, 4, 4)
    np.testing.assert_allclose(to_grid(fine, [2, 2])[0, 0], [[2.5, 4.5], [10.5, 12.5]])
    both = to_grid(fine, [2, 8])[0, 0]
    np.testing.assert_allclose(both[0, 2:6], [2.75, 3.25, 3.75, 4.25], atol=0.51)
    assert both.shape == (2, 8)


def test_taps_leave_the_network_as_it_was() -> None:
    given = spec("residual_unet", 2, hidden=True)
    net = network(given)
    images = torch.randn(1, 1, 16, 16)
    taps = Taps(net, given)
    first, second = taps(images), taps(images)
    assert [tuple(x.shape[1:]) for x in first][:3] == [(4, 16, 16), (6, 8, 8), (8, 4, 4)]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(m._forward_hooks for m in net.modules())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    write(folder / "images" / "a.tif", "YX", (40, 32), "uint8", 1)
    with pytest.MonkeyPatch.context() as patch:
        from napari_ssl_pretrain.engine import session  # noqa: PLC0415

        patch.setattr(session, "draw_charts", lambda *_: None)
        patch.setattr(session, "draw_model_plot", lambda *_: None)
        asked = config(folder, "masking")
        do(asked)
    return run_of(asked).checkpoint("best")


def test_files_have_the_pixels_and_scale_of_their_source(trained: Path, tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / "images" / f"{name}.tif", "YX", (37, 50), "uint8", ord(name))
    said: list[ev.AnyEvent] = []
    written = features(
        trained, tmp_path / "images", tmp_path / "out", point=(11, 20), emit=said.append
    )
    assert {p.name for p in written} == {
        f"{name}_{end}"
        for name in "ab"
        for end in ("features.tif", "features.npy", "features.json", "similarity.tif")
    }
    assert set(written) == set((tmp_path / "out").iterdir())
    colours = open_image(tmp_path / "out" / "a_features.tif")
    assert (colours.info.axes, colours.info.shape) == ("YXS", (37, 50, 3))
    assert colours.info.dtype == np.uint8
    assert colours.info.pixel_size == {"Y": 0.25, "X": 0.25}
    found = read_map(tmp_path / "out" / "a_features.json")
    assert found.features.dtype == np.float16
    assert found.open_source().spatial == (37, 50)
    assert found.about["checkpoint"] == str(trained)
    likeness = tifffile.imread(tmp_path / "out" / "a_similarity.tif")
    assert (likeness.dtype, likeness.shape) == (np.float32, (37, 50))
    assert likeness[11, 20] == pytest.approx(likeness.max(), abs=0.02)
    assert likeness.max() <= 1 + 1e-6
    assert np.asarray(found.features, np.float32).mean(axis=(1, 2)) == pytest.approx(0, abs=0.6)
    bars = [e for e in said if isinstance(e, ev.Progress)]
    assert bars[-1].done == bars[-1].total
    saved = [e.image_kind for e in said if isinstance(e, ev.ImageSaved)]
    assert saved == ["features", "similarity"] * 2


def test_encoding_again_gives_the_same_numbers(trained: Path, tmp_path: Path) -> None:
    write(tmp_path / "images" / "a.tif", "YX", (37, 50), "uint8")
    for out in ("one", "two"):
        features(trained, str(tmp_path / "images" / "a.tif"), tmp_path / out)
    for end in ("features.tif", "features.npy"):
        read = tifffile.imread if end.endswith("tif") else np.load
        one, two = (read(tmp_path / out / f"a_{end}") for out in ("one", "two"))
        np.testing.assert_array_equal(one, two)


def test_planes_of_a_stack_are_encoded_one_by_one(trained: Path, tmp_path: Path) -> None:
    write(tmp_path / "images" / "a.tif", "TYX", (3, 37, 50), "uint8")
    features(trained, tmp_path / "images", tmp_path / "out", point=(2, 5, 6))
    found = read_map(tmp_path / "out" / "a_features.json")
    assert (found.axes, found.shape, found.step) == ("TYX", (3, 37, 50), (1, 2, 2))
    likeness = tifffile.imread(tmp_path / "out" / "a_similarity.tif")
    assert likeness.shape == (3, 37, 50)
    assert likeness[2, 5, 6] == pytest.approx(1, abs=1e-5)
    assert open_image(tmp_path / "out" / "a_features.tif").info.axes == "TYXS"


def test_what_cannot_be_is_named_before_anything_is_written(trained: Path, tmp_path: Path) -> None:
    write(tmp_path / "flat" / "a.tif", "YX", (37, 50), "uint8")
    write(tmp_path / "two" / "b.tif", "CYX", (2, 37, 50), "uint8")
    (tmp_path / "foreign.pth").write_text("nothing")
    flat, out = tmp_path / "flat", tmp_path / "out"
    with pytest.raises(CheckpointError, match="trained on 1 channels, the images have 2"):
        features(trained, tmp_path / "two", out)
    with pytest.raises(CheckpointError, match=r"foreign\.pth: is no checkpoint"):
        features(tmp_path / "foreign.pth", flat, out)
    with pytest.raises(ConfigError, match="--point: 37,1: lies outside a, which has 37 x 50"):
        features(trained, flat, out, point=(37, 1))
    with pytest.raises(ConfigError, match="--point: 1,2,3: must be y,x of a"):
        features(trained, flat, out, point=(1, 2, 3))
    with pytest.raises(ConfigError, match="is the folder of the images"):
        features(trained, flat, flat)
    assert not out.exists()


def test_a_damaged_image_is_skipped_by_name(trained: Path, tmp_path: Path) -> None:
    write(tmp_path / "images" / "a.tif", "YX", (37, 50), "uint8")
    write(tmp_path / "images" / "b.tif", "YX", (37, 50), "uint8")
    whole = (tmp_path / "images" / "b.tif").read_bytes()
    (tmp_path / "images" / "b.tif").write_bytes(whole[: len(whole) // 2])
    said: list[ev.AnyEvent] = []
    written = features(trained, tmp_path / "images", tmp_path / "out", emit=said.append)
    assert {p.name.partition("_")[0] for p in written} == {"a"}
    assert any("b.tif" in e.message for e in said if isinstance(e, ev.Warned))
    about = json.loads((tmp_path / "out" / "a_features.json").read_text())
    assert about["axes"] == "CYX"
