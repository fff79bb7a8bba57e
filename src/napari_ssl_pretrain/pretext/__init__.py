"""What to learn from: pretext tasks as frozen policies, on numpy and torch arrays alike."""

from napari_ssl_pretrain.pretext.base import Intensity, NumpyRandom, PretextBatch, RandomSource
from napari_ssl_pretrain.pretext.crappify import Crappify
from napari_ssl_pretrain.pretext.masking import Masking

AnyTask = Crappify | Masking

__all__ = [
    "AnyTask",
    "Crappify",
    "Intensity",
    "Masking",
    "NumpyRandom",
    "PretextBatch",
    "RandomSource",
]
