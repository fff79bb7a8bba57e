"""The study: nested subsets, blocks that cover, a stop that keeps what there is."""

# ruff: noqa: TID251

import itertools

import numpy as np
import pytest
import tifffile
import torch
from run_samples import config, last_state, pretrain, run_of, smooth

from napari_ssl_pretrain.engine import checkpoint
from napari_ssl_pretrain.engine.transfer import study as st
from napari_ssl_pretrain.engine.transfer.checks import check
from napari_ssl_pretrain.engine.transfer.records import Score
from napari_ssl_pretrain.errors import CheckpointError
from napari_ssl_pretrain.spec.transfer import TransferConfig


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A checkpoint of two steps, four labelled planes and two test planes."""
    folder = tmp_path_factory.mktemp("study")
    for part, seeds in (("images", range(4)), ("test", (8, 9))):
        for seed in seeds:
            image = smooth((40, 33), seed)
            for kind, array in (("x", image * 255), ("y", image > 0.55)):
                path = folder / part / kind / f"{seed}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(path, array.astype(np.uint8))
    asked = config(folder, "crappify", data={"train": str(folder / "images" / "x"), "test": None})
    pretrain(asked)
    return folder, run_of(asked).checkpoint("best"), last_state(asked, "best")


def asked(place, **changes):
    folder, path, _ = place
    fields = {
        "checkpoint": str(path),
        "images": str(folder / "images" / "x"),
        "labels": str(folder / "images" / "y"),
        "test_images": str(folder / "test" / "x"),
        "test_labels": str(folder / "test" / "y"),
        "n_labels": (1, 3),
        "seeds": 2,
        "minutes": 0.001,
        "device": "cpu",
        "precision": "fp32",
    }
    return TransferConfig(**(fields | changes))


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(st, "FEWEST_STEPS", 2)
    monkeypatch.setattr(st, "TIMED_STEPS", 3)


def names(examples):
    return [e.name for e in examples]


def runner(config, said=None, stop=lambda: False):
    return st.Runner(check(config), (said if said is not None else []).append, stop)


def test_subsets_are_nested_and_change_with_the_seed(place):
    made = runner(asked(place))
    few, more, all_of_them = (names(made._subset(n, 0)) for n in (1, 3, 4))
    assert more[:1] == few
    assert all_of_them[:3] == more
    assert sorted(all_of_them) == ["0", "1", "2", "3"]
    assert len({tuple(names(made._subset(4, seed))) for seed in range(6)}) > 1


@pytest.mark.parametrize("shape", [(40, 33), (5, 8, 7), (1, 9)])
def test_blocks_cover_every_pixel_once(shape):
    counted = np.zeros(shape, int)
    boxes = st.units(shape, few=True)
    for _, box in boxes:
        counted[box] += 1
    assert (counted == 1).all()
    assert len({name for name, _ in boxes}) == 4
    assert st.units(shape, few=False) == [("", (slice(None),) * len(shape))]


@pytest.mark.usefixtures("quick")
def test_every_arm_is_scored_on_the_same_units(place):
    config = asked(place)
    said = []
    found = st.transfer(config, emit=said.append)
    keys = {(s.arm, s.n_labels, s.seed, s.unit) for s in found.scores if s.arm != "shuffled"}
    units = {s.unit for s in found.scores}
    arms = ("scratch", "pretrained", "frozen")
    assert keys == set(itertools.product(arms, (1, 3), (0, 1), units))
    assert len(units) == 8  # two images, four blocks each
    assert all(0 <= v <= 1 for s in found.scores for v in (s.iou, s.dice, s.boundary_f))
    assert set(found.learning_rates) == set(config.arms)
    assert len(found.sweep) == 2 * len(st.RATES)
    assert {row["rate"] for row in found.sweep} == set(st.RATES)
    assert {p.arm for p in found.curve} - {"shuffled"} == set(arms)
    assert {p.kind for p in found.pictures} == {"median", "worst"}
    assert set(found.pictures[0].arrays) == {"image", "truth", *arms}
    progress = [e for e in said if e.kind == "progress"]
    assert progress[-1].done == progress[-1].total
    assert not found.stopped


@pytest.mark.usefixtures("quick")
def test_a_stop_keeps_what_was_compared(place):
    made = runner(asked(place))
    one = made._one

    def counted(*args):
        one(*args)
        if len({(s.arm, s.n_labels, s.seed) for s in made._scores}) == 4:
            made._should_stop = lambda: True

    made._one = counted
    found = made.run()
    assert found.stopped
    assert {(s.n_labels, s.seed) for s in found.scores if s.arm == "frozen"} == {(1, 0)}


@pytest.mark.usefixtures("quick")
def test_a_stop_while_test_images_are_predicted_is_heard_and_leaves_no_half_scored_arm(
    place, monkeypatch
):
    made, predict, seen = runner(asked(place)), st.ft.predict_classes, []

    def predicted(*args, **options):
        if options.get("mirrored"):  # a test image, not the validation part
            seen.append(args)
            if len(seen) == 8:  # the second image of the fourth arm
                made._should_stop = lambda: True
        return predict(*args, **options)

    monkeypatch.setattr(st.ft, "predict_classes", predicted)
    found = made.run()
    assert found.stopped
    assert len(seen) == 8
    assert {(s.arm, s.n_labels, s.seed) for s in found.scores} == {
        (arm, 1, 0) for arm in ("scratch", "pretrained", "frozen")
    }


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("gain", [0.1, 0.0])
def test_the_control_is_run_where_a_gain_is_seen(place, gain):
    made, ran = runner(asked(place)), []

    def scored(arm, count, seed, _):
        ran.append((arm, count, seed))
        iou = 0.5 + gain * (arm == "pretrained")
        made._scores += [Score(arm, count, seed, u, u, iou, iou, iou) for u in "ab"]

    made._one = scored
    made._pictures = tuple  # nothing was predicted
    made.run()
    wanted = [("shuffled", n, seed) for seed in (0, 1) for n in (1, 3)] if gain else []
    assert [one for one in ran if one[0] == "shuffled"] == wanted
    assert ran[len(ran) - len(wanted) :] == wanted


def test_shuffled_weights_are_the_same_numbers_elsewhere(place):
    made = runner(asked(place))
    control, pretrained, again = (
        dict(made._start(arm, 0).named_parameters())
        for arm in ("shuffled", "pretrained", "shuffled")
    )
    moved = 0
    for name, weight in control.items():
        assert torch.equal(weight, again[name])
        assert torch.equal(weight.flatten().sort().values, pretrained[name].flatten().sort().values)
        moved += not torch.equal(weight, pretrained[name])
    assert moved > len(control) / 3  # biases that are still zero stay


@pytest.mark.usefixtures("quick")
def test_a_stop_before_anything_is_compared_says_so(place):
    with pytest.raises(st.Stopped):
        st.transfer(asked(place), should_stop=lambda: True)


@pytest.mark.parametrize(
    ("pretraining", "given", "expected"),
    [("auto", "auto", "YX"), ("XY", "auto", "XY"), ("XY", "YX", "YX"), ("TYX", "auto", "YX")],
)
def test_axes_are_those_of_the_pretraining(place, tmp_path, pretraining, given, expected):
    state = checkpoint.load(place[1])
    state["config"]["data"]["axes"] = pretraining
    checkpoint.save(state, tmp_path / "c.pth")
    found = check(asked(place, checkpoint=str(tmp_path / "c.pth"), axes=given))
    read = {
        i.info.axes for p in (*found.learn.images, *found.test.images) for i in (p.image, p.label)
    }
    assert read == {expected}


def test_channels_of_the_checkpoint_must_fit(place, tmp_path):
    for number in range(3):
        for kind, shape in (("x", (3, 20, 20)), ("y", (20, 20))):
            (tmp_path / kind).mkdir(exist_ok=True)
            array = np.indices(shape).sum(axis=0) % 2
            axes = {"axes": "CYX"[-len(shape) :]}
            tifffile.imwrite(
                tmp_path / kind / f"{number}.tif", array.astype(np.uint8), ome=True, metadata=axes
            )
    wrong = asked(
        place,
        images=str(tmp_path / "x"),
        labels=str(tmp_path / "y"),
        test_images=None,
        test_labels=None,
    )
    with pytest.raises(CheckpointError, match="was trained on 1 channels"):
        check(wrong)
