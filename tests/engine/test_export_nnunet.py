"""nnU-Net exports: a network built from the plans as nnU-Net does, loaded by its rules."""

import json
import pydoc
import sys
from types import SimpleNamespace

import pytest
import torch
from export_samples import SIDES, make, outputs

from napari_ssl_pretrain import load_backbone
from napari_ssl_pretrain.engine.export import export
from napari_ssl_pretrain.errors import ConfigError

CASES = [
    ("residual_unet", "crappify", 2, {"norm": "instance"}),
    ("residual_unet", "masking", 3, {"blocks_per_stage": 2, "norm": "instance"}),
    ("unet", "masking", 2, {"norm": "instance"}),
    ("unet", "crappify", 3, {"features_per_stage": [4, 8, 8]}),
]


def build(plans, channels, classes, *, deep_supervision, init=True):
    """Build the network of a plans file: classes by name, channels from the data set."""
    ((name, configuration),) = plans["configurations"].items()
    architecture = configuration["architecture"]
    arguments = dict(architecture["arch_kwargs"])
    for key in architecture["_kw_requires_import"]:
        if arguments[key] is not None:
            arguments[key] = pydoc.locate(arguments[key])
    kind = pydoc.locate(architecture["network_class_name"])
    network = kind(
        input_channels=channels, num_classes=classes, deep_supervision=deep_supervision, **arguments
    )
    if init:
        network.apply(network.initialize)
    return name, configuration, network


def load(network, path):
    """Load pretrained weights by nnU-Net's rules: all but the segmentation layers must fit."""
    given = torch.load(path, weights_only=True)["network_weights"]  # noqa: TID251 - the test's own
    own = network.state_dict()
    taken = [key for key in own if ".seg_layers." not in key]
    assert all(own[key].shape == given[key].shape for key in taken)
    network.load_state_dict(own | {key: given[key] for key in taken})


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case[:3])))
def test_nnunet_gets_the_same_encoder_and_decoder(tmp_path, case):
    name, task, ndim, options = case
    state = make(tmp_path / "a.pth", name, task, ndim, network=options)
    done = export(tmp_path / "a.pth", "nnunet", tmp_path / "model")
    assert [p.name for p in done.beside] == ["model.plans.json"]
    plans = json.loads(done.beside[0].read_text())
    image = torch.randn(2, 2, *SIDES[ndim], generator=torch.Generator().manual_seed(0))

    # with our last layer the whole network, to the output
    called, configuration, network = build(plans, 2, 2, deep_supervision=False)
    load(network, done.weights)
    last = "net.decoder.seg_layers.{}.{}"
    head = network.decoder.seg_layers[-1]
    with torch.no_grad():
        for part in ("weight", "bias"):
            stored = state["model"][last.format(len(network.decoder.seg_layers) - 1, part)]
            getattr(head, part).copy_(stored)
        got = network.eval()(image)
    wanted = outputs(tmp_path / "a.pth", image)
    assert wanted.abs().max() > 0.01
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)

    # as nnU-Net trains: other classes, deep supervision
    _, _, training = build(plans, 2, 4, deep_supervision=True)
    load(training, done.weights)
    for mine, theirs in zip(training.encoder(image), network.encoder(image), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert training(image)[0].shape == (2, 4, *SIDES[ndim])

    parent = {2: "2d", 3: "3d_fullres"}[ndim]
    assert (called, configuration["inherits_from"]) == (f"{parent}_pretrained", parent)
    assert configuration["patch_size"] == list(SIDES[ndim])
    assert f"nnUNetv2_train DATASET {called} FOLD" in done.card.weights.load


@pytest.mark.parametrize("name", ["mae_vit", "segresnet", "attention_unet"])
def test_networks_that_nnunet_has_not_are_refused(tmp_path, name):
    make(tmp_path / "a.pth", name, "masking", 2)
    with pytest.raises(ConfigError) as caught:
        export(tmp_path / "a.pth", "nnunet", tmp_path / "out" / "model")
    assert str(caught.value) == (
        f"--format: nnunet: nnU-Net has no network like {name}. "
        "Pretrain residual_unet or unet, or take --format safetensors."
    )
    assert not (tmp_path / "out").exists()


def test_a_residual_encoder_without_norms_comes_with_a_trainer_that_can_start_it(
    tmp_path, monkeypatch
):
    make(tmp_path / "a.pth", "residual_unet", "crappify", 2, network={"norm": "none"})
    done = export(tmp_path / "a.pth", "nnunet", tmp_path / "model")
    assert [p.name for p in done.beside] == ["model.plans.json", "model_nnunet_trainer.py"]
    assert "-tr nnUNetTrainerBare" in done.card.weights.load
    plans = json.loads(done.beside[0].read_text())
    with pytest.raises(AttributeError, match="norm"):  # the day this passes, the trainer can go
        build(plans, 2, 2, deep_supervision=True)

    asked = {}

    def from_plans(*given, allow_init, deep_supervision):
        asked["init"] = allow_init
        names = ("network_class_name", "arch_kwargs", "_kw_requires_import")
        about = dict(zip(names, given[:3], strict=True))
        made = {"configurations": {"x": {"architecture": about}}}
        return build(made, *given[3:], deep_supervision=deep_supervision, init=allow_init)[2]

    folder = "nnunetv2.training.nnUNetTrainer.nnUNetTrainer"
    fakes = {
        folder: SimpleNamespace(nnUNetTrainer=object),
        "nnunetv2.utilities.get_network_from_plans": SimpleNamespace(
            get_network_from_plans=from_plans
        ),
    }
    for name, fake in fakes.items():
        monkeypatch.setitem(sys.modules, name, fake)
    scope = {}
    exec(compile(done.beside[1].read_text(), "trainer", "exec"), scope)  # noqa: S102 - our own
    about = plans["configurations"]["2d_pretrained"]["architecture"]
    manager = SimpleNamespace(
        network_arch_class_name=about["network_class_name"],
        network_arch_init_kwargs=about["arch_kwargs"],
        network_arch_init_kwargs_req_import=about["_kw_requires_import"],
    )
    network = scope["nnUNetTrainerBare"].build_network_architecture(None, manager, 2, 2)
    assert asked == {"init": False}
    load(network, done.weights)
    image = torch.randn(1, 2, *SIDES[2], generator=torch.Generator().manual_seed(0))
    ours = load_backbone(tmp_path / "a.pth").eval()
    for mine, theirs in zip(network.encoder(image), ours.net.encoder(image), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_plans_that_are_there_are_kept(tmp_path):
    make(tmp_path / "a.pth", "unet", "crappify", 2)
    (tmp_path / "m.plans.json").write_text("mine")
    with pytest.raises(ConfigError, match=r"m\.plans\.json: is there already"):
        export(tmp_path / "a.pth", "nnunet", tmp_path / "m.pth")
    assert (tmp_path / "m.plans.json").read_text() == "mine"
    assert not (tmp_path / "m.pth").exists()
