"""Trials of the tuning: a function of what is known, and of nothing else."""

import math
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from kdbench.methods import METHODS
from kdbench.study.sampling import ROUND, SAMPLERS, best, draw, is_at_edge, suggest


@dataclass(frozen=True)
class Range:
    """What a method declares, without torch."""

    low: float
    high: float
    log: bool = False


RANGES = {"temperature": Range(1.0, 20.0, log=True), "alpha": Range(0.1, 0.99)}
DEFAULTS = {"temperature": 4.0, "alpha": 0.9}


def score(hparams) -> float:
    """A made-up accuracy with its top inside the ranges."""
    return 0.9 - abs(math.log(hparams["temperature"] / 3.0)) / 10 - abs(hparams["alpha"] - 0.5) / 10


def tuned(sampler: str, count: int, seed: int = 0, label: str = "kd", diverged=()) -> list[dict]:
    """All points of a tuning in which every trial finishes."""
    finished: dict = {}
    while True:
        known = suggest(sampler, RANGES, DEFAULTS, count, seed, label, finished)
        fresh = [n for n in range(len(known)) if n not in finished]
        if not fresh:
            return known
        for n in fresh:
            finished[n] = (known[n], None if n in diverged else score(known[n]))


# -- random


def test_random_knows_all_points_at_once() -> None:
    found = suggest("random", RANGES, DEFAULTS, 8, 0, "kd", {})
    assert len(found) == 8
    assert found[0] == DEFAULTS
    assert found[:3] == suggest("random", RANGES, DEFAULTS, 3, 0, "kd", {})
    assert len({point["alpha"] for point in found}) == 8


def test_methods_share_the_draws_of_a_shared_knob() -> None:
    one = suggest("random", RANGES, DEFAULTS, 8, 0, "kd", {})
    ranges = {"beta": Range(0.0, 1.0), "temperature": RANGES["temperature"]}
    other = suggest("random", ranges, {"beta": 0.0, "temperature": 2.0}, 8, 0, "dkd", {})
    assert [p["temperature"] for p in one[1:]] == [p["temperature"] for p in other[1:]]


def test_draws_differ_by_seed_name_and_number() -> None:
    wide = Range(0.0, 1.0)
    draws = [draw(wide, s, n, i) for s in range(5) for n in ("a", "b") for i in range(20)]
    assert len(set(draws)) == len(draws)


def test_draws_are_what_they_always_were() -> None:
    assert draw(Range(0.0, 1.0), 0, "alpha", 1) == 0.225421
    assert draw(Range(1.0, 20.0, log=True), 0, "temperature", 1) == 2.58907


@given(st.floats(1e-6, 1e3), st.floats(1e-6, 1e3), st.booleans(), st.integers(0, 10**9), st.text())
def test_draws_stay_in_their_range(a: float, b: float, log: bool, seed: int, name: str) -> None:
    low, high = sorted((a, b))
    assert low <= draw(Range(low, high, log), seed, name, 3) <= high


@pytest.mark.parametrize("log", [False, True])
def test_draws_are_uniform_in_their_scale(log: bool) -> None:
    interval = Range(0.01, 100.0, log)
    drawn = np.array([draw(interval, 0, "beta", i) for i in range(2000)])
    share = np.log(drawn / 0.01) / np.log(1e4) if log else (drawn - 0.01) / 99.99
    assert kstest(share, "uniform").pvalue > 0.01


# -- TPE


def test_tpe_is_the_same_whether_interrupted_or_not() -> None:
    whole = tuned("tpe", 12)
    assert len(whole) == 12
    for cut in range(13):
        finished = {n: (whole[n], score(whole[n])) for n in range(cut)}
        known = suggest("tpe", RANGES, DEFAULTS, 12, 0, "kd", finished)
        assert known == whole[: len(known)]
        assert len(known) == min(12, ROUND * (1 + cut // ROUND))


def test_tpe_gives_what_it_always_gave() -> None:
    """Another Optuna that draws otherwise would make an old tuning go on with other points."""
    assert tuned("tpe", 6)[3:] == [
        {"temperature": 4.63521, "alpha": 0.543466},
        {"temperature": 1.08074, "alpha": 0.295235},
        {"temperature": 16.3624, "alpha": 0.365494},
    ]


def test_tpe_waits_for_the_whole_round() -> None:
    whole = tuned("tpe", 8)
    finished = {n: (whole[n], score(whole[n])) for n in (0, 1, 3, 4, 5)}
    assert suggest("tpe", RANGES, DEFAULTS, 8, 0, "kd", finished) == whole[:ROUND]


def test_tpe_does_not_depend_on_how_many_are_wanted() -> None:
    assert tuned("tpe", 6) == tuned("tpe", 12)[:6]
    assert tuned("tpe", 3) == tuned("tpe", 12)[:3]


def test_tpe_depends_on_seed_label_and_scores() -> None:
    plain = tuned("tpe", 8)
    assert plain[0] == DEFAULTS
    assert tuned("tpe", 8, seed=1)[1:] != plain[1:]
    assert tuned("tpe", 8, label="dkd")[1:] != plain[1:]
    assert tuned("tpe", 8, diverged=(1,))[4:] != plain[4:]


def test_tpe_learns_and_stays_inside() -> None:
    found = tuned("tpe", 40)
    scores = [score(point) for point in found]
    assert np.mean(scores[30:]) > np.mean(scores[1:11])
    for name, interval in RANGES.items():
        assert all(interval.low <= point[name] <= interval.high for point in found)


def test_tpe_takes_a_default_outside_of_the_range_and_a_fully_diverged_round() -> None:
    outside = {"temperature": 40.0, "alpha": 0.9}
    first = suggest("tpe", RANGES, outside, 8, 0, "kd", {})
    assert first[0] == outside
    finished = dict(enumerate((point, None) for point in first))
    assert len(suggest("tpe", RANGES, outside, 8, 0, "kd", finished)) == 8


def test_an_unknown_sampler_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'gp'.*random, tpe"):
        suggest("gp", RANGES, DEFAULTS, 8, 0, "kd", {})


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_suggesting_prints_nothing_and_loads_optuna_only_when_needed(sampler: str) -> None:
    code = (
        "import sys; from kdbench.study.sampling import suggest\n"
        "assert 'optuna' not in sys.modules\n"
        "class R: low, high, log = 1.0, 2.0, True\n"
        f"suggest({sampler!r}, {{'a': R}}, {{'a': 1.5}}, 8, 0, 'kd', {{}})\n"
        f"assert ('optuna' in sys.modules) == ({sampler!r} == 'tpe')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# -- choice


def test_best_is_accuracy_then_nll_then_number() -> None:
    assert best({0: (0.9, 0.5), 1: (0.91, 0.9), 2: (0.8, 0.1)}) == 1
    assert best({0: (0.9, 0.5), 1: (0.9, 0.4)}) == 1
    assert best({3: (0.9, 0.5), 1: (0.9, 0.5), 2: (0.9, 0.5)}) == 1
    assert best({0: None, 1: (0.1, 9.0)}) == 1
    assert best({0: (0.9, math.nan), 1: (0.9, 5.0)}) == 1
    assert best({0: (math.nan, 0.1), 1: (0.2, 5.0)}) == 1


def test_no_best_where_all_diverged() -> None:
    with pytest.raises(ValueError, match="none of 2 trials"):
        best({0: None, 1: None})


@given(
    st.dictionaries(
        st.integers(0, 50),
        st.none() | st.tuples(st.floats(0, 1), st.floats(0, 10)),
        min_size=1,
    )
)
def test_no_trial_beats_the_best(finished) -> None:
    alive = {n: s for n, s in finished.items() if s is not None}
    if not alive:
        return
    chosen = best(finished)
    accuracy, nll = alive[chosen]
    for number, (other, loss) in alive.items():
        assert (other, -loss, -number) <= (accuracy, -nll, -chosen)


@pytest.mark.parametrize(
    ("value", "interval", "at_edge"),
    [
        (0.04, Range(0.0, 1.0), True),
        (0.06, Range(0.0, 1.0), False),
        (0.96, Range(0.0, 1.0), True),
        (1.0, Range(0.0, 1.0), True),
        (0.01, Range(0.001, 1000.0, log=True), False),  # a sixth of the decades
        (0.0019, Range(0.001, 1000.0, log=True), True),
        (10.0, Range(0.001, 1000.0, log=True), False),
    ],
)
def test_what_lies_at_an_edge(value: float, interval: Range, at_edge: bool) -> None:
    assert is_at_edge(value, interval) == at_edge


@pytest.mark.parametrize("key", METHODS)
def test_every_search_range_contains_the_default(key: str) -> None:
    method = METHODS[key]()
    for name, searched in type(method).searched().items():
        assert searched.low <= getattr(method, name) <= searched.high, name
