"""Checkpoints are written whole and read without executing anything; networks come from them."""

import logging
import os
import pickle
import zipfile

import pytest
import torch
from run_samples import TINY

import napari_ssl_pretrain
from napari_ssl_pretrain.engine import checkpoint
from napari_ssl_pretrain.engine.backbones import BackboneSpec, build_backbone
from napari_ssl_pretrain.engine.load import load_backbone, load_network, load_weights
from napari_ssl_pretrain.engine.states import find_start, weights
from napari_ssl_pretrain.errors import CheckpointError
from napari_ssl_pretrain.spec.run_dir import RunDir


def spec_of(channels=1, name="unet", ndim=2):
    options = {
        "features_per_stage": (4, 8),
        "blocks_per_stage": 1,
        "norm": "none",
        "strides": ((1,) * ndim, (2,) * ndim),
        "kernel_sizes": ((3,) * ndim,) * 2,
    }
    if name == "mae_vit":
        options = {**TINY["mae_vit"], "token_size": (4,) * ndim, "mlp_ratio": 2.0}
    return BackboneSpec(name, ndim, channels, channels, False, options)


def randomised(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def state_of(spec):
    model = randomised(build_backbone(spec))
    backbone = checkpoint.plain(spec._asdict())
    return {"format_version": 1, "model": model.state_dict(), "backbone": backbone}


@pytest.fixture
def path(tmp_path):
    checkpoint.save(state_of(spec_of()), tmp_path / "net.pth")
    return tmp_path / "net.pth"


def test_it_loads_as_plain_weights_and_rebuilds_the_network(path):
    state = checkpoint.load(path)
    model, _ = load_network(path)
    assert not model.training
    images = torch.randn(1, 1, 8, 8)
    wanted = build_backbone(spec_of())
    wanted.load_state_dict(state["model"])
    assert torch.equal(model(images), wanted(images))
    assert BackboneSpec(**state["backbone"])._asdict().keys() == spec_of()._asdict().keys()


def test_a_write_that_fails_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def torn(_, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save({"x": 1}, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_file_is_on_disk_before_it_takes_its_name(path, monkeypatch):
    calls = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(path.read_bytes()), real(fd)))
    before = path.read_bytes()
    checkpoint.save(state_of(spec_of(2)), path)
    assert calls == [before]
    assert path.read_bytes() != before


class Canary:
    """Touches a file when unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


def test_nothing_in_a_file_is_executed(tmp_path):
    bird = tmp_path / "canary"
    torch.save({"format_version": 1, "model": {}, "backbone": Canary(bird)}, tmp_path / "zip.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Canary(bird)))
    torch.save(Canary(bird), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("zip.pth", "raw.pth", "old.pth"):
        for read in (checkpoint.load, load_backbone, load_network):
            with pytest.raises(CheckpointError, match=rf"{name}: .*\.pth file that a run"):
                read(tmp_path / name)
    assert not bird.exists()
    torch.load(tmp_path / "zip.pth", weights_only=False)  # noqa: TID251
    assert bird.exists()  # the bird is alive, so the test could have failed


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def changed(**entries):
    return lambda path: torch.save(state_of(spec_of()) | entries, path)


FOREIGN = {
    "text": (lambda p: p.write_text("no weights"), "is no checkpoint"),
    "empty": (lambda p: p.write_bytes(b""), "is no checkpoint"),
    "zip": (zipped, r"is no file of torch\.save"),
    "tensor": (lambda p: torch.save(torch.zeros(3), p), "no checkpoint of this program"),
    "weights": (lambda p: torch.save({"w": torch.zeros(3)}, p), "no checkpoint of this program"),
    "folder": (lambda p: p.mkdir(), "no such file"),
    "model": (changed(model=[1]), "no checkpoint of this program"),
    "values": (changed(model={"a": 3}), "no checkpoint of this program"),
    "version": (changed(format_version="1"), "no checkpoint of this program"),
    "newer": (changed(format_version=99), r"newer version \(format 99\)"),
    "backbone": (changed(backbone={"name": "unet"}), "backbone entry is damaged"),
    "network": (
        changed(backbone={**spec_of()._asdict(), "name": "foo"}),
        "foo: its network is unknown",
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_files_are_refused_in_one_line(tmp_path, case):
    path = tmp_path / "x.pth"
    make, text = FOREIGN[case]
    make(path)
    with pytest.raises(CheckpointError, match=text) as caught:
        load_network(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_truncated_files_are_refused(path):
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(CheckpointError, match=r"is no checkpoint|cannot be read"):
            load_backbone(path)


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone.pth: no such file. Give the .pth"):
        load_backbone(tmp_path / "gone.pth")


def test_weights_of_another_network_in_its_entry_are_refused(tmp_path):
    state = state_of(spec_of()) | {"model": state_of(spec_of(3))["model"]}
    checkpoint.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="do not fit its own network"):
        load_network(tmp_path / "x.pth")


# --- load_backbone ---


def test_load_backbone_reports_and_keeps_the_head(path, caplog):
    with caplog.at_level(logging.INFO):
        model = napari_ssl_pretrain.load_backbone(str(path))
    assert "100% of the network loaded" in caplog.text
    images = torch.randn(1, 1, 8, 8)
    assert torch.equal(model.eval()(images), load_network(path)[0](images))


@pytest.mark.parametrize("name", ["unet", "mae_vit"])
def test_a_fresh_head_even_where_the_old_one_would_fit(tmp_path, caplog, name):
    path = tmp_path / "net.pth"
    checkpoint.save(state_of(spec_of(name=name)), path)
    trained = load_network(path)[0].state_dict()
    for out_channels in (1, 4):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            model = load_backbone(path, out_channels=out_channels)
        head = model.head_prefixes()
        assert model(torch.randn(1, 1, 8, 8)).shape == (1, out_channels, 8, 8)
        for key, value in model.state_dict().items():
            same = value.shape == trained[key].shape and torch.equal(value, trained[key])
            assert same == (not key.startswith(head)), key
        assert "fresh: " in caplog.text
        assert head[0] in caplog.text


def test_next_to_nothing_is_refused_and_nothing_changed(path):
    trained = checkpoint.load(path)["model"]
    model = build_backbone(spec_of(ndim=3))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"x: fits only \d% of the network. Use the backbone"):
        load_weights(model, trained, "x")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with pytest.raises(CheckpointError, match="fits only 0%"):
        load_weights(model, {}, "x")


def test_other_channels_keep_all_but_the_ends(path):
    model = build_backbone(spec_of(3))
    report = load_weights(model, checkpoint.load(path)["model"], path)
    assert 0.5 < report.share < 1
    assert 0 < len(report.random) < len(report.filled)
    assert all(
        model.state_dict()[k].shape != checkpoint.load(path)["model"][k].shape
        for k in report.random
    )
    share = f"{int(100 * report.share)}% of the network loaded"
    assert f"{share}; fresh: {report.random[0]}" in str(report)


def test_what_modules_share_is_saved_once(tmp_path):
    model = build_backbone(spec_of()).to(memory_format=torch.channels_last)
    checkpoint.save({"model": weights(model)}, tmp_path / "a.pth")
    numbers = sum(p.numel() for p in model.parameters())
    assert len(model.state_dict()) > len(list(model.parameters()))
    assert {k: v.shape for k, v in weights(model).items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        stored = sum(i.file_size for i in archive.infolist() if "/data/" in i.filename)
    assert stored == 4 * numbers


# --- which checkpoint to start from ---


def test_the_newest_runs_checkpoint_is_found_by_name(tmp_path):
    name = "job [a]"  # brackets are no pattern
    runs = [RunDir(tmp_path, name, k) for k in (1, 2)]
    for number, run in enumerate(runs):
        for which in ("best", "last"):
            run.checkpoints.mkdir(parents=True, exist_ok=True)
            run.checkpoint(which).touch()
            os.utime(run.checkpoint(which), (0, 100 - number))
    new = RunDir(tmp_path, name, 3)
    assert find_start("best", new) == runs[0].checkpoint("best")
    assert find_start("last", new) == runs[0].checkpoint("last")
    assert find_start(str(tmp_path / "x.pth"), new) == tmp_path / "x.pth"
    with pytest.raises(CheckpointError, match=r"load_checkpoint: best: there is no best"):
        find_start("best", RunDir(tmp_path, "other", 1))
