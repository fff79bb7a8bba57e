"""What the picture of a network shows: its stages in the order in which they work."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

FEWEST_BOXES = 5
ENOUGH_BOXES = 16
LARGE_SHARE = 0.7
"""With fewer boxes than enough, one that holds more of the parameters than this is opened."""

_KINDS = {
    "StackedResidualBlocks": "Residual blocks",
    "StackedConvBlocks": "Convolutions",
    "ConvBlock": "Convolutions",
    "Convolution": "Convolution",
    "Conv2d": "Convolution",
    "Conv3d": "Convolution",
    "ConvTranspose2d": "Up-convolution",
    "ConvTranspose3d": "Up-convolution",
    "UpConv": "Up-convolution",
    "AttentionBlock": "Attention",
    "Block": "Transformer block",
    "Linear": "Linear layer",
}


@dataclass(frozen=True)
class Box:
    """One box of the picture.

    Attributes
    ----------
    name
        Path of the module in the network.
    kind
        What it is, for people.
    shape
        Shape of its output, without the batch.
    parameters
        Number of its parameters; of one, where there are several.
    role
        ``image``, ``encoder``, ``decoder`` or ``head``.
    times
        How many like it follow one another.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    role: str = "encoder"
    times: int = 1


@dataclass(frozen=True)
class _Call:
    name: str
    module: nn.Module
    shape: tuple[int, ...]
    parameters: int


def network_boxes(model: nn.Module, example_shape: Sequence[int]) -> list[Box]:
    """Run a network once on zeros ``B C *spatial`` and return its stages, output last."""
    calls = _record(model, tuple(example_shape))
    boxes = [
        Box(call.name, _kind(call), call.shape, call.parameters)
        for call in _stages(calls)
        if call.parameters and "Norm" not in type(call.module).__name__
    ]
    boxes = _with_roles(boxes, model, len(example_shape) - 2)
    output = calls[-1].shape
    return [*_repeated(boxes), Box("", "Output", output, 0, "image")]


def levels(boxes: Sequence[Box], ndim: int) -> list[int] | None:
    """Return how often the shortest side of each box's output was halved; None where unknown.

    A network that first only halves and then only doubles has such levels. For it to be a U
    the deepest of them must be greater than 0.
    """
    sizes = [max(box.shape[1:]) if len(box.shape) == ndim + 1 else 0 for box in boxes]
    if not sizes or min(sizes) < 1:
        return None
    return [round(sizes[0] / size).bit_length() - 1 for size in sizes]


def _record(model: nn.Module, example_shape: tuple[int, ...]) -> list[_Call]:
    """Run the network in evaluation mode and note each module's output, the network's own last."""
    import torch  # noqa: PLC0415 - slow, not needed before

    calls: list[_Call] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, _inputs: Any, output: Any) -> None:
            shape = tuple(output.shape[1:]) if isinstance(output, torch.Tensor) else ()
            count = sum(p.numel() for p in module.parameters())
            calls.append(_Call(name, module, shape, count))

        return hook

    hooks = [m.register_forward_hook(note(name)) for name, m in model.named_modules()]
    first = next(model.parameters())
    try:
        with _evaluating(model), torch.no_grad():
            model(torch.zeros(example_shape, device=first.device, dtype=first.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return calls


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _stages(calls: Sequence[_Call]) -> list[_Call]:
    """Open the network until its stages lie side by side."""
    stages = _opened(calls[-1], calls)
    total = max(1, calls[-1].parameters)
    while len(stages) < ENOUGH_BOXES:
        k = max(range(len(stages)), key=lambda i: stages[i].parameters)
        parts = _opened(stages[k], calls)
        share = stages[k].parameters / total
        if not parts or (len(stages) >= FEWEST_BOXES and share < LARGE_SHARE):
            break
        stages[k : k + 1] = parts
    return stages


def _opened(call: _Call, calls: Sequence[_Call]) -> list[_Call]:
    """Return what works inside a module, its containers opened down to their numbered items."""
    inside = [c for c in calls if _is_inside(c.name, call.name)]
    parts = [c for c in inside if not any(_is_inside(c.name, other.name) for other in inside)]
    opened = []
    for part in parts:
        within = [] if _is_stage(part) else _opened(part, calls)
        opened += within if len(within) > 1 else [part]
    return opened


def _is_inside(name: str, outer: str) -> bool:
    return bool(name) and name != outer and (not outer or name.startswith(f"{outer}."))


def _is_stage(call: _Call) -> bool:
    """Whether a module is one of several alike, plain layers in a row, or a well-known block."""
    from torch import nn  # noqa: PLC0415 - slow, not needed before

    numbered = call.name.rpartition(".")[2].isdecimal()
    plain = isinstance(call.module, nn.Sequential)
    return numbered or plain or type(call.module).__name__ in _KINDS


def _kind(call: _Call) -> str:
    """Name a module for people: by its class, or by its own name where the class says little."""
    kind = type(call.module).__name__
    if kind == "Sequential":
        words = [w for w in call.name.split(".") if not w.isdecimal()]
        own = words[-1] if words else "layers"
        return "Convolutions" if own == "stages" else own.replace("_", " ").capitalize()
    spelt = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind)
    return _KINDS.get(kind, spelt.capitalize())


def _with_roles(boxes: Sequence[Box], model: Any, ndim: int) -> list[Box]:
    """Tell encoder, decoder and head apart: as the network says, else by resolution."""
    heads = tuple(model.head_prefixes()) if hasattr(model, "head_prefixes") else ()
    encoders = tuple(model.encoder_prefixes()) if hasattr(model, "encoder_prefixes") else ("",)
    roles = ["encoder" if f"{b.name}.".startswith(encoders) else "decoder" for b in boxes]
    depth = levels(boxes, ndim)
    if "decoder" not in roles and depth:
        bottom = len(depth) - 1 - depth[::-1].index(max(depth))
        roles = ["decoder" if k > bottom else "encoder" for k in range(len(boxes))]
    roles = [
        "head" if _holds(b.name, heads) else role for b, role in zip(boxes, roles, strict=True)
    ]
    return [replace(b, role=role) for b, role in zip(boxes, roles, strict=True)]


def _holds(name: str, prefixes: Sequence[str]) -> bool:
    """Whether a module is, is in, or contains what one of the prefixes names."""
    return any(f"{name}.".startswith(p) or p.startswith(f"{name}.") for p in prefixes)


def _repeated(boxes: Sequence[Box]) -> list[Box]:
    """Put boxes together that are alike and follow one another."""
    result: list[Box] = []
    for box in boxes:
        last = result[-1] if result else None
        if last and _alike(last, box):
            result[-1] = replace(last, times=last.times + 1)
        else:
            result.append(box)
    return result


def _alike(a: Box, b: Box) -> bool:
    return (a.kind, a.shape, a.parameters, a.role) == (b.kind, b.shape, b.parameters, b.role)
