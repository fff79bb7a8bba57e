"""A saved state that no run left is refused in a sentence, and nothing is changed."""

import pytest
import torch
from run_samples import config, do, events, last_state, run_of, stop_after, tree, write

from napari_ssl_pretrain.engine import last_state as planted
from napari_ssl_pretrain.engine.run import pretrain
from napari_ssl_pretrain.errors import CheckpointError

pytestmark = pytest.mark.usefixtures("quick")


def at(*keys, value):
    """Return what puts a value where these keys lead; a key that is not there is added."""

    def change(state):
        for key in keys[:-1]:
            state = state[key]
        state[keys[-1]] = value

    return change


def without(*keys):
    def change(state):
        for key in keys[:-1]:
            state = state[key]
        del state[keys[-1]]

    return change


def first_weight(change):
    def apply(state):
        name = next(iter(state["model"]))
        state["model"][name] = change(state["model"][name])

    return apply


def renamed(state):
    name = next(iter(state["model"]))
    state["model"]["evil"] = state["model"].pop(name)


MOMENT = ("optimizer", "state", 0)
GROUP = ("optimizer", "param_groups", 0)
PLANTED = {
    "renamed weight": (renamed, "model lacks"),
    "another weight": (at("model", "\x1b[2Jevil", value=torch.zeros(2)), "model has, beside"),
    "shape": (first_weight(lambda w: w[:1]), "has the shape"),
    "type": (first_weight(lambda w: w.to(torch.complex64)), "is of the type torch.complex64"),
    "no optimiser": (without("optimizer"), "optimizer is missing"),
    "optimiser of text": (at("optimizer", value="AdamW"), "optimizer holds no names"),
    "groups": (at("optimizer", "param_groups", value=[]), "optimizer.param_groups are not the"),
    "group of text": (at(*GROUP, value="x"), "is no group"),
    "parameters": (at(*GROUP, "params", value=[10**9]), ".params are not those"),
    "rate of text": (at(*GROUP, "lr", value="1e-3"), ".lr is no number"),
    "rate": (at(*GROUP, "lr", value=float("nan")), ".lr is no number"),
    "betas": (at(*GROUP, "betas", value=(0.9,)), ".betas is not 2 numbers"),
    "foreign option": (
        at(*GROUP, "__class__", value="os"),
        "__class__ is neither yes nor no",
    ),
    "no factor": (without(*GROUP, "factor"), "lacks factor"),
    "switch": (at(*GROUP, "maximize", value="yes"), ".maximize is neither yes nor no"),
    "moment of text": (at(*MOMENT, "exp_avg", value="x"), ".exp_avg is no tensor"),
    "moment": (at(*MOMENT, "exp_avg_sq", value=torch.zeros(3)), r".exp_avg_sq has the shape \[3\]"),
    "moment of none": (at("optimizer", "state", 10**9, value={}), "is of no parameter"),
    "moments of text": (at(*MOMENT, value="x"), "holds no moments"),
    "steps of Adam": (at(*MOMENT, "step", value=torch.tensor(1e30)), ".step is larger than"),
    "claim": (
        at(*MOMENT, "exp_avg", value=torch.zeros(1).expand(4, 1, 3, 3)),
        ".exp_avg (claims more|has the shape)",
    ),
    "no state": (without("state"), "state is missing"),
    "step": (at("state", "step", value=10**30), "state.step is no count"),
    "negative": (at("state", "bad_epochs", value=-1), "state.bad_epochs is no count"),
    "step of text": (at("state", "step", value="3"), "state.step is no count"),
    "step of yes": (at("state", "step", value=True), "state.step is no count"),
    "tensor": (at("state", "seconds", value=torch.ones(1)), "state.seconds is no number"),
    "lacks": (without("state", "planned"), "state lacks planned"),
    "more": (at("state", "__init__", value=1), "state has, beside"),
    "history": (at("state", "history", value="x" * 99), "state.history is no list"),
    "epoch": (at("state", "history", value=[3]), r"state.history\[0\] is no epoch"),
    "epoch of none": (at("state", "history", value=[{}]), r"state.history\[0\] lacks epoch"),
    "scores": (at("state", "history", 0, "metrics", value=[1]), "metrics holds no scores"),
    "score": (at("state", "history", 0, "metrics", value={"a": "b"}), "metrics.a is no number"),
    "config": (at("config", value=3), "config holds no names"),
    "settings": (at("config", "training", value="x"), "config.training holds no settings"),
    "scaler": (at("scaler", value={"scale": "x"}), "scaler.scale is no number"),
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    for number in range(3):
        write(folder / "images" / f"{number}.tif", "YX", (40, 36), "uint8", number)
    asked = config(folder, "masking", training={"epochs": 3})
    do(asked, should_stop=stop_after(3))
    return asked, run_of(asked).checkpoint("last").read_bytes()


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_state_is_refused_and_nothing_changed(ended, case):
    asked, sound = ended
    path = run_of(asked).checkpoint("last")
    path.write_bytes(sound)
    change, rule = PLANTED[case]
    state = last_state(asked)
    change(state)
    torch.save(state, path)
    before = tree(path.parents[1])
    with pytest.raises(CheckpointError, match=rule) as caught:
        pretrain(asked, resume=True)
    assert str(path) in str(caught.value)
    assert "cannot be resumed from" in str(caught.value) or "no checkpoint" in str(caught.value)
    assert str(caught.value).count("\n") == 0
    assert tree(path.parents[1]) == before


def test_what_the_run_left_is_gone_on_with(ended):
    asked, sound = ended
    run_of(asked).checkpoint("last").write_bytes(sound)
    do(asked, resume=True)
    assert events(run_of(asked))[-1].state == "finished"


def test_names_are_shortened():
    assert len(planted._name("x\n" * 1000)) <= planted.LONGEST_NAME + 1
