"""How often verdicts are wrong and intervals cover, in simulated studies.

All seeds are fixed. An error rate may exceed its nominal value by 3 standard errors of
the simulation, and a coverage may differ from its level by 2 points.
"""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats as scipy_stats
from support.scores import by_seed, difference

from kdbench.stats import (
    Analysis,
    Difference,
    Pooled,
    best_of,
    best_set_pooled,
    confirmed_by_flips,
    confirmed_equality_p,
    equality_p,
    interval_at,
    judge,
    judge_pooled,
    lies_within,
    paired_difference,
    pool,
    prediction_interval,
    sign_flip_p,
    t_intervals,
    wilcoxon_p,
)
from kdbench.stats.pooled import satterthwaite

ANALYSIS = Analysis(margin=0.5)
SEEDS = [3, 5, 10]
DRAWS = 10_000  # one standard error of a coverage of 95 % is 0.22 points


def bound(trials, error=0.05):
    """The error rate that is allowed in so many trials."""
    return error + 3 * math.sqrt(error * (1 - error) / trials)


def differences(values):
    """`paired_difference` from 0 for every row of the last axis, by one call of
    `t_intervals`; flat, in order."""
    rows = values.reshape(-1, values.shape[-1])
    n, seeds = rows.shape[-1], tuple(range(rows.shape[-1]))
    sds = rows.std(axis=-1, ddof=1).tolist()
    columns = zip(*(c.tolist() for c in t_intervals(rows)), sds, rows.tolist(), strict=True)
    return [
        Difference(mean, low, high, sd, n, se=sd / math.sqrt(n), p=p, df=n - 1, constant=False,
                   seeds=seeds, values=tuple(row))
        for mean, low, high, p, sd, row in columns
    ]  # fmt: skip


def families(values, shared):
    """The differences of every trial of `values`, which are (trials, methods, settings,
    seeds): pooled if there are several settings."""
    trials, methods, settings, _ = values.shape
    single = iter(differences(values))
    for _ in range(trials):
        family = []
        for _ in range(methods):
            by_setting = {str(k): next(single) for k in range(settings)}
            family.append(pool(by_setting, shared) if settings > 1 else by_setting["0"])
        yield family


def t_tests(values, shared):
    """Mean, standard error and degrees of freedom of each pooled t test of `values`, as
    `pool` computes them, without its objects."""
    if shared or values.shape[-2] == 1:
        values, n = values.mean(axis=-2), values.shape[-1]
        return values.mean(axis=-1), values.std(axis=-1, ddof=1) / math.sqrt(n), n - 1
    settings, n = values.shape[-2:]
    ses = values.std(axis=-1, ddof=1) / math.sqrt(n)
    return values.mean(axis=(-1, -2)), *satterthwaite(ses, np.full(settings, n))


def may_differ(values, shared):
    """The trials in which some uncorrected p of the t test is significant: the correction
    and the sign flips only make p larger, so no other trial can have a verdict."""
    mean, se, df = t_tests(values, shared)
    return (2 * scipy_stats.t.sf(np.abs(mean) / se, df) <= ANALYSIS.alpha).any(axis=-1)


def may_be_equal(values, shared):
    """`may_differ` for the tests of equality."""
    mean, se, df = t_tests(values, shared)
    ps = scipy_stats.t.sf((ANALYSIS.margin - np.abs(mean)) / se, df)
    return (ps <= ANALYSIS.alpha).any(axis=-1)


def scores(rng, trials, methods, settings, n, seed_share=0.0):
    """Scores of equal methods, (trials, methods, settings, seeds). Of several settings
    one is 5 times as noisy as the others, which is what pooling bears worst; with
    `seed_share`, that part of each score's variance is that of its method and seed, the
    same in all settings."""
    own = rng.normal(size=(trials, methods, settings, n))
    paired = rng.normal(size=(trials, 1, settings, n))
    if seed_share:
        common = rng.normal(size=(trials, methods, 1, n))
        return math.sqrt(1 - seed_share) * own + math.sqrt(seed_share) * common + paired
    noise = np.array([1.0] * (settings - 1) + [5.0 if settings > 1 else 1.0])
    return noise[:, None] * own + paired


def confirmed_if_needed(d):
    """Sign flips only take rejections back: they need not be drawn where there is none."""
    return (
        confirmed_by_flips(d, sign_flip_p(d))
        if isinstance(d, Pooled) and d.p <= ANALYSIS.alpha
        else d
    )


def equality_if_needed(d, margin):
    p = equality_p(d, margin)
    return confirmed_equality_p(d, margin) if p <= ANALYSIS.alpha else p


def verdicts(family, confirm=True):
    """With the words of `judge_pooled`, or those before sign flips have to confirm."""
    by_name = {str(k): d for k, d in enumerate(family)}
    if not confirm:
        return judge(by_name, ANALYSIS).verdicts.values()
    tested = {k: confirmed_if_needed(d) for k, d in by_name.items()}
    return judge(tested, ANALYSIS, equality_if_needed).verdicts.values()


def any_verdict(family, wanted, confirm=True):
    return any(wanted(v.text) for v in verdicts(family, False)) and (
        not confirm or any(wanted(v.text) for v in verdicts(family))
    )


def test_simulated_differences_are_real_ones():
    values = np.random.default_rng(0).normal(size=(2, 3, 1, 4))
    rows = values.reshape(-1, 4)
    for simulated, row in zip(differences(values), rows, strict=True):
        real = vars(difference(row))
        assert vars(simulated) == {k: pytest.approx(v) for k, v in real.items()}


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("settings", [1, 3])
def test_the_trials_that_are_skipped_have_no_verdict(settings, shared):
    rng = np.random.default_rng([1, settings])
    means = rng.choice([0.0, 0.6], size=(30, 1, 1, 1))
    values = means + 0.25 * rng.normal(size=(30, 2, settings, 4))
    pooled = list(families(values, shared))
    mean, se, df = (np.broadcast_to(x, (30, 2)) for x in t_tests(values, shared))
    assert mean.ravel() == pytest.approx([d.mean for f in pooled for d in f])
    assert se.ravel() == pytest.approx([d.se for f in pooled for d in f])
    assert df.ravel() == pytest.approx([d.df for f in pooled for d in f])
    for may, wanted in ((may_differ, differs), (may_be_equal, equals)):
        has_verdict = [any_verdict(family, wanted) for family in pooled]
        assert np.all(may(values, shared) >= has_verdict)
        assert 0 < sum(has_verdict) < 30


# -- families

#: Methods, seeds, settings, shared seeds. 10 methods and 3 seeds in 4 independent settings
#: are what the approximate t test bears worst.
SHORT = [(3, 5, 1, False), (10, 3, 4, False), (3, 3, 4, False), (10, 3, 4, True)]
ALL = [(k, n, d, False) for k in (3, 10) for n in SEEDS for d in (1, 4)]
ALL += [(k, n, 4, True) for k in (3, 10) for n in SEEDS]


def long_form(short, every):
    """All cases, of which those that are not in `short` are long."""
    return [pytest.param(*c, marks=() if c in short else pytest.mark.long) for c in every]


CASES = long_form(SHORT, ALL)


def differs(words):
    return words.startswith(("better", "worse"))


def equals(words):
    return "practically equal" in words


def wrong_words(k, n, d, shared, trials, confirm=True):
    """The share of families of k equal methods in which one of the k - 1 comparisons
    with the first is called better or worse."""
    rng = np.random.default_rng([k, n, d, shared])
    simulated = scores(rng, trials, k, d, n, seed_share=0.5 * shared)
    values = simulated[:, 1:] - simulated[:, :1]
    tried = families(values[may_differ(values, shared)], shared)
    return sum(any_verdict(family, differs, confirm) for family in tried) / trials


@pytest.mark.parametrize(("k", "n", "d", "shared"), CASES)
def test_equal_methods_are_seldom_called_better_or_worse(k, n, d, shared):
    trials = 400 if k == 3 else 200
    assert wrong_words(k, n, d, shared, trials) <= bound(trials)


def test_the_approximate_t_test_alone_would_err_too_often():
    """Why sign flips must confirm it, and that the test above can fail."""
    assert wrong_words(10, 3, 4, False, 600, confirm=False) > bound(600)


def wrong_equals(n, d, shared, trials, confirm=True):
    """The share of families of 3 methods, all a margin above the reference and with so
    little noise that equality is claimed as often as it may be, in which one is called
    practically equal."""
    rng = np.random.default_rng([n, d, shared])
    values = ANALYSIS.margin + 0.02 * scores(rng, trials, 3, d, n, seed_share=0.5 * shared)
    tried = families(values[may_be_equal(values, shared)], shared)
    return sum(any_verdict(family, equals, confirm) for family in tried) / trials


@pytest.mark.parametrize(
    ("n", "d", "shared"),
    long_form([(5, 1, False), (3, 4, False), (3, 4, True)], [c[1:] for c in ALL if c[0] == 3]),
)
def test_a_margins_difference_is_seldom_called_equal(n, d, shared):
    trials = 600 if d == 1 else 200
    wrong = wrong_equals(n, d, shared, trials)
    assert wrong <= bound(trials)
    assert wrong >= 0.01 or (d > 1 and not shared)


def test_methods_that_differ_do_not_make_equal_ones_differ():
    """Holm's steps: four of nine methods are far better, the other five are alike."""
    rng = np.random.default_rng(1)
    trials, wrong = 250, 0
    simulated = scores(rng, trials, 10, 4, 3)
    simulated[:, 6:] += 50.0
    values = simulated[:, 1:] - simulated[:, :1]
    equal_ones = may_differ(values[:, :5], shared=False)
    for family in families(values[equal_ones], shared=False):
        if any(differs(v.text) for v in list(verdicts(family, confirm=False))[:5]):
            wrong += any(differs(v.text) for v in list(verdicts(family))[:5])
    assert wrong / trials <= bound(trials)


def left_out(k, n, d, shared, trials, confirm=True):
    """The share of best sets that leave out one of k equal methods."""
    rng = np.random.default_rng([k, n, d, shared])
    simulated = scores(rng, trials, k, d, n, seed_share=0.5 * shared)
    pairs = list(combinations(range(k), 2))
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    values = simulated[:, first] - simulated[:, second]
    tried = may_differ(values, shared)
    means = [dict(enumerate(row)) for row in simulated[tried].mean(axis=(-1, -2))]
    wrong = 0
    for mean, family in zip(means, families(values[tried], shared), strict=True):
        members = best_of(mean, dict(zip(pairs, family, strict=True)), ANALYSIS).members
        if confirm and d > 1 and len(members) < k:  # as `best_set_pooled` does
            family = [confirmed_if_needed(x) for x in family]
            members = best_of(mean, dict(zip(pairs, family, strict=True)), ANALYSIS).members
        wrong += len(members) < k
    return wrong / trials


@pytest.mark.parametrize(("k", "n", "d", "shared"), CASES)
def test_the_best_set_seldom_leaves_an_equal_out(k, n, d, shared):
    trials = 400 if k == 3 else 50
    assert left_out(k, n, d, shared, trials) <= bound(trials)


@pytest.mark.parametrize("shared", [False, True])
def test_this_is_what_is_printed(shared):
    """The steps above give what `judge_pooled` and `best_set_pooled` do."""
    rng = np.random.default_rng([5, shared])
    for study in scores(rng, 5, 4, 2, 4, seed_share=0.5 * shared):
        study[1] += 9.0
        by_setting = [{str(s): by_seed(row) for s, row in enumerate(m)} for m in study]
        differences = {
            str(k): {s: paired_difference(x[s], by_setting[0][s]) for s in x}
            for k, x in enumerate(by_setting[1:])
        }
        printed = judge_pooled(differences, ["0", "1"], shared, ANALYSIS).family.verdicts
        (family,) = families((study[1:] - study[:1])[None], shared)
        for one, other in zip(printed.values(), verdicts(family), strict=True):
            assert one.text == other.text
        best = best_set_pooled(dict(enumerate(by_setting)), ["0", "1"], shared, ANALYSIS)
        assert best.best == 1


# -- intervals


def covered(values, true, level=0.95):
    _, low, high, _ = t_intervals(values, level)
    return np.mean((low <= true) & (high >= true))


def stratified_coverage(values, true, level=0.95):
    """That of `pool` of independent settings: (trials, settings, seeds), at once."""
    n = values.shape[-1]
    ses = values.std(axis=-1, ddof=1) / math.sqrt(n)
    se, df = satterthwaite(ses, np.full(values.shape[-2], n))
    half = scipy_stats.t.ppf((1 + level) / 2, df) * se
    return np.mean(np.abs(values.mean(axis=(-1, -2)) - true) <= half)


@pytest.mark.parametrize("level", [0.95, 1 - 0.05 / 9])
def test_this_is_the_coverage_of_pooled_intervals(level):
    values = np.random.default_rng(2).normal(0.3, 1, size=(1000, 4, 3))
    intervals = [
        interval_at(family[0], level) for family in families(values[:, None], shared=False)
    ]
    inside = np.mean([low <= 0.3 <= high for low, high in intervals])
    assert inside == stratified_coverage(values, 0.3, level)


@pytest.mark.parametrize("n", SEEDS)
def test_mean_and_paired_difference_cover(n):
    rng = np.random.default_rng(n)
    method, reference = rng.normal(size=(2, DRAWS, n)) + 3 * rng.normal(size=(DRAWS, n))
    assert covered(method + 90, 90) == pytest.approx(0.95, abs=0.02)
    assert covered(method + 0.3 - reference, 0.3) == pytest.approx(0.95, abs=0.02)


def noises(d):
    return {
        "equal": np.ones(d),
        "halves": np.repeat([1.0, 5.0], d // 2),
        "one": np.array([1.0] * (d - 1) + [5.0]),
    }


@pytest.mark.parametrize("noise", ["equal", "halves", "one"])
@pytest.mark.parametrize("d", [2, 4, 8])
@pytest.mark.parametrize("n", SEEDS)
def test_independent_settings_cover(n, d, noise):
    rng = np.random.default_rng([n, d])
    values = rng.normal(size=(DRAWS, d, n)) * noises(d)[noise][:, None]
    assert stratified_coverage(values + 0.3, 0.3) == pytest.approx(0.95, abs=0.02)


def shared_seeds(n, d, correlation):
    """Differences of which the seed's part has `correlation` between settings."""
    rng = np.random.default_rng([n, d, round(10 * correlation)])
    own, common = rng.normal(size=(DRAWS, d, n)), rng.normal(size=(DRAWS, 1, n))
    return math.sqrt(1 - correlation) * own + math.sqrt(correlation) * common


@pytest.mark.parametrize("correlation", [0.2, 0.5])
@pytest.mark.parametrize("n", SEEDS)
def test_shared_seeds_cover_by_seed_and_not_as_if_independent(n, correlation):
    values = shared_seeds(n, 4, correlation)
    assert covered(values.mean(axis=-2), 0.0) == pytest.approx(0.95, abs=0.02)
    assert stratified_coverage(values, 0.0) < (0.93 if correlation == 0.2 else 0.86)


@pytest.mark.parametrize("n", [3, *(pytest.param(n, marks=pytest.mark.long) for n in (5, 10))])
def test_prediction_covers_the_next_seed(n):
    trials = 2000
    values = np.random.default_rng(n).normal(90, 0.3, size=(trials, n + 1))
    inside = [lies_within(prediction_interval(by_seed(v[:-1])), v[-1]) for v in values]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)


# -- the tests beside the verdict


@pytest.mark.parametrize("shared", [False, True])
def test_sign_flips_seldom_reject_equal_methods(shared):
    rng = np.random.default_rng([3, shared])
    trials, n, d = 400, 6 if shared else 3, 2
    values = rng.standard_t(3, size=(trials, 1, d, n))
    ps = [sign_flip_p(family[0]) for family in families(values, shared)]
    assert np.mean(np.array(ps) <= 0.05) <= bound(trials)
    assert min(ps) <= 0.05


def test_wilcoxon_seldom_rejects_equal_methods():
    rng = np.random.default_rng(4)
    trials = 600
    effects = rng.normal(size=(trials, 1, 6, 1))  # a setting favours one or the other
    values = effects + 0.3 * rng.normal(size=(trials, 1, 6, 3))
    ps = [wilcoxon_p(family[0], 1) for family in families(values, shared=False)]
    assert 0.01 <= np.mean(np.array(ps) <= 0.05) <= bound(trials)
