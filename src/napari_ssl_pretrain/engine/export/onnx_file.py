"""Exports as ONNX: the graph of the network, checked with onnxruntime before it is written."""

from __future__ import annotations

import json
import logging
import warnings
from typing import TYPE_CHECKING, Any

import torch

from napari_ssl_pretrain.engine.export.base import (
    TOLERANCE,
    Format,
    FormatRefused,
    Made,
    far_from,
)
from napari_ssl_pretrain.engine.export.graph import Graph, wanted
from napari_ssl_pretrain.spec import card

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ssl_pretrain.engine.export.base import Job

NEEDS = ("onnx", "onnxscript", "onnxruntime")
OPSET = 18
UPDATE = "Update torch, onnx, onnxscript and onnxruntime, or take another format."
LARGEST = 2**31 - 2**20
"""Bytes that one ONNX file can hold."""

SIDES = "free: multiples of input.multiple_of"
IMAGE = "float32, B C {axes}: normalised channels of the image, in the order of input.channels"
HIDDEN = (
    "float32, B 1 {axes}: 1 where a pixel is hidden from the network, else 0. Give zeros to show "
    "it everything"
)
TOKENS = ". A token of which any pixel is 1 is hidden whole"
OUTPUT = "float32, B C {axes}: what the network returns, see output"
RESTORED = "float32, B C {axes}: image + output"


def make(job: Job) -> Made:
    """Return the file and the card, which says what the graph takes and returns."""
    graph = Graph(job.model, job.state).eval()
    about = describe(graph, job.state)
    described = job.card.model_copy(update={"graph": about, "input": _input(job)})
    import onnx  # noqa: PLC0415 - only for this format

    found = proto(job, graph)
    found.doc_string = "napari-ssl-pretrain; the card is in the metadata"
    onnx.helper.set_model_props(found, {"card": json.dumps(described.model_dump(mode="json"))})
    content = found.SerializeToString()
    _check(content, job, graph)
    return Made(content, described)


def describe(graph: Graph, state: dict[str, Any]) -> card.Graph:
    """Return what the graph takes and returns, in words."""
    axes = " ".join("ZYX"[-state["ndim"] :])
    hidden = HIDDEN + (TOKENS if graph.hides_tokens else "")
    words = {"image": IMAGE, "hidden": hidden, "output": OUTPUT, "restored": RESTORED}
    told = {name: text.format(axes=axes) for name, text in words.items()}
    return card.Graph(
        inputs={name: told[name] for name in graph.inputs},
        outputs={name: told[name] for name in graph.outputs},
        batch="free",
        sides=" ".join(map(str, graph.sides)) if graph.fixed else SIDES,
    )


def proto(job: Job, graph: Graph) -> Any:
    """Return a graph as ONNX's own object.

    Raises
    ------
    FormatRefused
        It would be too large, or torch cannot make it.
    """
    size = sum(value.numel() * value.element_size() for value in job.model.parameters())
    if size > LARGEST:
        rule = f"files hold at most 2 GB, the weights are {size / 2**30:.1f} GB"
        raise FormatRefused(job.card.weights.format, rule, "Take --format safetensors.")
    try:
        return _exported(graph, graph.example(job.state["in_channels"], 2, 1, 0))
    except Exception as error:
        rule = f"torch cannot make the graph ({' '.join(str(error).split())[:200]})"
        raise FormatRefused(job.card.weights.format, rule, UPDATE) from error


def _exported(graph: Graph, example: tuple[torch.Tensor, ...]) -> Any:
    batch = torch.export.Dim("batch")
    free: dict[int, Any] = {0: batch}
    if not graph.fixed:
        names = ("z", "y", "x")[-graph.ndim :]
        steps = zip(graph.model.multiple, names, strict=True)
        free |= {2 + k: int(m) * torch.export.Dim(name) for k, (m, name) in enumerate(steps)}
    noise = logging.getLogger("torch.onnx")
    before = noise.level
    noise.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph,
                example,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=tuple(free for _ in example),
            )
    finally:
        noise.setLevel(before)
    return program.model_proto  # type: ignore[union-attr]


def run(content: bytes, names: Sequence[str], inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return what onnxruntime makes of inputs."""
    import onnxruntime  # noqa: PLC0415 - only for this format

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    return [torch.from_numpy(value) for value in session.run(None, feed)]


def _check(content: bytes, job: Job, graph: Graph) -> None:
    """Compare the graph with the network, at another batch size and other sides.

    Raises
    ------
    FormatRefused
        They differ.
    """
    inputs = graph.example(job.state["in_channels"], 3, 2, 1)
    expected = wanted(job.model, inputs)
    got = run(content, graph.inputs, inputs)
    pairs = zip(got, (expected, inputs[0] + expected), strict=False)
    worst = max(far_from(mine, theirs) for mine, theirs in pairs)
    if not worst <= TOLERANCE:
        rule = f"the graph would differ from the network by {worst:.1g}"
        raise FormatRefused("onnx", rule, UPDATE)


def _input(job: Job) -> card.Input:
    """Return the card's input: what is hidden is an input of its own here."""
    entry = job.card.input
    return entry.model_copy(update={"channels": entry.channels[: job.state["in_channels"]]})


ONNX = Format((".onnx",), 'session = onnxruntime.InferenceSession("{file}")', make, needs=NEEDS)
