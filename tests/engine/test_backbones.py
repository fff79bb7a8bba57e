"""Every network of the table, for each of its tasks, in 2D and 3D, with one and three channels."""

from itertools import product

import pytest
import torch
from run_samples import TINY

from napari_ssl_pretrain.engine.backbones import BackboneSpec, backbone_spec, build_backbone
from napari_ssl_pretrain.engine.checkpoint import load, plain, save
from napari_ssl_pretrain.engine.machine import fresh_network
from napari_ssl_pretrain.engine.optim import (
    FULL_RATE_INPUTS,
    learning_rate_at,
    learning_rate_of,
    make_optimizer,
    set_learning_rate,
)
from napari_ssl_pretrain.pretext import Masking
from napari_ssl_pretrain.spec.backbones import BACKBONES
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.resolve import resolve
from napari_ssl_pretrain.spec.summary import DataSummary, Hardware

HARDWARE = Hardware("cpu", 2, 8.0)
SIDES = {2: (16, 24), 3: (4, 16, 8)}
TOKENS = {2: (4, 8), 3: (2, 4, 4)}
CASES = [
    (row.name, task, ndim, channels)
    for row in BACKBONES.values()
    for task, ndim, channels in product(row.tasks, (2, 3), (1, 3))
]


def spec_of(name, task, ndim, channels, **options):
    config = PretrainConfig(
        data={"train": "x", "patch_size": SIDES[ndim]},
        pretext={"task": task, "token_size": TOKENS[ndim]},
        backbone={"name": name, **TINY[name], **options},
    )
    summary = DataSummary(ndim, channels, (SIDES[ndim],), (0.1,) * ndim)
    return backbone_spec(resolve(config, summary, HARDWARE), channels, summary.voxel_size)


def hidden_of(ndim, batch):
    """Hide three quarters of the tokens of each sample."""
    grid = [n // t for n, t in zip(SIDES[ndim], TOKENS[ndim], strict=True)]
    return torch.rand(batch, *grid, generator=torch.Generator().manual_seed(3)) < 0.75


def randomised(model):
    """Give every layer, the zero one too, random weights, so that outputs tell something."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


@pytest.mark.parametrize(("name", "task", "ndim", "channels"), CASES)
def test_networks_begin_at_the_identity_and_their_specs_rebuild_them(
    name, task, ndim, channels, tmp_path
):
    spec = spec_of(name, task, ndim, channels)
    model = build_backbone(spec)
    hidden = hidden_of(ndim, 2) if task == "masking" else None
    images = torch.randn(2, channels, *SIDES[ndim])
    residual = model(images, hidden)
    assert residual.shape == images.shape
    assert (residual == 0).all()
    residual.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())

    state = {"format_version": 1, "model": model.state_dict(), "backbone": plain(spec._asdict())}
    save(state, tmp_path / "a.pth")
    loaded = load(tmp_path / "a.pth")
    again = build_backbone(BackboneSpec(**loaded["backbone"]))
    randomised(model)
    again.load_state_dict(model.state_dict())
    out = model(images, hidden)
    assert out.shape == images.shape
    assert out.abs().max() > 0
    assert torch.equal(out, again.eval()(images, hidden))


@pytest.mark.parametrize(("name", "task", "ndim", "channels"), CASES)
def test_heads_can_be_replaced_and_prefixes_name_parameters(name, task, ndim, channels):
    model = build_backbone(spec_of(name, task, ndim, channels))
    names = [n for n, _ in model.named_parameters()]
    for prefixes in (model.encoder_prefixes(), model.head_prefixes()):
        for prefix in prefixes:
            assert any(n.startswith(prefix) for n in names)
    model.replace_head(5)
    assert model(torch.randn(1, channels, *SIDES[ndim])).shape == (1, 5, *SIDES[ndim])
    head = [p for n, p in model.named_parameters() if n.startswith(model.head_prefixes())]
    assert any(p.abs().sum() > 0 for p in head)


@pytest.mark.parametrize("name", ["segresnet", "attention_unet"])
@pytest.mark.parametrize("sides", [(1, 1), (7, 20), (5, 20, 16)])
def test_networks_of_monai_take_any_side(name, sides):
    spec = spec_of(name, "masking", len(sides), 1)
    images = torch.randn(1, 1, *sides)
    assert build_backbone(spec).eval()(images).shape == images.shape


@pytest.mark.parametrize("name", [r.name for r in BACKBONES.values() if r.family != "mae"])
def test_convolutions_are_told_what_is_hidden(name):
    model = randomised(build_backbone(spec_of(name, "masking", 2, 1)))
    images = torch.randn(1, 1, *SIDES[2])
    some = hidden_of(2, 1)
    assert not torch.equal(model(images, some), model(images, ~some))
    assert torch.equal(model(images), model(images, torch.zeros_like(some)))


@pytest.mark.parametrize("name", ["unet", "residual_unet"])
@pytest.mark.parametrize("norm", ["none", "instance"])
def test_sizes_of_unets_can_be_set(name, norm):
    spec = spec_of(
        name, "crappify", 2, 1, features_per_stage=[4, 6, 10], blocks_per_stage=2, norm=norm
    )
    model = build_backbone(spec)
    weights = {k: v for k, v in model.named_parameters() if "encoder" in k and v.ndim == 4}
    assert {v.shape[0] for v in weights.values()} == {4, 6, 10}
    has_norm = any(isinstance(m, torch.nn.InstanceNorm2d) for m in model.modules())
    assert has_norm == (norm == "instance")


@pytest.mark.parametrize(
    ("name", "task"), [("residual_unet", "crappify"), ("residual_unet", "masking")]
)
def test_a_network_learns_one_batch_by_heart(name, task):
    sides = (32, 32)
    config = PretrainConfig(
        data={"train": "x", "patch_size": sides},
        pretext={"task": task, "token_size": 8},
        backbone={"name": name, "features_per_stage": [16, 32, 32]},
    )
    summary = DataSummary(2, 1, (sides,))
    model = fresh_network(backbone_spec(resolve(config, summary, HARDWARE), 1, None), 0)
    loss = learn_by_heart(model, 60, 4e-3)
    assert loss < 0.35


def test_the_masked_autoencoder_learns_one_batch_by_heart():
    options = {
        "token_size": (8, 8),
        "embed_dim": 48,
        "depth": 2,
        "num_heads": 2,
        "mlp_ratio": 2.0,
        "decoder_embed_dim": 48,
        "decoder_depth": 1,
        "decoder_num_heads": 2,
    }
    model = fresh_network(BackboneSpec("mae_vit", 2, 1, 1, sees_hidden=False, options=options), 0)
    # at the mean predictor the loss is 1
    assert learn_by_heart(model, 150, 3e-3) < 0.5


def learn_by_heart(model, steps, rate):
    """Train on noise, which cannot be guessed; return the error on hidden pixels."""
    images = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    task = Masking(token_size=(8, 8))
    hidden = torch.rand(4, 4, 4, generator=torch.Generator().manual_seed(2)) < 0.5
    scored = task.to_pixels(hidden).float()
    seen = images * (1 - scored)
    optimizer = make_optimizer(model, rate, 0.0, betas=(0.9, 0.95))
    for _ in range(steps):
        out = model(seen, hidden)
        loss = ((out - images).square() * scored).sum() / scored.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return float(loss.detach())


def test_fresh_weights_are_a_function_of_the_seed():
    spec = spec_of("residual_unet", "crappify", 2, 1)
    before = torch.get_rng_state()
    one, two, other = (fresh_network(spec, seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


# --- optimiser ---


@pytest.mark.parametrize("name", BACKBONES)
def test_only_weight_matrices_decay(name):
    task = BACKBONES[name].tasks[-1]
    options = {"norm": "instance"} if BACKBONES[name].family == "unet" else {}
    model = build_backbone(spec_of(name, task, 2, 1, **options))
    optimizer = make_optimizer(model, 1e-3, 0.05, betas=(0.9, 0.95))
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert len(decay) == sum(len(g["params"]) for g in optimizer.param_groups)
    norms = (torch.nn.LayerNorm, torch.nn.InstanceNorm2d, torch.nn.GroupNorm, torch.nn.BatchNorm2d)
    in_norms = {id(p) for m in model.modules() if isinstance(m, norms) for p in m.parameters()}
    for key, parameter in model.named_parameters():
        plain_one = key.endswith(("bias", "hidden_token")) or id(parameter) in in_norms
        plain_one = plain_one or parameter.ndim <= 1
        assert decay[id(parameter)] == (0.0 if plain_one else 0.05), key
    assert {0.0, 0.05} == set(decay.values())


@pytest.mark.parametrize("ndim", [2, 3])
def test_without_norms_the_rate_falls_with_the_inputs_of_a_layer(ndim):
    wide = {"features_per_stage": (16, 160)}
    model = fresh_network(spec_of("residual_unet", "masking", ndim, 1, **wide), 0)
    optimizer = make_optimizer(model, 1.0, 0.0, betas=(0.9, 0.99))
    set_learning_rate(optimizer, 0.5)
    rate = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    net = model.net
    deep = net.encoder.stages[-1].blocks[0].conv2.conv
    assert rate[id(deep.weight)] == pytest.approx(0.5 * FULL_RATE_INPUTS / deep.weight[0].numel())
    assert rate[id(deep.bias)] == rate[id(net.encoder.stem.convs[0].conv.weight)] == 0.5
    up = net.decoder.transpconvs[0]  # each pixel comes of one, by 160 channels
    assert rate[id(up.weight)] == 0.5
    assert learning_rate_of(optimizer) == pytest.approx(0.5)


@pytest.mark.parametrize("name", BACKBONES)
def test_with_norms_all_layers_learn_at_one_rate(name):
    options = {"norm": "instance"} if BACKBONES[name].family == "unet" else {}
    model = build_backbone(spec_of(name, BACKBONES[name].tasks[-1], 3, 1, **options))
    optimizer = make_optimizer(model, 1e-3, 0.05, betas=(0.9, 0.95))
    assert {g["factor"] for g in optimizer.param_groups} == {1.0}


def test_learning_rate_rises_and_falls():
    rates = [learning_rate_at(s, 100, 2.0, 10) for s in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == rates[10] == max(rates) == 2.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(2.0 * (0.01 + 0.99 / 2))
    assert learning_rate_at(100, 100, 2.0, 10) == pytest.approx(0.02)
    assert learning_rate_at(500, 100, 2.0, 10) == pytest.approx(0.02)
    assert learning_rate_at(0, 1, 2.0, 0) == 2.0
    assert learning_rate_at(50, 10**9, 2.0, 10) == pytest.approx(2.0)
