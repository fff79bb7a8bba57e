"""Exports as bioimage.io packages: the whole task as ONNX, described and tested for the zoo."""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

from napari_ssl_pretrain.data.intensity import PERCENTILES, measure_array
from napari_ssl_pretrain.engine.export import onnx_file
from napari_ssl_pretrain.engine.export.base import (
    INSTALL,
    TOLERANCE,
    Format,
    FormatRefused,
    Made,
    far_from,
)
from napari_ssl_pretrain.engine.export.graph import TaskGraph
from napari_ssl_pretrain.pretext.base import Intensity
from napari_ssl_pretrain.pretext.masking import Masking

if TYPE_CHECKING:
    from napari_ssl_pretrain.engine.export.base import Job
    from napari_ssl_pretrain.spec import card

LOAD = 'bioimageio.core.predict(model="{file}", inputs={{"image": array}})'
LOAD_MASKING = 'bioimageio.core.predict(model="{file}", inputs={{"image": array, "hidden": flags}})'
LETTERS = "zyx"
SPECIFICATION = "0.5.3"
EPSILON = 1e-10
"""Added to deviations there, as the specification wants a number above 0."""

RESTORED = "float32, B C {axes}: the restored image, normalised: * scale + offset gives intensities"
TOKENS = "float32, B C {axes}: hidden tokens, each at zero mean and unit variance"
RESTORED_FORMULA = "restored image = output * scale + offset"
RAW = "float32, B C {axes}: the image; the package normalises it"
DIVIDED = "float32, B C {axes}: the image, normalised as the card says; the package does not"


def make(job: Job) -> Made:
    """Return the package, tried by bioimageio.core, and the card."""
    graph = TaskGraph(job.model, job.state).eval()
    image, hidden, expected = example(job, graph)
    told = _card(job, graph)
    arrays = {"image": image} | ({} if hidden is None else {"hidden": hidden})
    files = {
        f"{name}.npy": _npy(array)
        for name, array in (arrays | {graph.outputs[0]: expected}).items()
    }
    files |= {
        "weights.onnx": onnx_file.proto(job, graph).SerializeToString(),
        "card.json": told.to_json().encode(),
        "README.md": _readme(job, told).encode(),
    }
    files["rdf.yaml"] = yaml.safe_dump(description(job, graph, files), sort_keys=False).encode()
    content = _zip(files)
    _try(content, arrays, expected)
    return Made(content, told)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def example(job: Job, graph: TaskGraph) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Return an image, what is hidden of it, and what the program itself makes of them."""
    channels, state = job.state["in_channels"], job.state
    normalised, *rest = graph.example(channels, 1, 1, 0)
    image = (normalised.numpy() * 50 + 500).astype(np.float32)
    fixed = state.get("normalization_statistics") or {}
    custom = (np.asarray(fixed["mean"]), np.asarray(fixed["std"])) if fixed else None
    found = measure_array(image[0], state["normalization"], custom)
    if state["normalization"] == "divide":
        image, offset, scale = normalised.numpy(), np.zeros(channels), np.ones(channels)
    else:
        offset, scale = found.offset, found.scale
    rows = [torch.tensor(np.asarray(v, np.float32))[None] for v in (offset, scale)]
    intensity = Intensity(rows[0], rows[1], rows[0][:, 0], rows[0][:, 0])
    seen = torch.from_numpy(image)
    with torch.no_grad():
        if not rest:
            given = intensity.normalize(seen)
            return image, None, (given + job.model(given)).numpy()
        steps: list[Any] = [slice(None, None, t) for t in graph.token_size]
        tokens = rest[0][(slice(None), 0, *steps)] > 0.5  # noqa: PLR2004
        options = state["config"]["pretext"]
        task = Masking(
            token_size=graph.token_size, normalize_target=bool(options["normalize_target"])
        )
        batch = task.hide(seen, intensity, tokens)
        made = batch.restored(job.model) if graph.restores else job.model(batch.input, tokens)
    return image, rest[0].numpy(), made.numpy()


def _card(job: Job, graph: TaskGraph) -> card.ModelCard:
    about = onnx_file.describe(graph, job.state)
    axes = " ".join("ZYX"[-graph.ndim :])
    normalised_there = job.state["normalization"] != "divide"
    inputs = about.inputs | {"image": (RAW if normalised_there else DIVIDED).format(axes=axes)}
    output = (RESTORED if graph.restores else TOKENS).format(axes=axes)
    about = about.model_copy(update={"inputs": inputs, "outputs": {graph.outputs[0]: output}})
    load = (LOAD_MASKING if graph.masking else LOAD).format(file=job.path.name)
    weights = job.card.weights.model_copy(update={"load": load})
    entry = job.card.input
    seen = entry.model_copy(update={"channels": entry.channels[: job.state["in_channels"]]})
    made: dict[str, Any] = {"graph": about, "weights": weights, "input": seen}
    if graph.restores:
        words = {"meaning": "the restored image, normalised", "formula": RESTORED_FORMULA}
        made["output"] = job.card.output.model_copy(update=words)
    return job.card.model_copy(update=made)


def _readme(job: Job, told: card.ModelCard) -> str:
    graph = told.graph
    lines = [f"# {told.name}", "", f"Pretrained without labels (*{told.task}*). It takes", ""]
    if graph is not None:
        lines += [f"- `{name}`: {text}" for name, text in graph.inputs.items()]
        lines += ["", "and returns", ""]
        lines += [f"- `{name}`: {text}" for name, text in graph.outputs.items()]
    lines += ["", f"Normalisation: {told.normalization.formula}; offset:"]
    lines += [f"{told.normalization.offset}; scale: {told.normalization.scale}.", ""]
    lines += [f"Network: {job.state['backbone']['name']}. All else is in `card.json`.", ""]
    return "\n".join(lines)


def description(job: Job, graph: TaskGraph, files: dict[str, bytes]) -> dict[str, Any]:
    """Return the model's description by bioimage.io's specification."""
    task = "image-restoration" if graph.restores else "representation-learning"
    name = re.sub(r"[^A-Za-z0-9_+\- ()]", "_", job.card.name)
    return {
        "type": "model",
        "format_version": SPECIFICATION,
        "name": f"pretrained {name}"[:128],
        "description": f"{job.state['task']}: pretrained without labels by napari-ssl-pretrain",
        "tags": [f"{graph.ndim}d", task, "self-supervision", "pretraining"],
        "documentation": "README.md",
        "attachments": [_file("card.json", files)],
        "inputs": [_input(job, graph, files, name) for name in graph.inputs],
        "outputs": [_output(job, graph, files)],
        "weights": {"onnx": _file("weights.onnx", files) | {"opset_version": onnx_file.OPSET}},
    }


def _file(name: str, files: dict[str, bytes]) -> dict[str, Any]:
    return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest()}


def _channels(count: int) -> dict[str, Any]:
    return {"type": "channel", "channel_names": [f"channel{k}" for k in range(count)]}


def _input(job: Job, graph: TaskGraph, files: dict[str, bytes], name: str) -> dict[str, Any]:
    letters = LETTERS[-graph.ndim :]
    sizes: list[Any] = list(graph.sides)
    if not graph.fixed:
        pairs = zip(graph.sides, job.model.multiple, strict=True)
        sizes = [{"min": int(side), "step": int(unit)} for side, unit in pairs]
    flags = name == "hidden"
    tensor = {
        "id": name,
        "description": "1 where a pixel is hidden, else 0" if flags else "the image",
        "axes": [
            {"type": "batch"},
            _channels(1 if flags else job.state["in_channels"]),
            *({"type": "space", "id": a, "size": n} for a, n in zip(letters, sizes, strict=True)),
        ],
        "data": {"type": "float32"},
        "test_tensor": _file(f"{name}.npy", files),
    }
    steps = [] if flags else preprocessing(job.state, letters)
    return tensor | ({"preprocessing": steps} if steps else {})


def _output(job: Job, graph: TaskGraph, files: dict[str, bytes]) -> dict[str, Any]:
    name = graph.outputs[0]
    letters = LETTERS[-graph.ndim :]
    return {
        "id": name,
        "description": "normalised as the input is",
        "axes": [
            {"type": "batch"},
            _channels(job.state["backbone"]["out_channels"]),
            *(
                {"type": "space", "id": a, "size": {"tensor_id": "image", "axis_id": a}}
                for a in letters
            ),
        ],
        "data": {"type": "float32"},
        "test_tensor": _file(f"{name}.npy", files),
    }


def preprocessing(state: dict[str, Any], letters: str) -> list[dict[str, Any]]:
    """Return the normalisation in the zoo's words; none for *divide*, which goes by data type."""
    kind, fixed = state["normalization"], state.get("normalization_statistics") or {}
    axes = list(letters)
    if kind == "zscore":
        return [{"id": "zero_mean_unit_variance", "kwargs": {"axes": axes, "eps": EPSILON}}]
    if kind in {"percentile", "minmax"}:
        low, high = PERCENTILES if kind == "percentile" else (0.0, 100.0)
        kwargs = {"axes": axes, "min_percentile": low, "max_percentile": high, "eps": EPSILON}
        return [{"id": "scale_range", "kwargs": kwargs}]
    if kind == "custom":
        numbers = {key: [float(v) for v in fixed[key]] for key in ("mean", "std")}
        kwargs = numbers | {"axis": "channel"}
        return [{"id": "fixed_zero_mean_unit_variance", "kwargs": kwargs}]
    return []


def _try(content: bytes, arrays: dict[str, np.ndarray], expected: np.ndarray) -> None:
    """Let bioimageio.core read the package and run it.

    Raises
    ------
    FormatRefused
        It cannot, or returns something else than the program itself.
    """
    remedy = f"Install the versions that were tried, {INSTALL}, or take --format onnx."
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "package.zip"
        package.write_bytes(content)
        try:
            got = run(package, arrays)
        except Exception as error:  # noqa: BLE001 - a foreign library on its own files
            reason = " ".join(str(error).split())[:200]
            rule = f"bioimageio.core cannot run the package ({reason})"
            raise FormatRefused("bioimageio", rule, remedy) from None
    worst = far_from(torch.from_numpy(got), torch.from_numpy(expected))
    if not worst <= TOLERANCE:
        rule = f"bioimageio.core would return what differs by {worst:.1g}"
        raise FormatRefused("bioimageio", rule, remedy)


def run(package: Path, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return what bioimageio.core makes of inputs."""
    import bioimageio.core  # noqa: PLC0415 - only for this format
    from bioimageio.core.digest_spec import create_sample_for_model  # noqa: PLC0415
    from loguru import logger  # noqa: PLC0415 - what bioimageio logs with

    logger.disable("bioimageio")
    try:
        described = bioimageio.core.load_model_description(package)
        sample = create_sample_for_model(described, inputs=arrays)
        made = bioimageio.core.predict(model=described, inputs=sample)
    finally:
        logger.enable("bioimageio")
    (member,) = made.members.values()
    array: np.ndarray = member.data.to_numpy()
    return array


BIOIMAGEIO = Format((".zip",), LOAD, make, needs=(*onnx_file.NEEDS, "bioimageio.core"))
