"""What the scores say, beside formulas and on scores whose answer is known."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from napari_ssl_pretrain.engine.transfer import statistics as stat
from napari_ssl_pretrain.engine.transfer.records import Score


def scores_of(gains, counts=(5,), base=0.6):
    """Scores of which pretrained exceeds scratch by a table, seeds by units."""
    found = []
    for n in counts:
        for seed, row in enumerate(np.atleast_2d(gains)):
            for unit, gain in enumerate(row):
                name = f"im{unit}"
                common = base + 0.01 * unit + 0.02 * seed
                for arm, value in (("scratch", common), ("pretrained", common + gain)):
                    found.append(Score(arm, n, seed, name, name, value, value, value))
    return found


def line_of(scratch, pretrained):
    """Scores by number of labels, one seed, one unit."""
    return [
        Score(arm, n, 0, "a", "a", value, value, value)
        for arm, line in (("scratch", scratch), ("pretrained", pretrained))
        for n, value in line.items()
    ]


tables = st.builds(
    lambda seed, a, b, scale: np.random.default_rng(seed).normal(0.0, scale, (a, b)),
    st.integers(0, 999),
    st.integers(1, 5),
    st.integers(1, 9),
    st.floats(0.001, 0.1),
)


@given(tables)
@settings(max_examples=40, deadline=None)
def test_the_interval_holds_the_mean_and_is_always_the_same(table):
    scores = scores_of(table)
    gain = stat.paired_gain(scores, 5)
    assert gain.mean == pytest.approx(table.mean())
    assert (gain.seeds, gain.units) == table.shape
    assert gain.known == (table.size > 1)
    if gain.known:
        assert gain.low <= gain.mean <= gain.high
        assert table.min() - 1e-9 <= gain.low
        assert gain.high <= table.max() + 1e-9
        assert stat.paired_gain(scores[::-1], 5) == pytest.approx(gain)


@given(tables)
@settings(max_examples=20, deadline=None)
def test_turned_signs_turn_the_interval(table):
    gain, turned = (stat.paired_gain(scores_of(t), 5) for t in (table, -table))
    assert turned.mean == pytest.approx(-gain.mean)
    if gain.known:
        assert (turned.low, turned.high) == pytest.approx((-gain.high, -gain.low), abs=2e-3)


def test_one_way_it_is_the_ordinary_bootstrap():
    """One seed: as scipy's percentile bootstrap of the mean."""
    table = np.random.default_rng(1).normal(0.02, 0.05, (1, 24))
    gain = stat.paired_gain(scores_of(table), 5)
    ref = scipy_stats.bootstrap(
        (table[0],), np.mean, method="percentile", rng=2
    ).confidence_interval
    assert (gain.low, gain.high) == pytest.approx(tuple(ref), abs=2e-3)


def test_both_ways_it_is_owens_variance():
    """Crossed effects: near the variance of seeds over S plus units over U plus the rest."""
    rng = np.random.default_rng(3)
    seeds, units = 20, 25
    table = rng.normal(0, 0.03, (seeds, 1)) + rng.normal(0, 0.05, (1, units))
    gain = stat.paired_gain(scores_of(table), 5)
    expected = math.sqrt(table.mean(1).var() / seeds + table.mean(0).var() / units)
    assert (gain.high - gain.low) / (2 * 1.96) == pytest.approx(expected, rel=0.05)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(60):
        table = 0.02 + rng.normal(0, 0.02, (6, 1)) + rng.normal(0, 0.03, (6, 12))
        gain = stat.paired_gain(scores_of(table), 5)
        hits += gain.low <= 0.02 <= gain.high
    assert hits >= 50


def test_pairs_count_and_not_the_arms_apart():
    """Images differ far more than the arms do: only pairs can tell."""
    found = []
    for unit in range(8):
        for seed in range(3):
            base = 0.1 * unit + 0.05
            chance = 0.002 * (unit % 3 - 1)
            for arm, value in (("scratch", base), ("pretrained", base + 0.01 + chance)):
                found.append(Score(arm, 5, seed, f"{unit}", f"{unit}", value, value, value))
    assert stat.verdict(found).word == "helps"


@given(st.integers(1, 4), st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_no_difference_is_called_so(seeds, units):
    answer = stat.verdict(scores_of(np.zeros((seeds, units)), counts=(2, 5)))
    assert answer.word == "no difference"
    assert "0.0 IoU points" in answer.sentence


@given(st.integers(0, 200))
@settings(max_examples=25, deadline=None)
def test_shuffled_signs_are_no_difference(seed):
    """Every gain comes with its opposite: the mean is zero whatever the order."""
    half = np.abs(np.random.default_rng(seed).normal(0, 0.03, 12))
    table = np.random.default_rng(seed).permutation(np.concatenate([half, -half])).reshape(3, 8)
    assert stat.verdict(scores_of(table)).word == "no difference"


@pytest.mark.parametrize(("gain", "word"), [(0.03, "helps"), (-0.03, "hurts")])
def test_a_steady_difference_is_seen(gain, word):
    table = gain + np.random.default_rng(0).normal(0, 0.005, (3, 8))
    answer = stat.verdict(scores_of(table, counts=(2, 5, 10)))
    assert answer.word == word
    assert answer.caution == (stat.UNCHECKED if word == "helps" else "")
    assert f"Pretraining {word}" in answer.sentence
    assert "with 2, 5 and 10 labels" in answer.sentence
    sign = "+" if gain > 0 else "\N{MINUS SIGN}"
    assert f"{sign}3." in answer.sentence or f"{sign}2.9" in answer.sentence


def test_the_sentence_is_as_promised():
    answer = stat.verdict(scores_of([[0.01, 0.03, 0.02], [0.03, 0.05, 0.03]]))
    assert answer.sentence.startswith("Pretraining helps: +2.8 IoU points (95 % interval +")
    assert answer.sentence.endswith("over training from scratch with 5 labels.")


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 1), "may be chance"),
        ((1, 6), "One seed"),
        ((4, 1), "One test image"),
        ((2, 6), "Only 2 seeds"),
        ((3, 2), "Only 2 test images"),
    ],
)
def test_few_seeds_or_images_are_said(shape, said):
    answer = stat.verdict(scores_of(np.full(shape, 0.05)))
    assert said in answer.caution
    assert (answer.word == "helps") == (shape != (1, 1))


@pytest.mark.parametrize(
    ("over_control", "word", "said"),
    [
        (0.04, "helps", "and +4.0 (+4.0 to +4.0) over the same weights shuffled."),
        (0.0, "no difference", "but 0.0 (0.0 to 0.0) over the same weights shuffled, which know"),
        (-0.01, "no difference", "but \N{MINUS SIGN}1.0"),
    ],
)
def test_a_gain_that_shuffled_weights_have_too_is_no_help(over_control, word, said):
    scores = scores_of(np.full((3, 4), 0.05))
    scores += [
        dataclasses.replace(s, arm="shuffled", iou=s.iou - over_control)
        for s in scores
        if s.arm == "pretrained"
    ]
    answer = stat.verdict(scores)
    assert answer.word == word
    assert said in answer.sentence
    assert answer.gain.mean == pytest.approx(0.05)
    assert answer.over_control.mean == pytest.approx(over_control)
    assert stat.UNCHECKED not in answer.caution


def test_a_control_that_is_no_better_than_scratch_asks_for_nothing():
    scores = scores_of(np.full((3, 4), 0.05))
    scores += [
        dataclasses.replace(s, arm="shuffled", iou=s.iou - 0.01 + 0.3 * (s.seed - 1))
        for s in scores
        if s.arm == "scratch"
    ]
    answer = stat.verdict(scores)
    assert answer.over_control.low < 0 < answer.over_control.mean
    assert answer.word == "helps"


def test_three_seeds_that_agree_by_luck_do_not_pass_the_control():
    """Student's t over three seeds, beside scipy's own interval of their mean."""
    means = np.array([0.005, 0.002, 0.010])
    scores = scores_of(np.repeat(means[:, None], 6, axis=1))
    scores = [
        s if s.arm == "pretrained" else dataclasses.replace(s, arm="shuffled") for s in scores
    ]
    assert stat.paired_gain(scores, base="shuffled").low > 0
    over = stat.gain_over_control(scores)
    known = scipy_stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert (over.low, over.high) == pytest.approx(tuple(known))
    assert over.low < 0 < over.high


def test_chance_is_taken_from_all_arms_that_are_trained_anew():
    """The interval over the control, beside the least squares of a model of seeds and arms."""
    table = np.random.default_rng(3).normal([0.5, 0.53, 0.51], 0.02, (4, 3))
    arms = ("scratch", "pretrained", "shuffled")
    scores = [
        Score(arm, 5, seed, f"im{unit}", f"im{unit}", value, value, value)
        for seed, row in enumerate(table)
        for arm, value in zip(arms, row, strict=True)
        for unit in range(3)
    ]
    over = stat.gain_over_control(scores)
    design = np.zeros((12, 6))  # four seeds, then pretrained and shuffled beside scratch
    for seed, arm in np.ndindex(4, 3):
        design[3 * seed + arm, seed] = 1
        if arm:
            design[3 * seed + arm, 3 + arm] = 1
    fit, (rest,), _, _ = np.linalg.lstsq(design, table.ravel(), rcond=None)
    contrast = np.array([0, 0, 0, 0, 1, -1])
    error = np.sqrt(rest / 6 * (contrast @ np.linalg.inv(design.T @ design) @ contrast))
    half = scipy_stats.t.ppf(0.975, 6) * error
    assert over.mean == pytest.approx(contrast @ fit)
    assert (over.low, over.high) == pytest.approx((over.mean - half, over.mean + half))


def test_a_gain_without_its_control_is_cautioned():
    assert stat.UNCHECKED in stat.verdict(scores_of(np.full((3, 4), 0.05))).caution
    assert stat.UNCHECKED not in stat.verdict(scores_of(np.zeros((3, 4)))).caution


def test_one_pair_allows_no_verdict():
    answer = stat.verdict(scores_of([[0.2]]))
    assert answer.word == "no difference"
    assert answer.sentence.startswith("No verdict from one test image and one seed: +20.0 IoU")


def test_blocks_of_one_image_are_not_taken_for_images():
    found = [
        Score(arm, 1, seed, "vol", f"vol [block {b}]", value, value, value)
        for seed in range(3)
        for b in range(4)
        for arm, value in (("scratch", 0.5), ("pretrained", 0.55 + 0.001 * b))
    ]
    caution = stat.verdict(found).caution
    assert caution.startswith("One test image, scored in 4 parts: the interval tells nothing of")
    assert "are not independent" in caution


@pytest.mark.parametrize(("images", "said"), [(1, True), (2, True), (3, True), (4, False)])
def test_parts_of_few_images_are_not_called_independent(images, said):
    found = [
        Score(arm, 1, seed, f"{k}", f"{k} [block {b}]", value, value, value)
        for seed in range(3)
        for k in range(images)
        for b in range(4)
        for arm, value in (("scratch", 0.5), ("pretrained", 0.55 + 0.001 * (b + k)))
    ]
    caution = stat.verdict(found).caution
    assert ("Parts of one image are not independent" in caution) is said
    assert (f"scored in {4 * images} parts" in caution) is said


def test_few_seeds_and_few_images_are_both_said():
    caution = stat.verdict(scores_of(np.full((2, 2), 0.05))).caution
    assert "Only 2 seeds" in caution
    assert "Only 2 test images" in caution


def test_what_was_not_finished_is_left_out():
    found = scores_of(np.full((3, 4), 0.1), counts=(2, 5))
    cut = [s for s in found if not (s.seed == 2 and s.n_labels == 5 and s.arm == "pretrained")]
    gain = stat.paired_gain(cut)
    assert (gain.seeds, gain.units, gain.mean) == (2, 4, pytest.approx(0.1))
    only = [s for s in found if s.n_labels == 2 or s.arm == "scratch"]
    assert stat.paired_gain(only).mean == pytest.approx(0.1)
    assert not stat.paired_gain([]).seeds
    assert stat.verdict([]).sentence == "No pair of networks was compared to the end."


def test_the_mean_over_numbers_of_labels_is_paired_too():
    found = scores_of(np.full((2, 3), 0.1), counts=(2,)) + scores_of(np.zeros((2, 3)), counts=(5,))
    assert stat.paired_gain(found).mean == pytest.approx(0.05)
    assert stat.paired_gain(found, 2).mean == pytest.approx(0.1)
    assert stat.paired_gain(found, 2, "scratch", "pretrained").mean == pytest.approx(-0.1)


def test_labels_saved_by_interpolation():
    found = line_of({2: 0.5, 8: 0.7}, {2: 0.6, 8: 0.75})
    two, eight = stat.labels_saved(found)
    assert two.needed == pytest.approx(4.0)  # half way between 2 and 8 in logarithms
    assert two.sentence.endswith("about 4: it saves about 2 of 4 labels.")
    assert (eight.needed, eight.reached) == (None, "above")
    assert "would need more than 8" in eight.sentence


@pytest.mark.parametrize(
    ("needed", "said"),
    [
        (2.1, "it saves no labels."),
        (2.49, "it saves no labels."),
        (2.5, "with about 3: it saves about 1 of 3 labels."),
        (3.4, "with about 3: it saves about 1 of 3 labels."),
        (4.5, "with about 5: it saves about 3 of 5 labels."),
    ],
)
def test_labels_saved_are_whole(needed, said):
    saved = stat.Saved(2, 0.6, needed, "within", (2, 8))
    assert saved.sentence.endswith(said)


def test_labels_saved_beyond_what_was_tried():
    (two, *_) = stat.labels_saved(line_of({2: 0.5, 5: 0.6, 10: 0.7}, {2: 0.8, 5: 0.8, 10: 0.8}))
    assert two.sentence.endswith("it saves at least 8 of more than 10 labels.")


def test_no_labels_are_saved_by_a_network_that_is_worse():
    first, second = stat.labels_saved(line_of({2: 0.5, 8: 0.7}, {2: 0.4, 8: 0.6}))
    assert first.reached == "below"
    assert first.sentence == "With 2 labels it saves no labels."
    assert second.needed == pytest.approx(4.0)
    assert second.sentence == "With 8 labels it saves no labels."


@given(
    st.lists(st.floats(0.1, 0.9), min_size=2, max_size=5, unique=True).map(sorted),
    st.floats(0, 1),
)
def test_the_labels_needed_give_the_score_back(line, share):
    counts = [2 * 2**k for k in range(len(line))]
    score = line[0] + share * (line[-1] - line[0])
    pretrained = {counts[0]: score}
    (saved,) = stat.labels_saved(line_of(dict(zip(counts, line, strict=True)), pretrained))
    if saved.needed is None:
        assert saved.reached == "above"  # by rounding at the very end
        return
    again = np.interp(math.log(saved.needed), np.log(counts), line)
    assert again == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize(("base", "said"), [(0.1, True), (0.3, False)])
def test_a_scratch_that_has_not_learnt_is_said(base, said):
    scores = scores_of(np.full((3, 8), 0.02), base=base)
    assert ("too short" in stat.verdict(scores).caution) is said
