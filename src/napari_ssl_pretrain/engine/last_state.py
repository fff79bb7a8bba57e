"""Whether a saved state can be gone on with: each entry is looked at before anything is written.

The file may be damaged, of another version, or made to do harm; what is in it is plain tensors,
numbers and text by then, and must be those that this very run would have saved.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch

from napari_ssl_pretrain.engine.backbones import build_backbone
from napari_ssl_pretrain.engine.optim import make_optimizer
from napari_ssl_pretrain.engine.state import EpochRow, TrainState
from napari_ssl_pretrain.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_ssl_pretrain.engine.backbones import BackboneSpec

LARGEST_COUNT = 10**12
LONGEST_NAME = 80
MOMENTS = ("exp_avg", "exp_avg_sq")
ESSENTIAL = ("params", "lr", "betas", "eps", "weight_decay", "factor")
REMEDY = "Put back the file that the run left, or begin anew with another --run_id or --overwrite."


class _Wrong(Exception):
    """An entry is not what a run saves."""


def refuse_unfit(state: dict[str, Any], spec: BackboneSpec, path: Path) -> None:
    """Make sure that a training can go on from a state.

    Parameters
    ----------
    state
        What :func:`~napari_ssl_pretrain.engine.checkpoint.load` read.
    spec
        The network that is asked for.
    path
        The file.

    Raises
    ------
    CheckpointError
        An entry is missing, or of another kind, shape or size than a run of this network saves.
    """
    with torch.device("meta"):
        model = build_backbone(spec)
    try:
        _check_all(state, model)
    except _Wrong as wrong:
        rule = f"cannot be resumed from: {wrong}"
        raise CheckpointError(path, rule, remedy=REMEDY) from None


def _check_all(state: dict[str, Any], model: torch.nn.Module) -> None:
    """Look at each entry.

    Raises
    ------
    _Wrong
        One is not what a run saves.
    """
    _check_weights(state["model"], model.state_dict())
    _check_counters(_entry(state, "state"))
    optimizer, own = _entry(state, "optimizer"), make_optimizer(model, 1, 1, betas=(0.9, 0.9))
    _check_groups(optimizer.get("param_groups"), own.state_dict()["param_groups"])
    _check_moments(_entry(optimizer, "state"), own)
    for name, value in _entry(state, "scaler").items():
        _check_number(f"scaler.{_name(name)}", value)
    _check_settings(_entry(state, "config"))


def _entry(state: dict[str, Any], name: str) -> dict[Any, Any]:
    """Return an entry that holds others.

    Raises
    ------
    _Wrong
        It is missing, or holds none.
    """
    if not isinstance(found := state.get(name), dict):
        raise _Wrong(f"{name} is missing" if found is None else f"{name} holds no names and values")
    return found


def _check_weights(found: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> None:
    """Compare weights with those of the network.

    Raises
    ------
    _Wrong
        Names, shapes or types differ.
    """
    _same_names("model", found, own)
    for name, value in own.items():
        _check_tensor(f"model.{name}", found[name], value.shape, value.dtype)


def _check_counters(found: dict[Any, Any]) -> None:
    """Look at where the training stood.

    Raises
    ------
    _Wrong
        It is no such place.
    """
    own = TrainState(steps=1)
    _same_names("state", found, vars(own))
    if not isinstance(found["history"], list):
        raise _Wrong("state.history is no list of epochs")
    for name, value in vars(own).items():
        if name != "history":
            _check_like(f"state.{name}", found[name], value)
    kinds = {field.name: 1 if field.type == "int" else 1.0 for field in fields(EpochRow)}
    for number, row in enumerate(found["history"]):
        where = f"state.history[{number}]"
        if not isinstance(row, dict):
            raise _Wrong(f"{where} is no epoch")
        _same_names(where, row, kinds)
        if not isinstance(row["metrics"], dict):
            raise _Wrong(f"{where}.metrics holds no scores by name")
        for name, value in row["metrics"].items():
            _check_number(f"{where}.metrics.{_name(name)}", value)
        for name, kind in kinds.items():
            if name != "metrics":
                _check_like(f"{where}.{name}", row[name], kind)


def _check_settings(found: dict[Any, Any]) -> None:
    """Look at the configuration as it was.

    Raises
    ------
    _Wrong
        A group of it holds no settings.
    """
    for name in ("data", "pretext", "training"):
        if not isinstance(found.get(name, {}), dict):
            raise _Wrong(f"config.{name} holds no settings")


def _check_groups(found: Any, own: list[dict[str, Any]]) -> None:
    """Compare the groups of the optimiser with those of this network.

    Raises
    ------
    _Wrong
        Parameters or settings differ.
    """
    if not isinstance(found, list) or len(found) != len(own):
        raise _Wrong(f"optimizer.param_groups are not the {len(own)} groups of this network")
    for number, (group, like) in enumerate(zip(found, own, strict=True)):
        where = f"optimizer.param_groups[{number}]"
        if not isinstance(group, dict):
            raise _Wrong(f"{where} is no group")
        _same_names(where, {*ESSENTIAL} & {*group}, ESSENTIAL)
        if group["params"] != like["params"] or any(type(i) is not int for i in group["params"]):
            raise _Wrong(f"{where}.params are not those of this network")
        for name in group:  # other versions of torch have a switch more or less
            if name != "params":
                _check_option(f"{where}.{_name(name)}", group[name], like.get(name))


def _check_moments(found: dict[Any, Any], own: torch.optim.Optimizer) -> None:
    """Compare what the optimiser remembers with the parameters of this network.

    Raises
    ------
    _Wrong
        Parameters or moments differ.
    """
    parameters = [p for group in own.param_groups for p in group["params"]]
    for index, kept in found.items():
        where = f"optimizer.state[{_name(index)}]"
        if type(index) is not int or not 0 <= index < len(parameters):
            raise _Wrong(f"{where} is of no parameter of this network")
        if not isinstance(kept, dict):
            raise _Wrong(f"{where} holds no moments")
        _same_names(where, kept, ("step", *MOMENTS))
        for name in MOMENTS:
            _check_tensor(f"{where}.{name}", kept[name], parameters[index].shape)
        _check_tensor(f"{where}.step", kept["step"], torch.Size(()))
        _check_number(f"{where}.step", kept["step"].item())


def _check_option(where: str, value: Any, like: Any) -> None:
    """Look at a setting of the optimiser.

    Raises
    ------
    _Wrong
        It is none.
    """
    if like is None or isinstance(like, bool):
        if value is not None and not isinstance(value, bool):
            raise _Wrong(f"{where} is neither yes nor no")
    elif isinstance(like, tuple | list):
        if not isinstance(value, tuple | list) or len(value) != len(like):
            raise _Wrong(f"{where} is not {len(like)} numbers")
        for part in value:
            _check_number(where, part)
    else:
        _check_number(where, value)


def _same_names(where: str, found: Any, own: Any) -> None:
    """Compare names.

    Raises
    ------
    _Wrong
        One is missing, or too many.
    """
    missing, more = [n for n in own if n not in found], [n for n in found if n not in own]
    if missing or more:
        what = "lacks" if missing else "has, beside what a run saves,"
        raise _Wrong(f"{where} {what} {_name((missing or more)[0])}")


def _check_tensor(where: str, value: Any, shape: torch.Size, dtype: Any = None) -> None:
    """Look at one tensor.

    Raises
    ------
    _Wrong
        It is none, or of another shape or type.
    """
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_meta:
        raise _Wrong(f"{where} is no tensor")
    if value.shape != shape:
        raise _Wrong(f"{where} has the shape {list(value.shape)}, this network {list(shape)}")
    if value.dtype != dtype if dtype is not None else not value.dtype.is_floating_point:
        raise _Wrong(f"{where} is of the type {value.dtype}")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise _Wrong(f"{where} claims more numbers than the file holds")


def _check_like(where: str, value: Any, like: bool | float) -> None:  # noqa: FBT001 - a kind
    """Look at one entry of a known kind; what has no score yet is infinite.

    Raises
    ------
    _Wrong
        It is of another kind, or out of range.
    """
    if isinstance(like, bool):
        if not isinstance(value, bool):
            raise _Wrong(f"{where} is neither yes nor no")
    elif isinstance(like, int):
        if type(value) is not int or not 0 <= value <= LARGEST_COUNT:
            raise _Wrong(f"{where} is no count from 0 to {LARGEST_COUNT:.0e}")
    elif type(value) not in {int, float}:
        raise _Wrong(f"{where} is no number")


def _check_number(where: str, value: Any) -> None:
    """Look at one number, which a score may be without being finite.

    Raises
    ------
    _Wrong
        It is none, or out of range.
    """
    score = ".metrics." in where
    if type(value) not in {int, float} or (not score and not math.isfinite(value)):
        raise _Wrong(f"{where} is no number")
    if not score and abs(value) > LARGEST_COUNT:
        raise _Wrong(f"{where} is larger than {LARGEST_COUNT:.0e}")


def _name(name: Any) -> str:
    text = " ".join(str(name).split())
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}…"
