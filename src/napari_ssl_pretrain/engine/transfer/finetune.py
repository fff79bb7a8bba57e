"""One fine-tuning of a segmentation: the same for every arm but for the weights it begins with.

Cross-entropy and soft Dice on patches, AdamW, decoder before encoder where the encoder is
pretrained (nnssl's schedule, Wald et al. 2025, arXiv:2410.23132), layer-wise rates for a vision
transformer (Bao et al. 2022, arXiv:2106.08254), and a running mean of the states (Shamir and Zhang
2013, arXiv:1212.1824): the last one, unless the validation part says that an earlier one was
better.
"""

from __future__ import annotations

import copy
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from napari_ssl_pretrain.data.tiling import blend_weight, tiles
from napari_ssl_pretrain.engine.load import load_weights, without_head
from napari_ssl_pretrain.engine.machine import fresh_network
from napari_ssl_pretrain.engine.optim import learning_rate_at, rate_factors
from napari_ssl_pretrain.spec.backbones import BACKBONES
from napari_ssl_pretrain.spec.transfer import CONTROL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch.optim.swa_utils import PARAM_LIST

    from napari_ssl_pretrain.engine.backbones import Backbone, BackboneSpec
    from napari_ssl_pretrain.engine.transfer.examples import Example, PatchDrawer
    from napari_ssl_pretrain.spec.transfer import Arm

WARMUP_SHARE = 0.05
DECODER_SHARE = 0.1
"""Share of the steps in which only decoder and head of a pretrained network learn."""

WAITING = ("pretrained", CONTROL)
"""Arms whose encoder waits for the decoder."""

LAYER_DECAY = 0.75
"""Rate of each block of a vision transformer over that of the next one (where pretrained)."""

WEIGHT_DECAY = 0.01
EVALUATIONS = 10
"""How often the validation part is looked at."""

CLEARLY_BETTER = 0.1
"""IoU by which an earlier mean of states must do better on the validation part than the last one.

The part is small, and the best of ten looks at it is best by luck: states that were ahead by up
to 0.07 did from 1.0 IoU points better to 5.5 worse on test images, 0.6 worse in the mean of
eighteen (benchmarks/RESULTS.md, before means were taken). The last one has had the smallest rates.
"""

MEAN_DECAY = 3
"""Power of its step, about, by which a state counts in the running mean of the states.

The mean reaches back over the last quarter of the steps done, however many these are.
"""

OVERLAP = 0.5
CLIP = 1.0

MIRRORS = ((), (-1,), (-2,), (-2, -1))
"""Axes of the mirrors whose predictions are averaged."""


@dataclass(frozen=True)
class Setting:
    """What all fine-tunings share.

    Attributes
    ----------
    spec
        The network, its head still that of the pretext task.
    classes
        Number of classes, background included.
    tile
        Size of patches and tiles.
    batch_size
        Tiles at once.
    device, autocast
        Where it runs, and in which reduced precision, if any.
    """

    spec: BackboneSpec
    classes: int
    tile: tuple[int, ...]
    batch_size: int
    device: torch.device
    autocast: torch.dtype | None


@dataclass(frozen=True)
class Schedule:
    """Which arm is trained, for how many steps, at which peak learning rate."""

    arm: Arm
    steps: int
    rate: float


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned network.

    Attributes
    ----------
    model
        The network in the mean of states that was kept.
    curve
        Steps, and the IoU on the validation part after them.
    kept
        That of the mean that was kept; -inf without a validation part.
    """

    model: Backbone
    curve: tuple[tuple[int, float], ...]
    kept: float


def start_network(
    setting: Setting, arm: Arm, seed: int, pretrained: dict[str, torch.Tensor], source: str
) -> Backbone:
    """Build the network of an arm; the fresh weights, the head's too, are equal in all arms.

    Raises
    ------
    CheckpointError
        Next to nothing of the checkpoint fits.
    """
    model = fresh_network(setting.spec, seed)
    if arm == CONTROL:
        pretrained = shuffled(pretrained, model, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # noqa: TID251 - layers draw from the global generator
        model.replace_head(setting.classes)
    if arm != "scratch":
        load_weights(model, without_head(pretrained, model), source)
    if arm == "frozen":
        for name, parameter in model.named_parameters():
            if name.startswith(model.encoder_prefixes()):
                parameter.requires_grad = False
    if BACKBONES[setting.spec.name].family != "mae":
        layout = torch.channels_last if setting.spec.ndim == 2 else torch.channels_last_3d  # noqa: PLR2004
        model.to(memory_format=layout)  # type: ignore[call-overload]
    return model.to(setting.device)


def shuffled(
    weights: dict[str, torch.Tensor], model: Backbone, seed: int
) -> dict[str, torch.Tensor]:
    """Return weights whose numbers are in another order within each tensor that is learnt.

    Each layer keeps the size and spread of its weights and loses what it has learnt.
    """
    generator = torch.Generator().manual_seed(seed)
    learnt = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return {
        name: w.flatten()[torch.randperm(w.numel(), generator=generator)].reshape(w.shape)
        if name in learnt
        else w
        for name, w in weights.items()
    }


def make_groups(model: Backbone, arm: Arm) -> list[dict[str, object]]:
    """Return parameter groups: ``encoder`` says whether they wait, ``factor`` scales the rate."""
    depth = len(getattr(model, "blocks", ()))
    factors = rate_factors(model)
    found: dict[tuple[bool, float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        encoder = arm in WAITING and name.startswith(model.encoder_prefixes())
        factor = LAYER_DECAY ** (depth - _layer(name, depth)) if encoder and depth else 1.0
        factor *= factors.get(parameter, 1.0)
        decay = WEIGHT_DECAY if parameter.ndim > 1 else 0.0
        found.setdefault((encoder, factor, decay), []).append(parameter)
    return [
        {"params": p, "encoder": e, "factor": f, "weight_decay": d}
        for (e, f, d), p in found.items()
    ]


def _layer(name: str, depth: int) -> int:
    """Return how many blocks of a transformer come before a parameter of its encoder."""
    block = re.match(r"blocks\.(\d+)\.", name)
    if block:
        return int(block[1]) + 1
    return 0 if name.startswith("token_embed") else depth


def finetune(
    model: Backbone,
    setting: Setting,
    drawer: PatchDrawer,
    check: Sequence[Example],
    schedule: Schedule,
    tick: Callable[[int], None],
) -> Tuned:
    """Train a network; return the mean of its states, or an earlier mean that was clearly better.

    Parameters
    ----------
    model
        From :func:`start_network`; changed in place, its last state is not what is returned.
    drawer
        Gives the batch of each step.
    check
        The validation part; empty keeps the last mean.
    schedule
        Arm, length and rate.
    tick
        Called with each step done; what it raises ends the training.
    """
    steps, waits = schedule.steps, schedule.arm in WAITING
    groups = make_groups(model, schedule.arm)
    optimizer = torch.optim.AdamW(groups, lr=schedule.rate, betas=(0.9, 0.99))
    averaged = AveragedModel(model, multi_avg_fn=_count_later_states_more)
    mean = cast("Backbone", averaged.module)
    looks = {round(steps * (k + 1) / EVALUATIONS) for k in range(EVALUATIONS)}
    curve: list[tuple[int, float]] = []
    score = best = -math.inf
    best_state = None
    for step in range(steps):
        model.train()
        _set_rates(optimizer, step, steps, schedule.rate, waits=waits)
        images, classes = drawer.batch(step)
        with torch.autocast(
            setting.device.type, setting.autocast, enabled=setting.autocast is not None
        ):
            logits = model(images)
        loss = segmentation_loss(logits.float(), classes)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        if torch.isfinite(norm):
            optimizer.step()
        averaged.update_parameters(model)
        tick(step + 1)
        if step + 1 in looks and check:
            score = validation_score(mean, setting, check)
            curve.append((step + 1, score))
            if score > best:
                best, best_state = score, copy.deepcopy(mean.state_dict())
    if best_state is not None and best > score + CLEARLY_BETTER:
        mean.load_state_dict(best_state)
        score = best
    return Tuned(mean.eval(), tuple(curve), score)


@torch.no_grad()
def _count_later_states_more(
    means: PARAM_LIST, states: PARAM_LIST, before: torch.Tensor | int
) -> None:
    """Take a state into the mean of those before it: polynomial-decay averaging."""
    share = (MEAN_DECAY + 1) / (int(before) + 1 + MEAN_DECAY)
    torch._foreach_lerp_(means, states, share)


def _set_rates(
    optimizer: torch.optim.Optimizer, step: int, steps: int, rate: float, *, waits: bool
) -> None:
    """Warm up and follow a cosine; a pretrained encoder starts later, with a warm-up of its own."""
    warmup = max(1, round(WARMUP_SHARE * steps))
    delay = max(1, round(DECODER_SHARE * steps)) if waits else 0
    for group in optimizer.param_groups:
        now = learning_rate_at(step, steps, rate, warmup) * group["factor"]
        if group["encoder"]:
            now *= min(1.0, max(0.0, (step - delay) / warmup))
        group["lr"] = now


def segmentation_loss(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return cross-entropy plus soft Dice loss of the classes but the background.

    Isensee et al., "nnU-Net" (2021), doi:10.1038/s41592-020-01008-z; Dice over the whole batch.

    Parameters
    ----------
    logits
        ``B K *spatial``.
    classes
        ``B *spatial``, whole numbers below K.
    """
    chance = logits.softmax(dim=1)
    truth = nn.functional.one_hot(classes, logits.shape[1]).movedim(-1, 1).to(chance.dtype)
    axes = (0, *range(2, logits.ndim))
    both = (chance * truth).sum(axes)
    dice = (2 * both + 1) / (chance.sum(axes) + truth.sum(axes) + 1)
    return nn.functional.cross_entropy(logits, classes) + 1 - dice[1:].mean()


def validation_score(model: Backbone, setting: Setting, check: Sequence[Example]) -> float:
    """Return the mean IoU over the classes, all examples counted together."""
    found = [(predict_classes(model, setting, e.image), e.classes) for e in check]
    return mean_iou(
        np.concatenate([p.ravel() for p, _ in found]),
        np.concatenate([c.ravel() for _, c in found]),
        setting.classes,
    )


def mean_iou(predicted: np.ndarray, truth: np.ndarray, classes: int) -> float:
    """Return the mean intersection over union of the classes but the background.

    A class that neither holds does not count; 1 where that leaves none.
    """
    found = []
    for one in range(1, classes):
        there, wanted = predicted == one, truth == one
        union = np.count_nonzero(there | wanted)
        if union:
            found.append(np.count_nonzero(there & wanted) / union)
    return float(np.mean(found)) if found else 1.0


@torch.no_grad()
def predict_classes(
    model: Backbone,
    setting: Setting,
    image: np.ndarray,
    *,
    mirrored: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Return the class of each pixel of a normalised frame ``C *spatial``, by blended tiles.

    Parameters
    ----------
    model, setting
        The fine-tuned network.
    image
        The frame.
    mirrored
        Take the mean over the four orientations that mirrors along y and x make, as nnU-Net does
        when it predicts (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).
    tick
        Called before each batch of tiles; what it raises ends the prediction.
    """
    model.eval()
    spatial, tile = image.shape[1:], setting.tile
    ends = [(0, max(0, t - n)) for n, t in zip(spatial, tile, strict=True)]
    padded = np.pad(image, [(0, 0), *ends], mode="symmetric")
    total = np.zeros((setting.classes, *padded.shape[1:]), np.float32)
    weight = blend_weight(tile)
    places = tiles(padded.shape[1:], tile, [int(t * OVERLAP) for t in tile])
    for first in range(0, len(places), setting.batch_size):
        tick()
        some = places[first : first + setting.batch_size]
        batch = torch.from_numpy(np.stack([padded[(slice(None), *box)] for box in some]))
        batch = batch.to(setting.device)
        for axes in MIRRORS if mirrored else MIRRORS[:1]:
            with torch.autocast(
                setting.device.type, setting.autocast, enabled=setting.autocast is not None
            ):
                logits = model(batch.flip(axes))
            chances = logits.float().softmax(dim=1).flip(axes).cpu().numpy()
            for box, chance in zip(some, chances, strict=True):
                total[(slice(None), *box)] += chance * weight
    inside = tuple(slice(0, n) for n in spatial)
    best: np.ndarray = total[(slice(None), *inside)].argmax(axis=0).astype(np.uint8)
    return best
