"""Pretrain from Python, then take the network for a task with labels.

python examples/pretrain_and_use.py FOLDER_OF_IMAGES
"""

from __future__ import annotations

import sys

from napari_ssl_pretrain import PretrainConfig, load_backbone, pretrain
from napari_ssl_pretrain.spec.events import AnyEvent, EpochFinished


def show(event: AnyEvent) -> None:
    """Print the end of every epoch; a run says much more."""
    if isinstance(event, EpochFinished):
        print(f"epoch {event.epoch} of {event.epochs}: validation loss {event.validation_loss:.4f}")


def main(folder: str) -> None:
    """Pretrain for a minute and make a network with a fresh head for two classes."""
    config = PretrainConfig(
        name="from_python",
        data={"train": folder},
        pretext={"task": "crappify"},
        training={"max_minutes": 1},
    )
    result = pretrain(config, emit=show, overwrite=True)
    print(f"{result.summary['steps']} steps, best state in {result.run_dir.checkpoint('best')}")

    network = load_backbone(result.run_dir.checkpoint("best"), out_channels=2)
    print(f"ready to be fine-tuned: {sum(p.numel() for p in network.parameters()):,} parameters")


if __name__ == "__main__":
    main(sys.argv[1])
