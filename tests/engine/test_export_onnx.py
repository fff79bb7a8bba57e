"""ONNX exports: opened by onnxruntime, equal to the network, and what they say of themselves."""

import json

import numpy as np
import pytest
import torch
from export_samples import SIDES, make, outputs

from napari_ssl_pretrain import load_backbone
from napari_ssl_pretrain.engine.export import base, export, onnx_file
from napari_ssl_pretrain.errors import ConfigError

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

CASES = [
    ("residual_unet", "masking", 3),
    ("unet", "crappify", 2),
    ("mae_vit", "masking", 2),
    ("attention_unet", "crappify", 2),
    ("segresnet", "masking", 2),
]


def open_it(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session, [one.name for one in session.get_inputs()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_onnxruntime_returns_what_the_network_does(tmp_path, case):
    name, task, ndim = case
    make(tmp_path / "a.pth", *case)
    done = export(tmp_path / "a.pth", "onnx", tmp_path / "model")
    session, inputs = open_it(done.weights)
    ours = load_backbone(tmp_path / "a.pth").eval()
    assert inputs == (["image", "hidden"] if task == "masking" else ["image"])
    larger = 1 if name == "mae_vit" else 3
    for batch, times in ((1, 1), (3, larger)):
        sides = [
            side if name == "mae_vit" else times * 2 * m
            for side, m in zip(SIDES[ndim], ours.multiple, strict=True)
        ]
        image = torch.randn(batch, 2, *sides, generator=torch.Generator().manual_seed(batch))
        feed = {"image": image.numpy()}
        hidden = None
        if task == "masking":
            cells = [n // m for n, m in zip(sides, ours.multiple, strict=True)]
            hidden = torch.rand(batch, *cells, generator=torch.Generator().manual_seed(2)) < 0.4
            flags = hidden[:, None].float()
            for axis, m in enumerate(ours.multiple, start=2):
                flags = flags.repeat_interleave(m, dim=axis)
            feed["hidden"] = flags.numpy()
        with torch.no_grad():
            wanted = ours(image, hidden).numpy()
        output, restored = session.run(None, feed)
        assert np.abs(wanted).max() > 0.01
        np.testing.assert_allclose(output, wanted, rtol=0, atol=1e-4 * max(1, np.abs(wanted).max()))
        np.testing.assert_allclose(restored, image.numpy() + output, rtol=0, atol=1e-5)
        if task == "masking":  # nothing hidden, as after pretraining
            whole = session.run(["output"], feed | {"hidden": np.zeros_like(feed["hidden"])})[0]
            seen = outputs(tmp_path / "a.pth", image).numpy()
            np.testing.assert_allclose(whole, seen, rtol=0, atol=1e-4 * max(1, np.abs(seen).max()))
            assert np.abs(seen - wanted).max() > 1e-3


@pytest.fixture(scope="module")
def of_tokens(tmp_path_factory):
    """An autoencoder that learnt standardised tokens, and its export."""
    path = tmp_path_factory.mktemp("tokens") / "a.pth"
    make(path, "mae_vit", "masking", 2, pretext={"normalize_target": True})
    return load_backbone(path).eval(), export(path, "onnx", path.with_name("model"))


def test_the_file_and_the_card_say_what_goes_in_and_out(of_tokens):
    _, done = of_tokens
    card = json.loads(done.card_file.read_text())
    proto = onnx.load(done.weights)
    onnx.checker.check_model(proto)
    assert json.loads({p.key: p.value for p in proto.metadata_props}["card"]) == card
    assert list(card["graph"]["inputs"]) == ["image", "hidden"]
    assert "1 where a pixel is hidden" in card["graph"]["inputs"]["hidden"]
    assert list(card["graph"]["outputs"]) == ["output"]
    assert card["graph"]["sides"] == "16 24"
    assert len(card["input"]["channels"]) == 2
    assert card["weights"]["load"] == 'session = onnxruntime.InferenceSession("model.onnx")'
    assert "somebody" not in done.weights.read_bytes().decode("latin-1")


def test_a_token_is_hidden_by_any_of_its_pixels_and_never_all_are(of_tokens):
    ours, done = of_tokens
    session, _ = open_it(done.weights)
    image = torch.randn(1, 2, 16, 24, generator=torch.Generator().manual_seed(0))
    pixel, token = np.zeros((1, 1, 16, 24), np.float32), torch.zeros(1, 4, 6, dtype=torch.bool)
    pixel[0, 0, 5, 9] = 1
    token[0, 1, 2] = True
    for shown, hidden in ((pixel, token), (np.ones_like(pixel), torch.ones_like(token))):
        with torch.no_grad():
            wanted = ours(image, hidden).numpy()
        (got,) = session.run(None, {"image": image.numpy(), "hidden": shown})
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


def test_a_graph_that_differs_is_refused_and_nothing_is_written(tmp_path, monkeypatch):
    make(tmp_path / "a.pth", "unet", "crappify", 2)

    def off(_content, _names, inputs):
        return [inputs[0] * 0 + 1]

    monkeypatch.setattr(onnx_file, "_exported", lambda *_: onnx.ModelProto())
    monkeypatch.setattr(onnx_file, "run", off)
    with pytest.raises(ConfigError, match="the graph would differ from the network by"):
        export(tmp_path / "a.pth", "onnx", tmp_path / "out" / "model")

    def broken(*_):
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr(onnx_file, "_exported", broken)
    with pytest.raises(ConfigError, match=r"torch cannot make the graph \(no such operator\)"):
        export(tmp_path / "a.pth", "onnx", tmp_path / "out" / "model")
    monkeypatch.setattr(onnx_file, "LARGEST", 100)
    with pytest.raises(ConfigError, match="files hold at most 2 GB"):
        export(tmp_path / "a.pth", "onnx", tmp_path / "out" / "model")
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named_before_anything_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "a.pth").write_text("never read")
    monkeypatch.setattr(base, "find_spec", lambda name: None if "onnx" in name else name)
    with pytest.raises(ConfigError) as caught:
        export(tmp_path / "a.pth", "onnx", tmp_path / "model")
    assert str(caught.value) == (
        "--format: onnx: needs onnx, onnxscript, onnxruntime, not installed here. "
        'Install it: pip install "napari-ssl-pretrain[export]"'
    )


def test_two_exports_of_one_stem_keep_their_cards(tmp_path):
    make(tmp_path / "a.pth", "unet", "crappify", 2)
    first = export(tmp_path / "a.pth", "torch", tmp_path / "m")
    before = first.card_file.read_bytes()
    for overwrite, sentence in ((False, "m.json: is there already"), (True, "is the card of m.pt")):
        with pytest.raises(ConfigError, match=sentence):
            export(tmp_path / "a.pth", "safetensors", tmp_path / "m", overwrite=overwrite)
    assert first.card_file.read_bytes() == before
    assert not (tmp_path / "m.safetensors").exists()
    export(tmp_path / "a.pth", "torch", tmp_path / "m", overwrite=True)
