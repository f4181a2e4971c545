"""Looks at growing numbers of seeds: the error is spent over them, and decided methods stop."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdbench.stats import Analysis, Family, best_set, judge, judge_looks, paired_difference
from kdbench.stats.analysis import MODERATED, PAIRED

LOOKS = (5, 10, 20, 40)
SEEDS = range(40)


def study(shifts, sd=1.0, seed=0, seeds=SEEDS):
    """Scores of methods whose differences from the reference are truly `shifts`."""
    draw = np.random.default_rng(seed)
    scores = draw.normal(size=(len(shifts) + 1, len(seeds))) * sd / np.sqrt(2)
    base = dict(zip(seeds, scores[0], strict=True))
    methods = {
        f"m{k}": dict(zip(seeds, own + shift, strict=True))
        for k, (own, shift) in enumerate(zip(scores[1:], shifts, strict=True))
    }
    return methods, base


def judged(methods, base, reached=4, **parts) -> Family:
    parts = {"margin": 0.2, "test": MODERATED, "looks": LOOKS} | parts
    return judge_looks(methods, base, Analysis(**parts), SEEDS, reached)


@given(st.lists(st.integers(3, 200), min_size=1, unique=True).map(sorted))
def test_the_parts_of_the_error_grow_and_are_the_whole(looks):
    analysis = Analysis(margin=1.0, looks=tuple(looks))
    shares = [analysis.share(count) for count in looks]
    assert sum(shares) == pytest.approx(1)
    assert all(a < b for a, b in pairwise(shares))
    assert analysis.share(looks[-1] + 1) == shares[-1]


def test_four_looks_spend_a_tenth_to_four_tenths():
    analysis = Analysis(margin=1.0, looks=LOOKS)
    assert [analysis.share(n) for n in (3, 5, 6, 10, 20, 40)] == [0.1, 0.1, 0.2, 0.2, 0.3, 0.4]
    assert Analysis(margin=1.0).share(5) == 1


@pytest.mark.parametrize("test", [PAIRED, MODERATED])
def test_one_look_is_the_test_without_looks(test):
    methods, base = study([0.0, 0.3, 1.0, -2.0])
    analysis = Analysis(margin=0.2, test=test)
    differences = {k: paired_difference(v, base) for k, v in methods.items()}
    once = judge_looks(methods, base, replace(analysis, looks=(40,)), SEEDS, 1)
    assert once.verdicts == judge(differences, analysis).verdicts


def test_the_first_look_is_the_test_at_its_part_of_the_error():
    methods, base = study([0.0, 1.0, 3.0, -4.0])
    five = {k: {s: v[s] for s in range(5)} for k, v in methods.items()}
    analysis = Analysis(margin=0.2, test=MODERATED, alpha=0.005)
    differences = {k: paired_difference(v, base, 0.995) for k, v in five.items()}
    expected = judge(differences, analysis).verdicts
    for name, verdict in judged(methods, base, reached=1).verdicts.items():
        other = expected[name]
        assert verdict.text == other.text
        assert (verdict.low, verdict.high, verdict.level) == (other.low, other.high, other.level)
        assert verdict.difference == other.difference
        assert verdict.p_adjusted == pytest.approx(min(1, other.p_adjusted / 0.1))


def test_a_decided_method_stays_as_it_was():
    methods, base = study([8.0, 0.1, 0.1])
    first = judged(methods, base, reached=1).verdicts["m0"]
    assert first.text == "better"
    # What its later seeds would show is not looked at.
    methods["m0"] |= dict.fromkeys(range(5, 40), -100.0)
    last = judged(methods, base).verdicts["m0"]
    assert last == first
    assert last.difference.n == 5


def test_what_one_rejection_frees_goes_to_the_others():
    methods, base = study([8.0, 8.0, 0.0])
    analysis = Analysis(margin=0.2, looks=LOOKS)
    family = judge_looks(methods, base, analysis, SEEDS, 2)
    assert [v.text[:6] for v in family.verdicts.values()] == ["better", "better", "cannot"]
    # One comparison is left of three, so at the second look its p is not multiplied.
    left = family.verdicts["m2"]
    alone = paired_difference({s: methods["m2"][s] for s in range(10)}, base)
    assert left.p_adjusted == pytest.approx(min(1, alone.p / 0.2))
    # An equality that was not shown is no rejection: it still counts three.
    assert left.level == pytest.approx(1 - 0.05 * 0.2)


def test_methods_that_are_equal_stop_too_and_count_among_the_differences():
    methods, base = study([0.0, 0.0, 0.0, 0.0], sd=0.05)
    family = judged(methods, base)
    assert {v.text for v in family.verdicts.values()} == {"practically equal"}
    assert max(v.difference.n for v in family.verdicts.values()) < 40


@pytest.mark.parametrize("scored", [0, 2])
def test_methods_without_scores_ask_for_no_more_seeds(scored):
    methods, base = study([0.1, 0.1])
    methods["m0"] = {s: methods["m0"][s] for s in range(scored)}
    family = judged(methods, base, reached=1)
    assert family.verdicts["m0"].decided
    assert not family.verdicts["m1"].decided
    assert family.size == 2


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.floats(-3, 3), min_size=1, max_size=6))
def test_intervals_exclude_zero_where_p_is_small(seed, shifts):
    methods, base = study(shifts, seed=seed)
    for verdict in judged(methods, base).verdicts.values():
        excludes = verdict.low > 0 or verdict.high < 0
        assert verdict.significant == excludes == (verdict.p_adjusted <= 0.05)


def test_a_method_does_not_depend_on_the_names_or_the_order():
    methods, base = study([0.0, 2.0, 0.5, -1.0])
    turned = dict(reversed(methods.items()))
    assert judged(turned, base).verdicts == judged(methods, base).verdicts


def test_pairs_for_bold_pay_for_the_look_they_stopped_at():
    methods, base = study([3.0, 0.0])
    scores = {"ce": base, **methods}
    scores["m0"] = {s: methods["m0"][s] for s in range(5)}
    once, looks = (Analysis(margin=0.2, looks=x, test=PAIRED) for x in ((), LOOKS))
    # At 5 seeds p is below 0.05 and above a tenth of it.
    p = paired_difference(scores["m0"], base).p
    assert best_set(scores, once).members == {"m0"}
    assert (best_set(scores, looks).members == {"m0"}) == (p * 3 <= 0.005)


@pytest.mark.parametrize("test", [PAIRED, MODERATED])
def test_no_word_is_wrong_more_often_than_declared(test):
    """All methods are equal, or all a margin apart: every verdict of that kind is wrong."""
    repetitions, wrong, equal = 60, 0, 0
    for seed in range(repetitions):
        methods, base = study([0.0] * 8, seed=seed)
        wrong += any(v.significant for v in judged(methods, base, test=test).verdicts.values())
        methods, base = study([0.5] * 8, seed=seed)
        family = judged(methods, base, test=test, margin=0.5)
        equal += any(v.equal for v in family.verdicts.values())
    slack = 3 * np.sqrt(0.05 * 0.95 * repetitions)
    assert wrong <= 0.05 * repetitions + slack
    assert equal <= 0.05 * repetitions + slack
