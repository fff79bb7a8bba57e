"""Validation: the same patches, worsened or hidden in the same way, at every call."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import torch

from napari_ssl_pretrain.engine import feed as fd
from napari_ssl_pretrain.engine.losses import pixel_loss
from napari_ssl_pretrain.engine.ranks import ALONE, Ranks
from napari_ssl_pretrain.pretext.smooth import fill_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ssl_pretrain.pretext import PretextBatch


class Validator:
    """Scores a network on fixed batches.

    Parameters
    ----------
    feed
        Brings batches to the device.
    batches
        Fixed batches; may be empty, then the loss is NaN.
    loss
        Name of the training loss.
    ranks
        The processes of the run, which share the batches.

    Attributes
    ----------
    seconds
        How long the last call took.
    """

    def __init__(
        self, feed: fd.Feed, batches: Sequence[fd.HostBatch], loss: str, ranks: Ranks = ALONE
    ) -> None:
        self._feed, self._batches, self._loss, self._ranks = feed, batches, loss, ranks
        self.seconds = 0.0

    @torch.no_grad()
    def __call__(self, model: torch.nn.Module) -> tuple[float, dict[str, float]]:
        """Return the loss and the metrics by name, each the mean over the patches."""
        began = time.monotonic()
        model.eval()
        sums: dict[str, float] = {}
        # few batches are not worth sharing, but all have to come to the same result
        shared = len(self._batches) >= self._ranks.size
        own = self._ranks.share(len(self._batches)) if shared else range(len(self._batches))
        for number in own:
            host = self._batches[number]
            batch = self._feed.to_device(host, fd.Purpose.VALIDATION)
            prediction = batch.restored(model).float()
            loss = float(pixel_loss(self._loss, prediction, batch.target, batch.scored))
            found = {"": loss, **batch_metrics(prediction, batch, host)}
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + value * len(host.indices)
        total = sum(len(host.indices) for host in self._batches) * (
            1 if shared else self._ranks.size
        )
        if not total:
            return math.nan, {}
        means = self._ranks.sum([value / total for value in sums.values()], self._feed.device)
        self.seconds = time.monotonic() - began
        loss, *metrics = means
        return loss, dict(zip([name for name in sums if name], metrics, strict=True))


def batch_metrics(
    prediction: torch.Tensor, batch: PretextBatch, host: fd.HostBatch
) -> dict[str, float]:
    """Return the metrics of one batch; errors of crappify in the images' own units.

    crappify: ``psnr``, ``psnr_input``, ``mae``, ``mse``, with each image's range
    ``max - min(0, min)``. masking: ``hidden_mse`` and ``hidden_mse_mean`` in normalised units.
    """
    if batch.scored is not None:
        guess = fill_mean(batch.target, batch.scored)
        return {
            "hidden_mse": float(pixel_loss("mse", prediction, batch.target, batch.scored)),
            "hidden_mse_mean": float(pixel_loss("mse", guess, batch.target, batch.scored)),
        }
    scale = torch.from_numpy(host.intensity.scale).to(prediction)
    scale = scale.view(*scale.shape, *(1,) * (prediction.ndim - 2))
    span = torch.from_numpy(host.intensity.high - host.intensity.low).to(prediction)
    error = (prediction - batch.target) * scale
    mse = error.square().flatten(1).mean(1)
    before = ((batch.input - batch.target) * scale).square().flatten(1).mean(1)
    return {
        "psnr": float(psnr(mse, span).mean()),
        "psnr_input": float(psnr(before, span).mean()),
        "mae": float(error.abs().mean()),
        "mse": float(mse.mean()),
    }


def psnr(mse: torch.Tensor, span: torch.Tensor) -> torch.Tensor:
    """Return the peak signal-to-noise ratio in dB, at most 100."""
    ratio = span.square().clamp(min=1e-12) / mse.clamp(min=1e-20)
    return (10 * ratio.log10()).clamp(max=100.0)
