"""Several settings against scipy, statsmodels, and brute force."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_ind, ttost_paired
from support.scores import by_seed, difference

from kdbench import stats
from kdbench.stats import (
    Analysis,
    best_set,
    best_set_pooled,
    confirmed_by_flips,
    confirmed_equality_p,
    judge,
    judge_pooled,
    paired_difference,
    pool,
    settings_needed,
    sign_flip_p,
    wilcoxon_p,
)
from kdbench.stats.pooled import satterthwaite

ANALYSIS = Analysis(margin=0.2)


def over(*settings):
    return {f"s{k}": difference(values) for k, values in enumerate(settings)}


def normal(seed, *sizes, mean=0.3, sds=(1.0,)):
    rng = np.random.default_rng(seed)
    return [rng.normal(mean, sds[k % len(sds)], n) for k, n in enumerate(sizes)]


# -- pooling


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("n", [2, 3, 7])
def test_one_setting_pooled_is_that_setting(n, shared):
    (values,) = normal(n, n)
    one, pooled = difference(values), pool(over(values), shared, level=0.95)
    for name in ("mean", "low", "high", "sd", "se", "p", "df"):
        assert getattr(pooled, name) == pytest.approx(getattr(one, name)), name
    assert (pooled.n, pooled.constant) == (one.n, one.constant)
    assert stats.interval_at(pooled, 0.9) == pytest.approx(stats.interval_at(one, 0.9))
    assert stats.equality_p(pooled, 0.5) == pytest.approx(stats.equality_p(one, 0.5))
    families = [judge({"m": d}, ANALYSIS) for d in (one, pooled)]
    assert families[0].detectable == pytest.approx(families[1].detectable)
    assert families[0].verdicts["m"].text == families[1].verdicts["m"].text


@pytest.mark.parametrize("sizes", [(3, 3), (3, 10), (5, 2)])
def test_two_independent_settings_are_a_test_of_welch(sizes):
    """(a + b) / 2 is half of a - (-b), which Welch's test compares with 0."""
    a, b = normal(0, *sizes, sds=(1.0, 5.0))
    pooled = pool(over(a, b), shared=False, level=0.9)
    expected = scipy_stats.ttest_ind(a, -b, equal_var=False)
    low, high = expected.confidence_interval(0.9)
    assert pooled.mean == pytest.approx((a.mean() + b.mean()) / 2)
    assert (pooled.p, pooled.df) == pytest.approx((expected.pvalue, expected.df))
    assert (pooled.low, pooled.high) == pytest.approx((low / 2, high / 2))
    assert stats.interval_at(pooled, 0.9) == pytest.approx((pooled.low, pooled.high))
    equal = ttost_ind(a, -b, -2 * 0.9, 2 * 0.9, usevar="unequal")[0]
    assert stats.equality_p(pooled, 0.9) == pytest.approx(equal)
    assert pooled.n == min(sizes)
    assert pooled.sd == pytest.approx(pooled.se * math.sqrt(pooled.n))


def test_shared_seeds_are_averaged_over_the_settings():
    settings = normal(1, 6, 6, 6)
    pooled, by_seed = pool(over(*settings), shared=True), np.mean(settings, axis=0)
    expected = scipy_stats.ttest_1samp(by_seed, 0.0)
    assert pooled.values == pytest.approx(tuple(by_seed))
    assert (pooled.p, pooled.df, pooled.n) == (pytest.approx(expected.pvalue), 5, 6)
    assert (pooled.low, pooled.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert pooled.sd == pytest.approx(by_seed.std(ddof=1))
    equal = ttost_paired(by_seed, np.zeros(6), -0.9, 0.9)[0]
    assert stats.equality_p(pooled, 0.9) == pytest.approx(equal)


def test_shared_seeds_are_those_that_all_settings_have():
    a, b = {0: 1.0, 2: 2.0, 5: 3.0, 7: 9.0}, {5: 5.0, 2: 1.0, 0: 2.0, 8: 0.0}
    zero = dict.fromkeys(range(9), 0.0)
    result = {"a": paired_difference(a, zero), "b": paired_difference(b, zero)}
    pooled = pool(result, shared=True)
    assert pooled.seeds == (0, 2, 5)
    assert pooled.values == (1.5, 1.5, 4.0)
    assert pooled.settings == result
    assert pool(result, shared=False).seeds == ()


def test_independent_settings_count_the_same_whatever_their_seeds():
    a, b = normal(2, 3, 12)
    pooled = pool(over(a, b), shared=False)
    assert pooled.mean == pytest.approx((a.mean() + b.mean()) / 2)


def test_a_steady_setting_adds_no_variance():
    (values,) = normal(3, 5)
    pooled, one = pool(over(values, [0.5] * 5), shared=False), difference(values)
    assert pooled.mean == pytest.approx((one.mean + 0.5) / 2)
    assert (pooled.se, pooled.df) == (pytest.approx(one.se / 2), pytest.approx(4))


@pytest.mark.parametrize("shared", [False, True])
def test_steady_differences_are_not_certainty(shared):
    up = [np.arange(3) / 7 + 90 + c for c in (100 / 360, 200 / 360)]
    base = by_seed(np.arange(3) / 7 + 90)
    result = {str(k): paired_difference(by_seed(v), base) for k, v in enumerate(up)}
    pooled = pool(result, shared)
    assert pooled.constant
    assert pooled.low == pooled.high == pooled.mean == pytest.approx(150 / 360)
    assert pooled.p == sign_flip_p(pooled) == (2**-2 if shared else 2**-5)
    assert stats.interval_at(pooled, 0.99) == (pooled.mean, pooled.mean)
    assert stats.equality_p(pooled, 0.2) == 1
    assert stats.equality_p(pooled, 0.5) == 2**-3


@pytest.mark.parametrize("shared", [False, True])
def test_identical_and_opposite_settings(shared):
    same = pool(over([0.0] * 4, [0.0] * 4), shared)
    assert (same.mean, same.p, same.constant, sign_flip_p(same)) == (0, 1, True, 1)
    base = by_seed(np.arange(4) / 7 + 90)
    result = {
        str(sign): paired_difference({s: v + sign * 0.1 for s, v in base.items()}, base)
        for sign in (1, -1)
    }
    opposite = pool(result, shared)
    assert (opposite.mean, opposite.p, opposite.constant) == (0, 1, True)


@pytest.mark.parametrize("shared", [False, True])
def test_too_few_seeds(shared):
    (a,) = normal(4, 5)
    none, one = pool(over(a, []), shared), pool(over(a, [0.5]), shared)
    assert (none.n, one.n) == (0, 1)
    assert math.isnan(none.mean)
    assert one.mean == pytest.approx(((a[0] if shared else a.mean()) + 0.5) / 2)
    for pooled in (none, one):
        nothing = (pooled.low, pooled.high, pooled.se, pooled.p, sign_flip_p(pooled))
        assert all(map(math.isnan, nothing))
        assert judge({"m": pooled}, ANALYSIS).verdicts["m"].text == "no verdict below 3 seeds"
    with pytest.raises(ValueError, match="no settings"):
        pool({}, shared)


@pytest.mark.parametrize("shared", [False, True])
def test_order_and_scale_of_settings_change_nothing(shared):
    settings = normal(5, 4, 4, 4, sds=(1.0, 5.0))
    one, other = (pool(over(*result), shared) for result in (settings, settings[::-1]))
    large = pool(over(*[100 * s for s in settings]), shared)
    for name in ("mean", "low", "high", "se"):
        assert getattr(other, name) == pytest.approx(getattr(one, name))
        assert getattr(large, name) == pytest.approx(100 * getattr(one, name))
    assert [d.p for d in (other, large)] == pytest.approx([one.p] * 2)
    assert sign_flip_p(other) == sign_flip_p(large) == sign_flip_p(one)
    negative = pool(over(*[-s for s in settings]), shared)
    assert (negative.low, negative.high) == pytest.approx((-one.high, -one.low))
    assert (negative.p, sign_flip_p(negative)) == (pytest.approx(one.p), sign_flip_p(one))


def test_degrees_of_freedom_lie_between_the_fewest_and_all():
    rng = np.random.default_rng(6)
    ses, counts = rng.uniform(0.1, 5, size=(500, 4)), rng.integers(2, 11, size=(500, 4))
    _, df = satterthwaite(ses, counts)
    assert np.all(df >= counts.min(axis=-1) - 1 - 1e-9)
    assert np.all(df <= (counts - 1).sum(axis=-1) + 1e-9)
    assert satterthwaite(np.ones(4), np.full(4, 5)) == (0.5, 16)


# -- sign flips


def brute_force(*settings):
    observed = abs(np.mean([s.mean() for s in settings]))
    flat = np.concatenate(settings)
    share = np.concatenate([np.full(len(s), 1 / len(s) / len(settings)) for s in settings])
    flipped = np.array(list(product((1, -1), repeat=len(flat)))) @ (flat * share)
    return np.mean(np.abs(flipped) >= observed - 1e-9)


@pytest.mark.parametrize("sizes", [(3, 3), (2, 5), (3, 3, 4), (6,)])
def test_flip_p_by_brute_force(sizes):
    settings = normal(7, *sizes, mean=0.8)
    assert sign_flip_p(pool(over(*settings), shared=False)) == brute_force(*settings)


def test_flip_p_of_shared_seeds_by_brute_force():
    settings = normal(8, 6, 6, 6, mean=0.6)
    pooled = pool(over(*settings), shared=True)
    assert sign_flip_p(pooled) == brute_force(np.mean(settings, axis=0))


@pytest.mark.parametrize("shape", [(1, 3), (2, 3), (4, 3), (2, 5), (4, 4)])
def test_smallest_sign_flip_p(shape):
    d, n = shape
    pooled = pool(over(*[np.arange(1, n + 1)] * d), shared=False)
    assert sign_flip_p(pooled) == 2 / 2 ** (d * n)


def test_equal_sums_tie_whatever_their_rounding():
    """0.4 + 0.1 = 0.2 + 0.3, but not of numbers that were subtracted at 97."""
    steps = np.array([0.4, 0.1, 0.2, -0.3, 0.1, -0.2])
    base = by_seed(97 + np.arange(6) / 7)
    rounded = paired_difference({s: base[s] + v for s, v in enumerate(steps)}, base)
    assert sign_flip_p(pool({"a": rounded}, shared=False)) == brute_force(steps)


def test_many_flips_are_drawn_and_none_is_certain():
    rng = np.random.default_rng(9)
    settings = [rng.normal(0.4, 1, 9), rng.normal(0.4, 1, 9)]
    result = sign_flip_p(pool(over(*settings), shared=False))
    signs = 1 - 2 * ((np.arange(2**18)[:, None] >> np.arange(18)) & 1)
    sums = np.abs(signs @ np.concatenate(settings))
    exact = np.mean(sums >= abs(np.sum(settings)) - 1e-9)
    assert result == pytest.approx(exact, abs=4 * math.sqrt(exact / 99_999))
    assert result == sign_flip_p(pool(over(*settings), shared=False))
    assert sign_flip_p(pool(over([1.0] * 10, [1.0] * 10), shared=False)) == 1 / 100_000


# -- settings like these


def test_settings_needed():
    assert [settings_needed(m) for m in (1, 2, 5, 9, 19)] == [6, 7, 8, 9, 10]
    for m, alpha in product(range(1, 40), (0.01, 0.05, 0.1)):
        enough = next(d for d in range(6, 99) if 2 / 2**d <= alpha / m)
        assert settings_needed(m, alpha) == enough
    with pytest.raises(ValueError, match="comparison"):
        settings_needed(0)


def test_wilcoxon_p_is_scipys_over_the_setting_means():
    settings = normal(10, *[3] * 8)
    result = wilcoxon_p(pool(over(*settings), shared=False), comparisons=4)
    assert result == scipy_stats.wilcoxon([s.mean() for s in settings]).pvalue
    best = pool(over(*[s + 9 for s in settings]), shared=True)
    assert wilcoxon_p(best, comparisons=6) == pytest.approx(2 / 2**8)
    assert math.isnan(wilcoxon_p(best, comparisons=7))  # 2 / 2**8 > 0.05 / 7


def test_wilcoxon_p_of_equal_and_no_differences():
    base = by_seed([97.1, 97.3])
    steps = (0.1, 0.1, 0.2, -0.1, 0.3, 0.0)
    result = {
        str(k): paired_difference({s: v + step for s, v in base.items()}, base)
        for k, step in enumerate(steps)
    }
    flips = np.array(list(product((1, -1), repeat=5))) @ np.array([2, 2, 4, 2, 5])
    expected = min(1, 2 * np.mean(flips >= 11))
    assert wilcoxon_p(pool(result, shared=False), comparisons=1) == pytest.approx(expected)
    assert wilcoxon_p(pool(over(*[[0.0] * 3] * 6), shared=False), comparisons=1) == 1
    gone = pool(over(*[[1.0, 2.0]] * 8, []), shared=False)
    assert math.isnan(wilcoxon_p(gone, comparisons=1))


# -- a family


def methods(names, settings=3, seeds=4, seed=11):
    rng = np.random.default_rng(seed)
    return {
        name: {f"s{k}": difference(rng.normal(k, 1, seeds)) for k in range(settings)}
        for name in names
    }


@pytest.mark.parametrize("shared", [False, True])
def test_family_is_judged_by_the_pooled_test(shared):
    result, settings = methods("abc"), ["s0", "s1", "s2"]
    family = judge_pooled(result, settings, shared, ANALYSIS)
    pooled = {k: pool(v, shared) for k, v in result.items()}
    tested = {k: confirmed_by_flips(d, sign_flip_p(d)) for k, d in pooled.items()}
    expected = judge(tested, ANALYSIS, confirmed_equality_p)
    assert family.family.verdicts == expected.verdicts
    assert (tested == pooled) == shared
    assert list(family.sign_flip.values()) == stats.adjust(
        [sign_flip_p(d) for d in pooled.values()]
    )
    assert all(map(math.isnan, family.wilcoxon.values()))
    assert family.settings_needed == 7
    assert ("by seed" in family.test) == shared
    assert ("Satterthwaite" in family.test) == ("sign flips" in family.test) != shared
    assert family.flips_confirm != shared


@pytest.mark.parametrize("shared", [False, True])
def test_a_family_in_one_setting_is_judged_as_without_pooling(shared):
    one = judge_pooled(methods("ab", settings=1), ["s0"], shared, ANALYSIS)
    assert one.test == ANALYSIS.test_name
    plain = judge({k: v["s0"] for k, v in methods("ab", settings=1).items()}, ANALYSIS)
    for name, verdict in plain.verdicts.items():
        pooled = one.family.verdicts[name]
        assert pooled.text == verdict.text
        assert pooled.p_adjusted == pytest.approx(verdict.p_adjusted)


def test_enough_settings_bring_wilcoxon():
    result, settings = methods("ab", settings=8), [f"s{k}" for k in range(8)]
    family = judge_pooled(result, settings, False, ANALYSIS)
    raw = [wilcoxon_p(pool(v, False), 2) for v in result.values()]
    assert list(family.wilcoxon.values()) == stats.adjust(raw)


@pytest.mark.parametrize("shared", [False, True])
def test_a_method_without_one_setting_has_no_value_but_counts(shared):
    result, settings = methods("abc"), ["s0", "s1", "s2"]
    del result["b"]["s1"]
    family = judge_pooled(result, settings, shared, ANALYSIS)
    gone = family.family.verdicts["b"]
    assert family.family.size == 3
    assert gone.difference.n == 0
    assert math.isnan(gone.difference.mean)
    assert gone.text == "no verdict below 3 seeds"
    assert math.isnan(family.sign_flip["b"])
    result.pop("b")
    few = judge_pooled(result, settings, shared, ANALYSIS)
    for name in "ac":
        here, there = family.family.verdicts[name], few.family.verdicts[name]
        assert here.difference.p == there.difference.p
        assert here.p_adjusted >= there.p_adjusted
        assert family.sign_flip[name] >= few.sign_flip[name]


def test_settings_are_those_declared():
    with pytest.raises(ValueError, match="not declared: s2"):
        judge_pooled(methods("a"), ["s0", "s1"], False, ANALYSIS)
    with pytest.raises(ValueError, match="no settings"):
        judge_pooled({}, [], False, ANALYSIS)
    assert judge_pooled({}, ["s0"], False, ANALYSIS).family.size == 0
    family = judge_pooled(methods("a", settings=2), ["s0", "s1", "s2"], False, ANALYSIS)
    assert math.isnan(family.family.verdicts["a"].difference.mean)


@pytest.mark.parametrize("shared", [False, True])
def test_order_of_methods_changes_nothing(shared):
    result, settings = methods("abcd"), ["s0", "s1", "s2"]
    one = judge_pooled(result, settings, shared, ANALYSIS)
    other = judge_pooled(dict(reversed(result.items())), settings, shared, ANALYSIS)
    assert dict(one.family.verdicts) == dict(other.family.verdicts)
    assert dict(one.sign_flip) == dict(other.sign_flip)


@pytest.mark.parametrize("shared", [False, True])
def test_adding_a_method_changes_no_raw_p(shared):
    settings = ["s0", "s1", "s2"]
    few, more = (judge_pooled(methods(k), settings, shared, ANALYSIS) for k in ("ab", "abc"))
    for name in "ab":
        one, other = few.family.verdicts[name], more.family.verdicts[name]
        assert one.difference == other.difference
        assert few.sign_flip[name] <= more.sign_flip[name]
        assert other.p_adjusted >= one.p_adjusted


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_significant_excludes_0_and_the_reverse_by_t_alone(shared):
    counts = {True: 0, False: 0}
    for seed in range(4):
        result = methods("abcde", seed=seed)
        for name, shift in zip("abcde", (-1, -1, -0.5, 0, 2), strict=True):
            result[name] = {
                k: difference(np.array(d.values) + shift) for k, d in result[name].items()
            }
        family = judge_pooled(result, ["s0", "s1", "s2"], shared, ANALYSIS)
        for verdict in family.family.verdicts.values():
            left_out = verdict.low > 0 or verdict.high < 0
            assert left_out >= verdict.significant
            assert left_out == verdict.significant or not shared
            counts[verdict.significant] += 1
    assert min(counts.values()) > 0


def test_flips_confirm_only_where_the_t_test_is_approximate():
    (values,) = normal(13, 3, mean=5.0, sds=(0.1,))
    one, shared = pool(over(values), shared=False), pool(over(values, values), shared=True)
    for exact in (one, shared):
        assert confirmed_by_flips(exact, 0.25) is exact
        assert confirmed_equality_p(exact, 9.0) == stats.equality_p(exact, 9.0)
    both = pool(over(values, values), shared=False)
    assert both.p < 0.001
    assert confirmed_by_flips(both, sign_flip_p(both)).p == sign_flip_p(both) == 2 / 2**6
    assert stats.equality_p(both, 9.0) < 0.001
    assert confirmed_equality_p(both, 9.0) == 1 / 2**6
    assert confirmed_by_flips(both, 1e-9) == both
    same = pool(over([0.0] * 3, [0.0] * 3), shared=False)
    assert confirmed_equality_p(same, 0.2) == 2**-3


@pytest.mark.parametrize("sign", [1, -1])
def test_confirmed_equality_by_brute_force(sign):
    settings = [sign * s for s in normal(14, 3, 4, mean=0.4)]
    pooled, margin = pool(over(*settings), shared=False), 0.9
    flat = np.concatenate(settings)
    share = np.concatenate([np.full(len(s), 1 / len(s) / 2) for s in settings])
    signs = np.array(list(product((1, -1), repeat=7)))
    sides = [(margin - flat) * share, (margin + flat) * share]
    flips = max(np.mean(signs @ side >= side.sum() - 1e-9) for side in sides)
    assert confirmed_equality_p(pooled, margin) == max(flips, stats.equality_p(pooled, margin))


def test_nothing_is_detectable_where_no_flips_can_confirm():
    result, settings = methods("abc", settings=2, seeds=3), ["s0", "s1"]
    assert judge_pooled(result, settings, False, ANALYSIS).detectable == math.inf  # 3 / 32 > 0.05
    one = judge_pooled({"a": result["a"]}, settings, False, ANALYSIS)
    assert one.detectable == one.family.detectable < math.inf  # 1 / 32
    together = judge_pooled(result, settings, True, ANALYSIS)
    assert together.detectable == together.family.detectable < math.inf
    assert math.isnan(judge_pooled({"a": {}}, settings, False, ANALYSIS).detectable)


@pytest.mark.parametrize("shared", [False, True])
def test_detectable_has_the_power_that_statsmodels_computes(shared):
    family = judge_pooled(methods("abc"), ["s0", "s1", "s2"], shared, ANALYSIS).family
    for name, verdict in family.verdicts.items():
        d = verdict.difference
        effect = family.detectable_by(name) / (d.se * math.sqrt(d.n))
        power = TTestPower().power(effect, d.n, 0.05 / 3, df=d.df, alternative="two-sided")
        assert power == pytest.approx(0.8, abs=1e-6)
    assert family.detectable == pytest.approx(
        stats.detectable(4, comparisons=3, df=family.df) * family.sd
    )
    assert family.df == np.median([v.difference.df for v in family.verdicts.values()])


# -- the best


def scores(offsets, settings=2, seeds=5, sd=0.1, seed=12):
    rng = np.random.default_rng(seed)
    return {
        name: {
            f"s{k}": by_seed(90 + k + offset + rng.normal(0, sd, seeds)) for k in range(settings)
        }
        for name, offset in offsets.items()
    }


@pytest.mark.parametrize("shared", [False, True])
def test_best_over_several_settings(shared):
    result = scores({"top": 7.0, "near": 6.98, "far": 5.0, "few": 9.0})
    result["few"].pop("s1")
    best = best_set_pooled(result, ["s0", "s1"], shared, ANALYSIS)
    assert best.best in {"top", "near"}
    assert best.members == {"top", "near"}
    assert best.comparisons == 3
    backwards = best_set_pooled(dict(reversed(result.items())), ["s1", "s0"], shared, ANALYSIS)
    assert (backwards.best, backwards.members) == (best.best, best.members)


def test_a_pair_is_told_apart_only_where_flips_confirm():
    """3 seeds in 2 settings: 2 / 2**6, of 3 pairs, is not enough however far apart."""
    result = scores({"a": 5.0, "b": 0.0, "c": -5.0}, seeds=3)
    assert len(best_set_pooled(result, ["s0", "s1"], False, ANALYSIS).members) == 3
    result = scores({"a": 5.0, "b": 0.0, "c": -5.0}, seeds=4)
    assert best_set_pooled(result, ["s0", "s1"], False, ANALYSIS).members == {"a"}


@pytest.mark.parametrize("shared", [False, True])
def test_best_over_one_setting_is_the_best_set(shared):
    for seed in range(5):
        result = scores({"a": 0.1, "b": 0.0, "c": -0.5}, settings=1, seed=seed)
        one = best_set({k: v["s0"] for k, v in result.items()}, ANALYSIS)
        assert best_set_pooled(result, ["s0"], shared, ANALYSIS) == one


def test_no_best_of_one_method():
    result = best_set_pooled(scores({"a": 0.0}), ["s0", "s1"], False, ANALYSIS)
    assert (result.best, result.members, result.comparisons) == (None, frozenset(), 0)
    with pytest.raises(ValueError, match="no settings"):
        best_set_pooled({}, [], False, ANALYSIS)


@pytest.mark.parametrize("counts", [(5, 5), (4, 8)])
def test_equality_over_independent_settings_takes_the_variance_of_a_margin_in_each(counts):
    """In a setting of n seeds it is at least the margin times one image, so that of the mean
    over the settings is at least the sum over their seeds, by the number of settings squared."""
    images, margin = (0.01, 0.05), 0.2
    settings = {
        str(k): paired_difference(dict.fromkeys(range(n), 70.0), dict.fromkeys(range(n), 70.0),
                                  image=image)
        for k, (n, image) in enumerate(zip(counts, images, strict=True))
    }  # fmt: skip
    pooled = pool(settings, shared=False)
    variance = sum(margin * w / n for w, n in zip(images, counts, strict=True)) / 4
    assert variance > pooled.se**2
    assert pooled.sd >= pooled.image
    expected = scipy_stats.t.sf(margin / math.sqrt(variance), pooled.df)
    assert stats.equality_p(pooled, margin) == pytest.approx(expected)
