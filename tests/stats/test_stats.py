"""Statistics against scipy, statsmodels, hand formulas, published tables, and simulation."""

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired
from support.scores import by_seed

from kdbench import stats
from kdbench.stats import Analysis, adjust, best_set, detectable, judge, paired_difference

A = {0: 97.2, 1: 96.9, 2: 97.5, 3: 97.1, 4: 97.0}
B = {0: 96.8, 1: 96.7, 2: 96.9, 3: 97.0, 4: 96.3}


# -- one difference


def test_paired_difference_by_hand():
    d = np.array([0.4, 0.2, 0.6, 0.1, 0.7])
    result = paired_difference(A, B)
    half = 2.7764451051977987 * d.std(ddof=1) / math.sqrt(5)  # t(0.975, 4), from a table
    assert result.mean == pytest.approx(0.4)
    assert (result.low, result.high) == pytest.approx((0.4 - half, 0.4 + half))
    assert result.half == pytest.approx(half)
    assert (result.n, result.df, result.seeds) == (5, 4, (0, 1, 2, 3, 4))
    assert result.sd == pytest.approx(d.std(ddof=1))


def test_p_equals_scipy():
    rng = np.random.default_rng(0)
    for n in (2, 3, 5, 10):
        a, b = rng.normal(size=(2, n))
        expected = scipy_stats.ttest_rel(a, b)
        result = paired_difference(by_seed(a), by_seed(b), level=0.9)
        assert result.p == pytest.approx(expected.pvalue)
        low, high = expected.confidence_interval(0.9)
        assert (result.low, result.high) == pytest.approx((low, high))


def test_pairing_is_by_seed_and_not_by_order():
    shuffled = {s: A[s] for s in (3, 0, 4, 2, 1)}
    assert paired_difference(shuffled, B) == paired_difference(A, B)
    renamed = {s: A[(s + 1) % 5] for s in A}
    other = paired_difference(renamed, B)
    assert other.mean == pytest.approx(paired_difference(A, B).mean)
    assert other.sd != pytest.approx(paired_difference(A, B).sd)


def test_only_common_seeds_are_compared():
    result = paired_difference({0: 1.0, 1: 2.5, 2: 3.0, 7: 9.0}, {0: 0.0, 1: 1.0, 2: math.nan})
    assert result.seeds == (0, 1)
    assert result.values == (1.0, 1.5)
    assert result.mean == 1.25


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_seeds_give_no_interval(n):
    result = paired_difference(by_seed([1.0] * n), by_seed([0.5] * n))
    assert result.n == n
    assert math.isnan(result.low)
    assert math.isnan(result.high)
    assert math.isnan(result.p)
    assert math.isnan(result.mean) if n == 0 else result.mean == 0.5
    assert math.isnan(stats.equality_p(result, 0.2))


def test_identical_scores():
    result = paired_difference(A, dict(A))
    assert (result.mean, result.low, result.high, result.sd, result.p) == (0, 0, 0, 0, 1)
    assert result.constant
    assert stats.equality_p(result, 0.2) == 2**-5
    family = judge({"twin": result}, Analysis(margin=0.2))
    assert family.verdicts["twin"].text == "practically equal"


@pytest.mark.parametrize(("n", "p"), [(3, 0.25), (5, 0.0625), (10, 2**-9)])
def test_equal_differences_are_not_certainty(n, p):
    """One test image more on every seed: t would be infinite and p 0."""
    base = {s: 90 + s / 7 for s in range(n)}
    result = paired_difference({s: v + 100 / 360 for s, v in base.items()}, base)
    assert result.constant
    assert result.p == p
    assert result.low == result.high == pytest.approx(100 / 360)
    text = judge({"m": result}, Analysis(margin=0.2)).verdicts["m"].text
    assert text == ("better" if p <= 0.05 else f"cannot tell at {n} seeds")


def test_mean_interval():
    result = stats.mean_interval(A)
    low, high = scipy_stats.t.interval(
        0.95, 4, np.mean(list(A.values())), scipy_stats.sem(list(A.values()))
    )
    assert (result.low, result.high) == pytest.approx((low, high))
    one = stats.mean_interval({3: 5.0})
    assert one.mean == 5.0
    assert one.n == 1
    assert math.isnan(one.low)
    assert math.isnan(stats.mean_interval({}).mean)
    same = stats.mean_interval(by_seed([0.97] * 4))
    assert same.low == same.high == pytest.approx(0.97)


def test_interval_at_another_level():
    result = paired_difference(A, B)
    assert stats.interval_at(result, 0.95) == pytest.approx((result.low, result.high))
    wide = paired_difference(A, B, level=0.99)
    assert stats.interval_at(result, 0.99) == pytest.approx((wide.low, wide.high))


# -- families


def test_holm_by_hand():
    assert adjust([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust([]) == []


@pytest.mark.parametrize("correction", sorted(stats.CORRECTIONS))
def test_corrections_equal_statsmodels(correction):
    ps = np.random.default_rng(1).uniform(0, 0.2, 12)
    expected = multipletests(ps, method=correction)[1]
    assert adjust(list(ps), correction) == pytest.approx(list(expected))


def test_untested_members_still_count():
    assert adjust([0.02, math.nan, math.nan])[0] == pytest.approx(0.06)
    assert math.isnan(adjust([0.02, math.nan])[1])


@pytest.mark.parametrize("correction", sorted(stats.CORRECTIONS))
def test_adjusted_interval_and_corrected_p_agree(correction):
    rng = np.random.default_rng(2)
    analysis = Analysis(margin=0.2, correction=correction)
    for _ in range(20):
        base = rng.normal(size=6)
        shifts = rng.choice([0.0, 0.5, 1.0, 3.0], size=5)
        result = {
            str(k): paired_difference(by_seed(base + s + rng.normal(0, 0.5, 6)), by_seed(base))
            for k, s in enumerate(shifts)
        }
        for verdict in judge(result, analysis).verdicts.values():
            excluded = verdict.low > 0 or verdict.high < 0
            assert excluded == (verdict.p_adjusted <= 0.05) == verdict.significant


def test_equality_equals_statsmodels():
    a, b = np.array(list(A.values())), np.array(list(B.values()))
    expected = ttost_paired(a, b, -0.9, 0.9)[0]
    assert stats.equality_p(paired_difference(A, B), 0.9) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("offsets", "words"),
    [
        ([1.0, 1.1, 0.9, 1.0, 1.05], "better"),
        ([-1.0, -1.1, -0.9, -1.0, -1.05], "worse"),
        ([0.01, -0.02, 0.015, -0.01, 0.0], "practically equal"),
        ([0.05, 0.06, 0.04, 0.05, 0.055], "better but practically equal"),
        ([-0.05, -0.06, -0.04, -0.05, -0.055], "worse but practically equal"),
        ([1.0, -1.0, 0.5, -0.3, 0.2], "cannot tell at 5 seeds"),
        ([1.0, 1.1], "no verdict below 3 seeds"),
        ([], "no verdict below 3 seeds"),
    ],
)
def test_words(offsets, words):
    scores = {s: B[s] + o for s, o in enumerate(offsets)}
    family = judge({"m": paired_difference(scores, B)}, Analysis(margin=0.2))
    assert family.verdicts["m"].text == words


def test_adding_a_method_changes_no_raw_p():
    rng = np.random.default_rng(3)
    base = by_seed(rng.normal(size=5))
    result = {k: paired_difference(by_seed(rng.normal(size=5)), base) for k in "abcd"}
    few = judge({k: result[k] for k in "abc"}, Analysis(margin=0.2))
    more = judge(result, Analysis(margin=0.2))
    for k in "abc":
        assert few.verdicts[k].difference.p == more.verdicts[k].difference.p
        assert more.verdicts[k].p_adjusted >= few.verdicts[k].p_adjusted


def test_order_of_methods_changes_nothing():
    rng = np.random.default_rng(4)
    base = by_seed(rng.normal(size=5))
    result = {k: paired_difference(by_seed(rng.normal(1, 0.5, size=5)), base) for k in "abcde"}
    one, other = (
        judge({k: result[k] for k in keys}, Analysis(margin=0.2)) for keys in ("abcde", "daceb")
    )
    assert dict(one.verdicts) == dict(other.verdicts)


def test_bad_analysis():
    with pytest.raises(ValueError, match="unknown correction 'fdr'; known: bonferroni, holm"):
        Analysis(margin=0.2, correction="fdr")
    with pytest.raises(ValueError, match="margin"):
        Analysis(margin=0.0)
    with pytest.raises(ValueError, match="alpha"):
        Analysis(margin=0.2, alpha=1.0)


# -- the best


def test_best_set_keeps_what_is_not_told_apart():
    noise = np.array([0.1, -0.2, 0.15, -0.05, 0.0])
    scores = {
        "top": by_seed(97 + noise),
        "near": by_seed(96.95 + noise[::-1]),
        "far": by_seed(90 + noise * 0.5),
        "few": {0: 99.0, 1: 99.0},
    }
    result = best_set(scores, Analysis(margin=0.2))
    assert result.best == "top"
    assert result.members == {"top", "near"}
    assert result.comparisons == 3
    backwards = best_set(dict(reversed(scores.items())), Analysis(margin=0.2))
    assert backwards.members == result.members


def test_no_best_below_three_seeds():
    result = best_set({"a": {0: 1.0, 1: 2.0}, "b": {0: 5.0, 1: 6.0}}, Analysis(margin=0.2))
    assert result.members == frozenset()
    assert result.best is None


# -- what could have been seen

TABLE = {
    1: {3: 3.26, 4: 2.13, 5: 1.68, 6: 1.43, 8: 1.16, 10: 1.00, 15: 0.78, 20: 0.66},
    5: {3: 7.32, 4: 3.72, 5: 2.63, 6: 2.11, 8: 1.60, 10: 1.33, 15: 1.00, 20: 0.84},
    10: {3: 10.4, 4: 4.71, 5: 3.16, 6: 2.46, 8: 1.81, 10: 1.48, 15: 1.10, 20: 0.91},
}


@pytest.mark.parametrize(
    ("m", "n", "effect"), [(m, n, e) for m, row in TABLE.items() for n, e in row.items()]
)
def test_detectable_against_a_table(m, n, effect):
    assert detectable(n, comparisons=m) == pytest.approx(effect, rel=0.006)


def test_detectable_has_the_power_that_statsmodels_computes():
    power = TTestPower().power(detectable(6), 6, 0.05, alternative="two-sided")
    assert power == pytest.approx(0.8, abs=1e-6)


def test_detectable_by_simulation():
    rng = np.random.default_rng(5)
    effect = detectable(5, comparisons=4)
    *_, p = stats.t_intervals(rng.normal(effect, 1, size=(20_000, 5)))
    assert np.mean(p <= 0.05 / 4) == pytest.approx(0.8, abs=0.01)


def test_detectable_needs_two_seeds():
    assert math.isnan(detectable(1))
    assert math.isfinite(detectable(2, comparisons=190))


def test_seeds_needed():
    assert stats.seeds_needed(1.0) == 10
    assert stats.seeds_needed(-1.0) == 10
    for n in (3, 5, 8):
        assert stats.seeds_needed(detectable(n) * 1.001) == n
    assert stats.seeds_needed(0.0) is None
    assert stats.seeds_needed(math.nan) is None


def test_family_counts_and_pools():
    a, b = by_seed([1.0, 2.0, 3.0, 4.5]), by_seed([2.0, 2.0, 4.0, 8.0])
    zero = by_seed([0.0] * 4)
    gone = paired_difference({}, zero)
    analysis = Analysis(margin=0.2)
    result = {"a": paired_difference(a, zero), "b": paired_difference(b, zero), "c": gone}
    family = judge(result, analysis)
    assert (family.size, family.seeds) == (3, 4)
    sds = [np.std(list(x.values()), ddof=1) for x in (a, b)]
    assert family.sd == pytest.approx(np.mean(sds))  # the median of two
    assert family.detectable == pytest.approx(detectable(4, comparisons=3) * np.mean(sds))
    assert family.detectable_by("b") == pytest.approx(detectable(4, comparisons=3) * sds[1])
    assert math.isnan(family.detectable_by("c"))
    empty = judge({}, analysis)
    assert (empty.size, empty.seeds) == (0, 0)
    assert math.isnan(empty.detectable)


# -- by simulation


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("k", [3, 10])
def test_family_wise_error(k, n):
    """k methods without any difference, k - 1 of them against the first."""
    rng = np.random.default_rng(100 * k + n)
    trials = 4000
    scores = rng.normal(size=(trials, 1, n)) + rng.normal(size=(trials, k, n))
    *_, ps = stats.t_intervals(scores[:, 1:] - scores[:, :1])
    wrong = np.mean([min(adjust(row)) <= 0.05 for row in ps])
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


@pytest.mark.parametrize("level", [0.95, 1 - 0.05 / 9])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_coverage(n, level):
    """Fails where somebody puts a percentile bootstrap in (it covers 75, 83, 90 %)."""
    rng = np.random.default_rng(n)
    values = rng.normal(0.3, 1, size=(20_000, n))
    _, low, high, _ = stats.t_intervals(values, level)
    assert np.mean((low <= 0.3) & (high >= 0.3)) == pytest.approx(level, abs=0.006)


def test_vectors_equal_single_differences():
    rng = np.random.default_rng(9)
    values = np.vstack([rng.normal(size=(5, 4)), np.zeros(4), np.ones(4)])
    columns = stats.t_intervals(values, 0.95)
    for k, row in enumerate(values):
        one = paired_difference(by_seed(row), by_seed(np.zeros(4)))
        assert [c[k] for c in columns] == pytest.approx([one.mean, one.low, one.high, one.p])


# -- what it costs


def test_imports_nothing_heavy():
    code = (
        "import sys, kdbench.stats; "
        "print([m for m in ('torch', 'mlflow', 'scipy', 'pandas', 'statsmodels') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Analysis(margin=0.2).margin = 1.0
