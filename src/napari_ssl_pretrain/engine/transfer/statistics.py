"""What the scores say: paired gains with their intervals, labels saved, one honest sentence."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_ssl_pretrain.engine.transfer.blocks import half_interval, seed_means
from napari_ssl_pretrain.spec.transfer import CONTROL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_ssl_pretrain.engine.transfer.records import Score

RESAMPLES = 10_000
CONFIDENCE = 0.95
FEW = 3
"""Fewer seeds, or test images, than this ask for a caution."""

LITTLE = 0.2
"""Under this mean IoU, training from scratch has hardly learnt."""

FEW_IMAGES = 4
"""Fewer test images than this are scored in parts, which are not independent."""

Word = Literal["helps", "no difference", "hurts"]


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % bootstrap interval.

    Attributes
    ----------
    mean
        Mean of the paired differences; NaN where there are none.
    low, high
        Ends of the interval; NaN where a single difference allows none.
    seeds, units, images
        How many were compared; a test image is one unit or several.
    """

    mean: float
    low: float
    high: float
    seeds: int = 0
    units: int = 0
    images: int = 0

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)


UNCHECKED = (
    "The control, the same weights shuffled, was not compared: a part of the gain may come from "
    "the size of the weights alone."
)

NOTHING = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Verdict:
    """The answer.

    Attributes
    ----------
    word
        What the interval allows to say.
    sentence
        The same with its numbers.
    gain
        Paired gain in IoU over all numbers of labels.
    caution
        What the interval cannot say; empty where nothing is to be added.
    over_control
        Paired gain in IoU over the same weights shuffled; without numbers where that was not
        compared.
    """

    word: Word
    sentence: str
    gain: Interval
    caution: str = ""
    over_control: Interval = NOTHING


@dataclass(frozen=True)
class Saved:
    """How many labels pretraining saves at one number of labels.

    Attributes
    ----------
    n_labels
        Labelled images that the pretrained network learnt from.
    score
        What it reaches.
    needed
        Labelled images that scratch needs for that, by interpolation; None where it does not
        reach it with any number tried, or reaches it with the smallest one already.
    reached
        Whether scratch needs less than the smallest number tried, a number within, or more than
        the largest.
    tried
        The smallest and the largest number that scratch was trained with.
    """

    n_labels: int
    score: float
    needed: float | None
    reached: Literal["below", "within", "above"]
    tried: tuple[int, int]

    @property
    def sentence(self) -> str:
        """The same for the user."""
        with_them = f"With {_count(self.n_labels, 'label')}"
        if self.reached == "above":
            return (
                f"{with_them} it scores more than scratch with {self.tried[1]}: it saves at "
                f"least {self.tried[1] - self.n_labels} of more than {self.tried[1]} labels."
                if self.tried[1] > self.n_labels
                else f"{with_them} scratch would need more than {self.tried[1]} for that score."
            )
        if self.needed is None or self.needed < self.n_labels + 0.5:
            return f"{with_them} it saves no labels."
        needed = math.floor(self.needed + 0.5)  # at least one more than there are
        return (
            f"{with_them} it scores what scratch reaches with about {needed}: "
            f"it saves about {needed - self.n_labels} of {needed} labels."
        )


def paired_gain(
    scores: Sequence[Score],
    n_labels: int | None = None,
    arm: str = "pretrained",
    base: str = "scratch",
    metric: str = "iou",
) -> Interval:
    """Return how much better one arm scores than another, in pairs of the same seed and unit.

    The interval is the 2.5th to 97.5th percentile of a bootstrap that draws seeds and test
    units anew, each with replacement and independently of one another, so that both count as
    chance (the pigeonhole bootstrap; Owen, Annals of Applied Statistics 1, 2007, shows that it
    errs on the wide side). Its random numbers are fixed.

    Parameters
    ----------
    scores
        All scores.
    n_labels
        Number of labels; None for the mean over all of them, paired as well.
    arm, base
        What is compared with what.
    metric
        ``iou``, ``dice`` or ``boundary_f``.
    """
    table = _differences(scores, n_labels, arm, base, metric)
    if not table.size:
        return NOTHING
    mean = float(table.mean())
    seeds, units = table.shape
    images = len({s.image for s in scores if n_labels in {None, s.n_labels}})
    if table.size == 1:
        return Interval(mean, math.nan, math.nan, seeds, units, images)
    rng = np.random.default_rng(0)
    weights = [
        rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n if n > 1 else np.ones((1, 1))
        for n in (seeds, units)
    ]
    means = ((weights[0] @ table) * weights[1]).sum(1)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(mean, min(float(low), mean), max(float(high), mean), seeds, units, images)


def _differences(
    scores: Sequence[Score], n_labels: int | None, arm: str, base: str, metric: str
) -> np.ndarray:
    """Return a table of differences, seeds by units; of those that every one has.

    The numbers of labels are averaged first. A comparison that was ended early lacks some: then
    the seeds are used that have all units at most numbers of labels.
    """
    by_arm: dict[str, dict[tuple[int, int, str], float]] = {arm: {}, base: {}}
    for score in scores:
        if score.arm in by_arm and n_labels in {None, score.n_labels}:
            key = (score.n_labels, score.seed, score.unit)
            by_arm[score.arm][key] = getattr(score, metric)
    pairs = {key: by_arm[arm][key] - by_arm[base][key] for key in by_arm[arm].keys() & by_arm[base]}
    counts = sorted({key[0] for key in pairs})
    units = sorted({key[2] for key in pairs})
    seeds = sorted({key[1] for key in pairs})
    rows = [
        [[pairs.get((n, seed, unit), math.nan) for n in counts] for unit in units] for seed in seeds
    ]
    if not rows:
        return np.empty((0, 0))
    cube = np.array(rows)
    whole = np.isfinite(cube).all((1, 2))
    if whole.any():
        return np.asarray(cube[whole].mean(2))
    return np.asarray(np.nanmean(cube, 2)[:, np.isfinite(cube).any((0, 2))])


def mean_score(scores: Iterable[Score], arm: str, n_labels: int, metric: str = "iou") -> float:
    """Return the mean score of an arm over seeds and units; NaN where there is none."""
    found = [getattr(s, metric) for s in scores if s.arm == arm and s.n_labels == n_labels]
    return float(np.mean(found)) if found else math.nan


def counts_of(scores: Iterable[Score]) -> list[int]:
    """Return the numbers of labels that were tried, rising."""
    return sorted({score.n_labels for score in scores})


def labels_saved(scores: Sequence[Score], metric: str = "iou") -> tuple[Saved, ...]:
    """Return how many labels scratch needs to score as the pretrained network does.

    Scratch's mean score is interpolated linearly in the logarithm of the number of labels; the
    first place where it reaches the score counts.

    Parameters
    ----------
    scores
        All scores.
    metric
        ``iou``, ``dice`` or ``boundary_f``.
    """
    tried = [n for n in counts_of(scores) if math.isfinite(mean_score(scores, "scratch", n))]
    if not tried:
        return ()
    line = [mean_score(scores, "scratch", n, metric) for n in tried]
    saved = []
    for n in counts_of(scores):
        score = mean_score(scores, "pretrained", n, metric)
        if math.isfinite(score):
            needed, reached = _needed(score, tried, line)
            saved.append(Saved(n, score, needed, reached, (tried[0], tried[-1])))
    return tuple(saved)


def _needed(
    score: float, counts: list[int], line: list[float]
) -> tuple[float | None, Literal["below", "within", "above"]]:
    if line[0] >= score:
        return (float(counts[0]), "within") if line[0] == score else (None, "below")
    for k in range(1, len(counts)):
        if line[k] >= score:
            share = (score - line[k - 1]) / (line[k] - line[k - 1])
            low, high = math.log(counts[k - 1]), math.log(counts[k])
            return math.exp(low + share * (high - low)), "within"
    return None, "above"


def verdict(scores: Sequence[Score]) -> Verdict:
    """Return what the paired gain in IoU over all numbers of labels allows to say.

    Where the control does better than scratch, a gain counts as help only if it is one over the
    control as well: the same weights shuffled within each tensor, which have the sizes of
    trained weights and know nothing.
    """
    gain = paired_gain(scores)
    counts = counts_of(scores)
    if not gain.seeds:
        return Verdict("no difference", "No pair of networks was compared to the end.", gain)
    caution = " ".join(filter(None, (_caution(gain), _caution_of_scores(scores, counts))))
    much = f"{points(gain.mean)} IoU points"
    what = f"training from scratch with {_joined(counts)} label{'s' * (counts != [1])}"
    if not gain.known:
        sentence = f"No verdict from one test image and one seed: {much} over {what}."
        return Verdict("no difference", sentence, gain, caution)
    much = f"{much} (95 % interval {_between(gain)})"
    if gain.low > 0:
        return _checked_by_control(scores, gain, f"{much} over {what}", caution)
    if gain.high < 0:
        return Verdict("hurts", f"Pretraining hurts: {much} against {what}.", gain, caution)
    return Verdict("no difference", f"No difference seen: {much} over {what}.", gain, caution)


def _checked_by_control(
    scores: Sequence[Score], gain: Interval, much: str, caution: str
) -> Verdict:
    """Return the verdict on a gain over scratch: help, if it is one over the control as well."""
    control = gain_over_control(scores)
    if not control.known:
        caution = f"{caution} {UNCHECKED}".strip()
        return Verdict("helps", f"Pretraining helps: {much}.", gain, caution, control)
    more = f"{points(control.mean)} ({_between(control)}) over the same weights shuffled"
    # shuffled weights that do no better than scratch show that sizes alone gain nothing here
    idle = paired_gain(scores, arm=CONTROL).mean <= 0
    if idle or control.low > 0:
        return Verdict("helps", f"Pretraining helps: {much}, and {more}.", gain, caution, control)
    sentence = f"No help seen: {much}, but {more}, which know nothing."
    return Verdict("no difference", sentence, gain, caution, control)


def gain_over_control(scores: Sequence[Score]) -> Interval:
    """Return the gain over the shuffled weights, with an interval that few seeds do not narrow.

    A bootstrap of three seeds says that there is a gain where all three agree, as they do by
    luck one time in eight. So Student's t over the seeds is taken where it is wider. Chance is
    taken from the whole design, seeds as its blocks, in which scratch too is trained anew with
    each seed (the analysis of variance of randomised blocks; Fisher, "The design of
    experiments", 1935).
    """
    gain = paired_gain(scores, base=CONTROL)
    means = seed_means(scores, ("scratch", "pretrained", CONTROL))
    half = half_interval(means, CONFIDENCE)
    if not math.isfinite(half):
        return gain
    low, high = min(gain.low, gain.mean - half), max(gain.high, gain.mean + half)
    return dataclasses.replace(gain, low=low, high=high)


def _between(interval: Interval) -> str:
    return f"{points(interval.low)} to {points(interval.high)}"


def _caution(gain: Interval) -> str:
    """Say what so few seeds or units leave open."""
    if gain.seeds == 1 and gain.images == 1:
        return "One seed and one test image: the difference may be chance whatever the interval."
    return " ".join(filter(None, (_caution_of_seeds(gain), _caution_of_images(gain))))


def _caution_of_scores(scores: Sequence[Score], counts: Sequence[int]) -> str:
    """Say when scratch has hardly learnt: then a gain may be a guess that happens to fit."""
    lowest = min(mean_score(scores, "scratch", n) for n in counts)
    if not lowest < LITTLE:
        return ""
    return (
        f"Scratch scores only {100 * lowest:.0f} IoU points: the fine-tuning was too short, or "
        "the labels too few, for it to learn; the difference then says little."
    )


def _caution_of_seeds(gain: Interval) -> str:
    if gain.seeds == 1:
        return (
            "One seed: the interval tells nothing of another choice of labelled images or of "
            "chance in training."
        )
    return f"Only {gain.seeds} seeds: the interval is rough." * (gain.seeds < FEW)


def _caution_of_images(gain: Interval) -> str:
    parts = f", scored in {gain.units} parts" * (gain.units > gain.images)
    alike = " Parts of one image are not independent: the interval may be too narrow." * bool(parts)
    if gain.images == 1:
        return f"One test image{parts}: the interval tells nothing of other test images.{alike}"
    if gain.images < FEW:
        return f"Only {gain.images} test images{parts}: the interval is rough.{alike}"
    if gain.images < FEW_IMAGES and parts:
        return f"Only {gain.images} test images{parts}.{alike}"
    return ""


def points(share: float) -> str:
    """Return a share as points with a sign; what rounds to zero has none."""
    text = f"{100 * share:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _joined(counts: Sequence[int]) -> str:
    words = [str(n) for n in counts]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
