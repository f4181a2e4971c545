"""What further seeds would give: the next one's score, and how many tell apart."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from support.scores import by_seed, difference

from kdbench.stats import (
    Analysis,
    judge,
    lies_within,
    mean_interval,
    paired_difference,
    pool,
    prediction_interval,
    seeds_for_equality,
    seeds_needed,
    seeds_to_tell_apart,
)

ANALYSIS = Analysis(margin=0.2)


# -- one further seed


@pytest.mark.parametrize("n", [2, 3, 10])
def test_prediction_interval_by_hand(n):
    values = np.random.default_rng(n).normal(90, 0.3, n)
    result = prediction_interval(by_seed(values), level=0.9)
    spread = values.std(ddof=1) * math.sqrt(1 + 1 / n)
    low, high = scipy_stats.t.interval(0.9, n - 1, values.mean(), spread)
    assert (result.low, result.high) == pytest.approx((low, high))
    assert (result.mean, result.n) == (pytest.approx(values.mean()), n)


def test_prediction_is_wider_than_the_mean():
    scores = by_seed([90.0, 90.4, 90.1])
    assert prediction_interval(scores).half == pytest.approx(2 * mean_interval(scores).half)


def test_lies_within():
    result = prediction_interval(by_seed([90.0, 90.4, 90.1]))
    assert lies_within(result, result.mean)
    assert lies_within(result, result.low)
    assert lies_within(result, result.high)
    assert lies_within(result, result.high + 0.01) is False
    assert lies_within(result, result.low - 0.01) is False


def test_a_steady_series_holds_its_own_number():
    result = prediction_interval(by_seed([0.1 + 0.2] * 3))
    assert result.low == result.high
    assert lies_within(result, 0.3)
    assert lies_within(result, 0.3001) is False


@pytest.mark.parametrize("values", [[], [90.0]])
def test_nothing_is_said_below_two_seeds(values):
    result = prediction_interval(by_seed(values))
    assert math.isnan(result.low)
    assert math.isnan(result.high)
    assert lies_within(result, 90.0) is None
    assert lies_within(prediction_interval(by_seed([1.0, 2.0])), math.nan) is None


# -- how many would tell apart


def test_seeds_to_tell_apart():
    values = np.array([0.1, 0.3, -0.1, 0.4, 0.2])
    effect = values.mean() / values.std(ddof=1)
    for sign in (1, -1):
        result = seeds_to_tell_apart(difference(sign * values), ANALYSIS, comparisons=4)
        assert result == seeds_needed(effect, comparisons=4)
    one, many = (seeds_to_tell_apart(difference(values), ANALYSIS, m) for m in (1, 20))
    assert one < many
    strict = Analysis(margin=0.2, alpha=0.01, power=0.95)
    assert seeds_to_tell_apart(difference(values), strict, 1) == seeds_needed(effect, 0.01, 0.95)


def test_many_seeds_tell_a_small_difference_apart_and_too_many_are_none():
    values = np.array([-1.0, 0.0, 1.0])
    assert seeds_to_tell_apart(difference(values), ANALYSIS, 1) is None  # no difference
    assert seeds_to_tell_apart(difference(values + 0.1), ANALYSIS, 1) == seeds_needed(0.1)
    assert seeds_to_tell_apart(difference(values + 0.01), ANALYSIS, 1) is None  # > 10,000


def test_three_seeds_at_least():
    assert seeds_needed(1000.0) == 3
    assert seeds_for_equality(1000.0) == 3
    assert seeds_to_tell_apart(difference([10.0, 10.01, 9.99]), ANALYSIS, 1) == 3


@pytest.mark.parametrize("comparisons", [1, 5, 9])
def test_a_steady_difference_needs_its_sign_flips(comparisons):
    result = seeds_to_tell_apart(difference([0.5] * 3), ANALYSIS, comparisons)
    below, enough = (paired_difference(by_seed([0.5] * n), by_seed([0.0] * n)).p * comparisons
                     for n in (result - 1, result))  # fmt: skip
    assert enough <= 0.05 < below


@pytest.mark.parametrize("values", [[], [1.0], [0.0] * 4])
def test_no_plan_from_nothing(values):
    assert seeds_to_tell_apart(difference(values), ANALYSIS, 1) is None


def test_plan_over_several_settings():
    values = [np.array([0.1, 0.3, -0.1, 0.4]), np.array([0.2, 0.1, 0.0, 0.2])]
    shared = pool({str(k): difference(v) for k, v in enumerate(values)}, shared=True)
    by_seed = difference(np.mean(values, axis=0))
    assert seeds_to_tell_apart(shared, ANALYSIS, 3) == seeds_to_tell_apart(by_seed, ANALYSIS, 3)


# -- equality, and the moderated test


@pytest.mark.parametrize(("common", "test"), [(None, "paired-t"), (1.0, "moderated-t")])
@pytest.mark.parametrize("effect", [0.0, 0.4])
def test_seeds_for_equality_have_the_power_of_simulated_studies(common, test, effect):
    margin, m = 1.5, 5
    needed = seeds_for_equality(margin, effect, comparisons=m, common=common)
    analysis = Analysis(margin=margin, test=test, correction="bonferroni")
    rng = np.random.default_rng(7)
    shares = []
    for n in (needed - 1, needed):
        # Each method is one of five alike, so all of them count.
        values = effect + rng.normal(size=(120, m, n))
        said = [
            "equal" in v.text
            for study in values
            for v in judge(
                {str(k): difference(x) for k, x in enumerate(study)}, analysis
            ).verdicts.values()
        ]
        shares.append(np.mean(said))
    assert shares[1] == pytest.approx(0.8, abs=0.1)
    assert shares[0] < 0.82


def test_no_number_of_seeds_calls_a_margins_difference_equal():
    assert seeds_for_equality(1.0, 1.0) is None
    assert seeds_for_equality(math.nan) is None
    assert seeds_for_equality(1e-4) is None


def test_the_moderated_test_needs_fewer_seeds():
    for effect in (1.5, 2.5, 6.0):
        assert seeds_needed(effect, comparisons=19, common=1.0) < seeds_needed(
            effect, comparisons=19
        )
    # A family that is far noisier than the method lends it nothing.
    assert seeds_needed(2.0, comparisons=19, common=25.0) > seeds_needed(2.0, comparisons=19)
