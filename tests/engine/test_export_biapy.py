"""BiaPy exports: an encoder built by its rules gives the same features, others are refused."""

import pytest
import torch
import yaml
from export_samples import SIDES, make
from torch import nn

from napari_ssl_pretrain import load_backbone
from napari_ssl_pretrain.engine.export import export
from napari_ssl_pretrain.errors import ConfigError

CASES = [("crappify", 2, [4, 8]), ("masking", 3, [4, 8, 8])]


class Block(nn.Module):
    """A residual block of BiaPy's stunet (conv, norm, act, conv, norm, plus 1x1 of the input)."""

    def __init__(self, into, out, kernel, stride, ndim):
        super().__init__()
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[ndim]
        norm = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[ndim]
        padding = [k // 2 for k in kernel]
        self.conv1 = conv(into, out, kernel, stride, padding)
        self.norm1 = norm(out, affine=True)
        self.conv2 = conv(out, out, kernel, 1, padding)
        self.norm2 = norm(out, affine=True)
        self.conv3 = conv(into, out, 1, stride)

    def forward(self, x):
        y = nn.functional.leaky_relu(self.norm1(self.conv1(x)))
        return nn.functional.leaky_relu(self.norm2(self.conv2(y)) + self.conv3(x))


def encoder(model, channels, ndim):
    """Build the encoder of a configuration, by the names of its checkpoint."""
    assert model["ARCHITECTURE"] == "stunet"
    found = model["STUNET"]
    assert set(found["DEPTH"]) == {1}
    widths, strides = [channels, *found["DIMS"]], [[1] * ndim, *found["POOL_OP_KERNEL_SIZES"]]
    stages = nn.ModuleList(
        nn.Sequential(Block(*pair, kernel, stride, ndim))
        for *pair, kernel, stride in zip(
            widths[:-1], widths[1:], found["CONV_KERNEL_SIZES"], strides, strict=True
        )
    )
    return nn.ModuleDict({"conv_blocks_context": stages})


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case[:2])))
def test_biapy_gets_the_same_encoder(tmp_path, case):
    task, ndim, features = case
    options = {"norm": "instance", "features_per_stage": features, "blocks_per_stage": 2}
    make(tmp_path / "a.pth", "unet", task, ndim, network=options)
    done = export(tmp_path / "a.pth", "biapy", tmp_path / "model")
    (beside,) = done.beside
    configuration = yaml.safe_load(beside.read_text())
    content = torch.load(done.weights, weights_only=True)  # noqa: TID251 - the test's own
    theirs = encoder(configuration["MODEL"], 2, ndim)
    theirs.load_state_dict(content["model"])
    image = torch.randn(2, 2, *SIDES[ndim], generator=torch.Generator().manual_seed(0))
    network = load_backbone(tmp_path / "a.pth").eval()
    seen = image if task == "crappify" else torch.cat([image, image[:, :1] * 0], dim=1)
    x = image
    with torch.no_grad():
        for stage, wanted in zip(
            theirs["conv_blocks_context"], network.net.encoder(seen), strict=True
        ):
            x = stage(x)
            torch.testing.assert_close(x, wanted, rtol=0, atol=1e-5)
            assert wanted.std() > 0.1
    assert configuration["MODEL"]["SKIP_UNMATCHED_LAYERS"] is True
    assert configuration["PATHS"]["CHECKPOINT_FILE"] == str(done.weights)
    assert configuration["DATA"]["PATCH_SIZE"] == str((*SIDES[ndim], 2))
    assert content["cfg"]["MODEL"]["STUNET"] == configuration["MODEL"]["STUNET"]


@pytest.mark.parametrize(("kind", "said"), [("percentile", True), ("minmax", False)])
def test_a_normalization_that_biapy_has_not_is_said(tmp_path, kind, said):
    network = {"norm": "instance", "features_per_stage": [4, 8], "blocks_per_stage": 2}
    data = {"normalization": kind}
    make(tmp_path / "a.pth", "unet", "crappify", 2, network=network, data=data)
    (beside,) = export(tmp_path / "a.pth", "biapy", tmp_path / "model").beside
    assert (f"cannot normalise as in pretraining ({kind})" in beside.read_text()) is said


@pytest.mark.parametrize(
    "case",
    [
        ("residual_unet", {}, "BiaPy has no network like residual_unet"),
        ("mae_vit", {}, "BiaPy has no network like mae_vit"),
        ("attention_unet", {}, "BiaPy has no network like attention_unet"),
        ("unet", {"norm": "none"}, "no such network without normalisation layers"),
        (
            "unet",
            {"norm": "instance", "blocks_per_stage": 3},
            "no such network with 3 convolutions a stage",
        ),
    ],
    ids=lambda case: f"{case[0]}-{len(case[1])}",
)
def test_what_biapy_has_not_is_refused(tmp_path, case):
    name, options, sentence = case
    make(tmp_path / "a.pth", name, "masking", 2, network=options)
    with pytest.raises(ConfigError, match=sentence) as caught:
        export(tmp_path / "a.pth", "biapy", tmp_path / "out" / "model")
    assert "Pretrain backbone.name: unet with backbone.norm: instance" in str(caught.value)
    assert not (tmp_path / "out").exists()
