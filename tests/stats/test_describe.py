"""Descriptive numbers against their definitions, written another way."""

import math
from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats as scipy_stats
from support.scores import by_seed

from kdbench.stats import (
    SMALLEST_GAP,
    budget_curve,
    gap_recovered,
    iqm,
    performance_profile,
    probability_of_improvement,
)

# -- the middle half


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 30])
def test_iqm_is_the_mean_without_the_outer_quarters(n):
    values = np.random.default_rng(n).normal(size=n)
    cut = n // 4
    assert iqm(values) == pytest.approx(np.sort(values)[cut : n - cut].mean())


def test_iqm_is_that_of_rliable():
    """rliable's `aggregate_iqm`, over runs and tasks together."""
    values = np.random.default_rng(0).normal(size=(5, 4))
    assert iqm(values) == scipy_stats.trim_mean(values, proportiontocut=0.25, axis=None)


def test_iqm_does_not_see_outliers_or_missing_runs():
    assert iqm([1.0, 2.0, 3.0, 4.0]) == iqm([-99.0, 2.0, 3.0, 99.0]) == 2.5
    assert iqm([1.0, math.nan, 2.0, 3.0, 4.0]) == 2.5
    assert iqm({7: 1.0, 3: math.nan, 5: 2.0, 8: 3.0, 9: 4.0}) == 2.5
    assert math.isnan(iqm([]))
    assert math.isnan(iqm([math.nan]))


# -- the share above


def test_performance_profile_counts():
    values, thresholds = np.random.default_rng(1).normal(size=(5, 4)), np.linspace(-3, 3, 13)
    result = performance_profile(values, thresholds)
    assert list(result) == [sum(v > t for v in values.ravel()) / 20 for t in thresholds]
    assert np.all(np.diff(result) <= 0)


def test_performance_profile_is_above_and_not_at():
    assert list(performance_profile([1.0, 2.0], [0.5, 1.0, 2.0])) == [1, 0.5, 0]
    assert list(performance_profile([1.0, math.nan], [0.5])) == [1]
    assert np.isnan(performance_profile([], [0.5, 1.0])).tolist() == [True, True]


# -- winning


def test_probability_of_improvement_of_all_pairs_is_that_of_rliable():
    """rliable's `probability_of_improvement` in one task: Mann and Whitney's U / (n m)."""
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 6, 7), rng.integers(0, 6, 5)
    expected = scipy_stats.mannwhitneyu(a, b).statistic / 35
    assert probability_of_improvement(by_seed(a), by_seed(b), paired=False) == pytest.approx(
        expected
    )
    by_hand = sum((x > y) + (x == y) / 2 for x, y in product(a, b)) / 35
    assert expected == pytest.approx(by_hand)


def test_probability_of_improvement_by_seed():
    a = {0: 3.0, 1: 2.0, 2: 1.0, 3: 5.0, 9: 0.0}
    b = {3: 5.0, 2: 2.0, 1: 1.0, 0: 1.0, 8: 9.0, 9: math.nan}
    assert probability_of_improvement(a, b, paired=True) == (1 + 1 + 0 + 0.5) / 4
    shifted = {s: v + 0.01 for s, v in a.items()}
    assert probability_of_improvement(shifted, a, paired=True) == 1
    assert 0.5 < probability_of_improvement(shifted, a, paired=False) < 1


@pytest.mark.parametrize("paired", [False, True])
def test_win_probabilities_of_both_sides_sum_to_one(paired):
    rng = np.random.default_rng(3)
    a, b = by_seed(rng.integers(0, 4, 6)), by_seed(rng.integers(0, 4, 6))
    both = probability_of_improvement(a, b, paired) + probability_of_improvement(b, a, paired)
    assert both == pytest.approx(1)
    assert probability_of_improvement(a, a, paired) == 0.5
    assert math.isnan(probability_of_improvement({}, b, paired))


# -- the way to the teacher


def test_gap_recovered():
    assert gap_recovered(91.0, 90.0, 94.0) == 0.25
    assert gap_recovered(89.0, 90.0, 94.0) == -0.25
    assert gap_recovered(95.0, 90.0, 94.0) == 1.25
    assert gap_recovered(90.0, 90.0, 90.0 + SMALLEST_GAP) == 0


@pytest.mark.parametrize("teacher", [90.9, 90.0, 80.0, math.nan])
def test_no_share_of_a_small_gap(teacher):
    assert math.isnan(gap_recovered(90.5, 90.0, teacher))


# -- the budget


@pytest.mark.parametrize("b", [1, 2, 5, 9])
def test_budget_curve_is_the_mean_best_of_all_subsets(b):
    values = np.random.default_rng(b).integers(0, 5, b).astype(float)  # with ties
    expected = [np.mean([max(c) for c in combinations(values, n)]) for n in range(1, b + 1)]
    assert budget_curve(values, "random") == pytest.approx(expected)


def test_budget_curve_ends_at_the_mean_and_the_best():
    values = np.random.default_rng(4).normal(size=300)
    result = budget_curve(values, "random")
    assert result[0] == pytest.approx(values.mean())
    assert result[-1] == pytest.approx(values.max())
    assert np.all(np.diff(result) >= 0)
    assert result == pytest.approx(budget_curve(values[::-1], "random"))
    assert len(budget_curve([], "random")) == 0


def test_budget_curve_is_unbiased():
    """The best of 3 of 8 uniform draws is 3/4 on average."""
    rng = np.random.default_rng(5)
    result = np.mean([budget_curve(rng.uniform(size=8), "random")[2] for _ in range(4000)])
    assert result == pytest.approx(3 / 4, abs=0.01)


@pytest.mark.parametrize("sampler", ["tpe", "grid", "Random", ""])
def test_budget_curve_needs_random_trials(sampler):
    with pytest.raises(ValueError, match="random trials"):
        budget_curve([1.0, 2.0], sampler)


def test_budget_curve_needs_every_score():
    with pytest.raises(ValueError, match="every trial"):
        budget_curve([1.0, math.nan], "random")
