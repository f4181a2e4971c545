"""The moderated t test: by hand, against its simulation, and what it may not do."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import special
from scipy import stats as scipy_stats
from support import candidate_tests, truth
from support.scores import by_seed, difference

from kdbench.stats import Analysis, adjust, best_set, detectable, judge, moderate

ANALYSIS = Analysis(margin=0.5, test="moderated-t")
NOISY = np.random.default_rng(0).normal(size=(6, 4)) * np.array([1, 1, 1, 1, 1, 4])[:, None]


def family(values, analysis=ANALYSIS):
    return judge({str(k): difference(row) for k, row in enumerate(values)}, analysis)


def test_by_hand():
    """Smyth (2004), section 3, with 3 prior degrees of freedom; never below the own variance."""
    own = NOISY.var(axis=1, ddof=1)
    c4 = math.sqrt(2 / 3) * special.gamma(2) / special.gamma(1.5)
    common = (np.sqrt(own).mean() / c4) ** 2
    variance = np.maximum(own, (3 * common + 3 * own) / 6)
    t = NOISY.mean(axis=1) / np.sqrt(variance / 4)
    p = 2 * scipy_stats.t.sf(np.abs(t), 6)
    own_p = scipy_stats.ttest_1samp(NOISY, 0, axis=1).pvalue
    found = family(NOISY).verdicts.values()
    assert [v.tested.p for v in found] == pytest.approx(list(p))
    assert [v.difference.p for v in found] == pytest.approx(list(own_p))
    expected = np.maximum(adjust(list(p)), np.minimum(1, 3 * own_p))
    assert [v.p_adjusted for v in found] == pytest.approx(list(expected))


def test_the_interval_of_a_difference_is_its_own():
    for k, verdict in enumerate(family(NOISY).verdicts.values()):
        assert vars(verdict.difference) == vars(difference(NOISY[k]))


def test_the_adjusted_interval_excludes_zero_exactly_where_the_verdict_does():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(40):
        values = rng.choice([0.0, 2.0, 4.0], size=(6, 1)) + rng.normal(size=(6, 4))
        found += family(values).verdicts.values()
    significant = [v.significant for v in found]
    assert significant == [v.low > 0 or v.high < 0 for v in found]
    assert 20 < sum(significant) < 220


def test_one_comparison_is_the_paired_t_test():
    moderated, paired = (family(NOISY[:1], replace(ANALYSIS, test=t)).verdicts["0"]
                         for t in ("moderated-t", "paired-t"))  # fmt: skip
    assert moderated.p_adjusted == pytest.approx(paired.p_adjusted)
    assert (moderated.low, moderated.high) == pytest.approx((paired.low, paired.high))


def test_methods_without_scores_count_and_lend_no_variance():
    whole = {str(k): difference(row) for k, row in enumerate(NOISY)}
    missing = {**whole, "none": difference([]), "one": difference([5.0])}
    assert {k: d for k, d in moderate(missing).items() if k in whole} == moderate(whole)
    verdicts = judge(missing, ANALYSIS).verdicts
    assert math.isnan(verdicts["none"].p_adjusted)
    assert verdicts["one"].text == "no verdict below 3 seeds"
    alone = judge(whole, ANALYSIS).verdicts
    assert all(verdicts[k].p_adjusted >= alone[k].p_adjusted for k in whole)


def test_constant_differences_borrow_a_variance_and_are_not_certain():
    values = [[0.0] * 3, [1.0] * 3, [0.3, -0.2, 0.1], [0.1, 0.4, -0.3]]
    found = family(values).verdicts
    assert found["0"].tested.se > 0
    assert found["0"].text == found["1"].text == "cannot tell at 3 seeds"


def test_a_far_noisier_method_must_convince_by_itself():
    """Its mean is far beyond the family's noise, but not beyond its own."""
    quiet = np.random.default_rng(2).normal(scale=0.1, size=(9, 3))
    found = family(np.vstack([quiet, [1.5, 2.6, 1.8]])).verdicts["9"]
    assert 10 * found.tested.p < 0.05
    assert found.text == "cannot tell at 3 seeds"


def test_more_is_found_than_by_paired_t_tests():
    rng = np.random.default_rng(3)
    values = 6.0 + rng.normal(size=(20, 3))
    moderated, paired = (
        sum(v.significant for v in family(values, replace(ANALYSIS, test=t)).verdicts.values())
        for t in ("moderated-t", "paired-t")
    )
    assert moderated > 1.5 * paired


def test_the_best_set_is_judged_by_the_same_test():
    rng = np.random.default_rng(4)
    scores = {str(k): by_seed(90 + 0.3 * (k > 4) + 0.1 * rng.normal(size=5)) for k in range(8)}
    moderated = best_set(scores, Analysis(margin=0.2, test="moderated-t"))
    paired = best_set(scores, Analysis(margin=0.2))
    assert moderated.members < paired.members
    assert moderated.comparisons == paired.comparisons == 28


def test_an_unknown_test():
    with pytest.raises(ValueError, match="unknown test 'welch'; known: moderated-t, paired-t"):
        Analysis(margin=0.2, test="welch")


# -- by simulation; the long form is `make truth`

SHORT = [
    ("equal variances", 8, 5),
    ("those of the reports", 20, 3),
    ("one method five times noisier", 8, 3),
    ("half of the methods five times noisier", 20, 5),
    ("the reference five times noisier", 20, 3),
    ("t3 tails", 3, 5),
    ("images, those of the reports", 20, 10),
    ("images, few disagreements", 20, 20),
    ("images, a whole one certain", 20, 5),
    ("10,000 images, disagreements", 8, 3),
]
REPETITIONS = 2000


@pytest.mark.parametrize(("noise", "k", "n"), SHORT)
@pytest.mark.parametrize("test", ["paired t, Holm", "moderated t, Holm, and own t"])
def test_no_word_is_wrong_in_more_than_five_percent(test, noise, k, n):
    found = truth.rates(test, noise, k, n, REPETITIONS)
    bound = 5 + 100 * 3 * math.sqrt(0.05 * 0.95 / REPETITIONS)
    assert found.differs <= bound
    assert found.equal <= bound
    assert found.coverage >= 93


def test_the_moderated_t_test_alone_would_err_too_often():
    """Why a method's own test must agree, and that the test above can fail."""
    values = truth.drawn("one method five times noisier", 3, 3, 10_000)[0]
    wrong = np.abs(values.mean) > candidate_tests.moderated_alone(values, 0.025)
    assert wrong.any(axis=-1).mean() > 0.06


def test_the_simulated_test_is_the_one_that_judges():
    rng = np.random.default_rng(6)
    values = rng.choice([0.0, 3.0], size=(30, 5, 1)) + rng.normal(size=(30, 5, 4))
    for analysis, test in (
        (ANALYSIS, candidate_tests.moderated),
        (Analysis(margin=0.5), candidate_tests.paired),
    ):
        sample = candidate_tests.Sample.of(values, 0.0)
        simulated = np.abs(sample.mean) > test(sample, 0.025)
        steps = replace(analysis, correction="bonferroni")
        judged = [[v.significant for v in family(v, steps).verdicts.values()] for v in values]
        assert simulated.tolist() == judged
        assert 10 < simulated.sum() < 140


@pytest.mark.parametrize(("n", "k"), [(3, 8), (5, 20), (10, 20)])
def test_the_detectable_difference_is_that_of_the_simulation(n, k):
    found = truth.rates("moderated t, Holm, and own t", "equal variances", k, n, 20_000)
    assert detectable(n, comparisons=k - 1, common=1.0) == pytest.approx(found.detectable, rel=0.03)
