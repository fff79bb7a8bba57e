"""``export``: a trained model for other tools."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ssl_pretrain.cli import text
from napari_ssl_pretrain.errors import CheckpointError

if TYPE_CHECKING:
    from argparse import Namespace

    from napari_ssl_pretrain.engine.export import Exported

CHECKED = ("onnx", "bioimageio")
"""Formats that take their time."""


def command(args: Namespace) -> int:
    """Write the weights and the card.

    Raises
    ------
    CheckpointError
        The checkpoint is not there.
    """
    checkpoint = Path(args.checkpoint)
    if not checkpoint.is_file():
        remedy = "Give a .pth file from the checkpoints folder of a run."
        raise CheckpointError("--checkpoint", "no such file", value=checkpoint, remedy=remedy)
    if not args.json:
        print(f"Loading {checkpoint}", flush=True)
        if args.format in CHECKED:
            print("Making the file and comparing it with the network: up to a minute", flush=True)
    from napari_ssl_pretrain.engine.export import export  # noqa: PLC0415 - torch: 2 s

    done = export(checkpoint, args.format, args.output, overwrite=args.overwrite)
    sys.stdout.write(_as_json(done) if args.json else _as_text(done))
    return 0


def _as_json(done: Exported) -> str:
    files: dict[str, object] = {"weights": str(done.weights), "card": str(done.card_file)}
    if done.beside:
        files |= {"beside": [str(file) for file in done.beside]}
    return json.dumps(files | {"architecture": done.card.architecture.model_dump()}) + "\n"


def _as_text(done: Exported) -> str:
    network = done.card.architecture
    size = f"{text.millions(done.card.weights.parameters)} parameters"
    lines = [
        f"Written: {done.weights} ({size}) and its card {done.card_file}",
        f"Network: {network.python_class or network.name}",
    ]
    lines += [f"Beside it: {file}" for file in done.beside]
    if done.card.graph is not None:
        graph = done.card.graph
        lines.append(f"Graph: {', '.join(graph.inputs)} -> {', '.join(graph.outputs)}")
    elif network.python_class is None:
        lines.append(network.note)
    return "\n".join(lines) + "\n"
