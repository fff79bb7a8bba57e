"""bioimage.io packages: validated and run by bioimageio.core, without a network."""

import socket
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from export_samples import SIDES, make

from napari_ssl_pretrain import load_backbone
from napari_ssl_pretrain.data.intensity import measure_array
from napari_ssl_pretrain.engine.export import bioimageio as ours
from napari_ssl_pretrain.engine.export import export
from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.pretext.base import Intensity
from napari_ssl_pretrain.pretext.masking import Masking

core = pytest.importorskip("bioimageio.core")
pytest.importorskip("onnxscript")

FIXED = {"mean": [480.0, 510.0], "std": [40.0, 60.0]}
CASES = [
    ("residual_unet", "crappify", 3, "custom"),
    ("mae_vit", "masking", 2, "percentile"),
]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refused(*_):
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_bioimageio_core_returns_what_the_program_does(tmp_path, case):
    name, task, ndim, normalization = case
    more = {"normalization_statistics": FIXED} if normalization == "custom" else {}
    make(tmp_path / "a.pth", name, task, ndim, data={"normalization": normalization}, **more)
    done = export(tmp_path / "a.pth", "bioimageio", tmp_path / "model")
    summary = core.test_model(done.weights, weight_format="onnx")
    assert summary.status == "passed", summary.display()

    sides = [2 * n for n in SIDES[ndim]] if task == "crappify" else SIDES[ndim]
    random = np.random.default_rng(0)
    image = random.normal([[500], [900]], [[50], [80]], (2, int(np.prod(sides)))).astype(np.float32)
    image = image.reshape(1, 2, *sides)
    custom = tuple(np.asarray(FIXED[key]) for key in ("mean", "std")) if more else None
    found = measure_array(image[0], normalization, custom)
    offset, scale = (
        torch.tensor(np.asarray(v, np.float32))[None] for v in (found.offset, found.scale)
    )
    intensity = Intensity(offset, scale, offset[:, 0], offset[:, 0])
    network = load_backbone(tmp_path / "a.pth").eval()
    inputs = {"image": image}
    with torch.no_grad():
        if task == "crappify":
            given = intensity.normalize(torch.from_numpy(image))
            wanted = (given + network(given)).numpy()
        else:
            tokens = torch.from_numpy(random.random((1, *(n // 4 for n in sides))) < 0.5)
            masking = Masking(token_size=(4,) * ndim)
            inputs["hidden"] = masking.to_pixels(tokens).float().numpy()
            batch = masking.hide(torch.from_numpy(image), intensity, tokens)
            wanted = batch.restored(network).numpy()
            assert np.abs(wanted - batch.target.numpy()).max() > 0.1
    got = ours.run(done.weights, inputs)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 * max(1, np.abs(wanted).max()))

    with zipfile.ZipFile(done.weights) as package:
        described = yaml.safe_load(package.read("rdf.yaml"))
        assert package.read("card.json").decode() == done.card_file.read_text()
        assert all("somebody" not in package.read(n).decode("latin-1") for n in package.namelist())
    assert described["format_version"] == "0.5.3"
    assert done.card.weights.load.startswith('bioimageio.core.predict(model="model.zip"')


def test_a_name_is_spelt_as_the_specification_wants():
    job = SimpleNamespace(
        card=SimpleNamespace(name="zelle\u00df [2] {x}" + "y" * 200),
        state={"task": "crappify", "in_channels": 1, "backbone": {"out_channels": 1}}
        | {"normalization": "minmax"},
        model=SimpleNamespace(multiple=(2, 2)),
    )
    graph = SimpleNamespace(
        restores=True, ndim=2, inputs=("image",), outputs=("restored",), sides=[8, 8], fixed=False
    )
    files = dict.fromkeys(("card.json", "image.npy", "restored.npy", "weights.onnx"), b"")
    name = ours.description(job, graph, files)["name"]
    assert name.startswith("pretrained zelle_ _2_ _x_yyy")
    assert len(name) == 128
    assert name.isascii()


def test_normalisations_in_the_words_of_the_zoo():
    axes = {"axes": ["y", "x"]}
    (zscore,) = ours.preprocessing({"normalization": "zscore"}, "yx")
    assert zscore["id"] == "zero_mean_unit_variance"
    assert zscore["kwargs"] == axes | {"eps": ours.EPSILON}
    assert ours.preprocessing({"normalization": "minmax"}, "yx") == [
        {
            "id": "scale_range",
            "kwargs": axes | {"min_percentile": 0.0, "max_percentile": 100.0, "eps": ours.EPSILON},
        }
    ]
    assert ours.preprocessing({"normalization": "divide"}, "yx") == []


def test_a_package_that_would_not_run_is_refused_and_nothing_is_written(tmp_path, monkeypatch):
    make(tmp_path / "a.pth", "unet", "crappify", 2)
    monkeypatch.setattr(ours.onnx_file, "_exported", lambda *_: ours.yaml.Node)
    monkeypatch.setattr(
        ours.yaml.Node, "SerializeToString", staticmethod(lambda: b"no graph"), raising=False
    )
    with pytest.raises(ConfigError, match=r"bioimageio.core cannot run the package \(") as caught:
        export(tmp_path / "a.pth", "bioimageio", tmp_path / "out" / "model")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(ours, "run", lambda _, arrays: arrays["image"])
    with pytest.raises(ConfigError, match=r"bioimageio.core would return what differs by"):
        export(tmp_path / "a.pth", "bioimageio", tmp_path / "out" / "model")
    assert not (tmp_path / "out").exists()
