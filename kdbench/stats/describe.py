"""Descriptive statistics: no test, no interval, no verdict."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from kdbench.stats.paired import Scores, drop_missing

SMALLEST_GAP = 1.0
"""Percentage points from student to teacher below which no share of the gap is given: a
mean over seeds varies by some tenths of a point, which would change the share by tens of
percent."""


def iqm(scores: Scores | ArrayLike) -> float:
    """The interquartile mean: of the middle half of all `scores`, after the lowest and
    the highest quarter (rounded down) are cut (Agarwal et al. 2021). NaN scores are left
    out; NaN where none is left."""
    values = _flat(scores)
    if not len(values):
        return math.nan
    from scipy import stats

    return float(stats.trim_mean(values, 0.25))


def performance_profile(scores: Scores | ArrayLike, thresholds: ArrayLike) -> np.ndarray:
    """The share of runs with a score above each threshold (Agarwal et al. 2021). NaN
    scores are left out; NaN where none is left."""
    values, limits = _flat(scores), np.asarray(thresholds, dtype=float)
    if not len(values):
        return np.full(limits.shape, math.nan)
    return (values > limits[..., None]).mean(axis=-1)


def probability_of_improvement(a: Scores, b: Scores, paired: bool) -> float:
    """The share of comparisons in which `a` has the higher score; a tie counts a half.

    `paired` compares runs of the same seed, over the seeds that both have. Otherwise every
    run of `a` is compared with every run of `b`, which is the probability of improvement
    of Agarwal et al. (2021) in one setting. NaN where there is nothing to compare.
    """
    scores_a, scores_b = drop_missing(a), drop_missing(b)
    if paired:
        differences = np.array([scores_a[s] - scores_b[s] for s in scores_a if s in scores_b])
    else:
        differences = np.subtract.outer(list(scores_a.values()), list(scores_b.values()))
    return float((1 + np.sign(differences).mean()) / 2) if differences.size else math.nan


def gap_recovered(method: float, student: float, teacher: float) -> float:
    """How much of the way from the student alone to its teacher the method goes:
    (method - student) / (teacher - student), of mean scores in percentage points.

    NaN where the teacher is less than `SMALLEST_GAP` above the student.
    """
    gap = teacher - student
    return (method - student) / gap if gap >= SMALLEST_GAP else math.nan


def budget_curve(scores: Sequence[float], sampler: str) -> np.ndarray:
    """The expected best validation score of n random trials, for n = 1 to all B of
    `scores`: the mean best of all subsets of n of them, an unbiased estimate (Tang et
    al. 2020, "Showing Your Work Doesn't Always Work").

    The trials must be independent draws: leave out trial 0, which is the published
    defaults. Raises `ValueError` for any sampler but "random", since one that learns
    draws each trial from the last, and for a trial without a score.
    """
    if sampler != "random":
        raise ValueError(f"a budget curve needs random trials, not those of {sampler!r}")
    ordered = np.sort(np.asarray(scores, dtype=float))
    if np.isnan(ordered).any():
        raise ValueError("a budget curve needs the score of every trial")
    b = len(ordered)
    # C(i - 1, n - 1) of the C(b, n) subsets have the i-th lowest score as their best.
    shares = [
        [math.comb(i - 1, n - 1) / math.comb(b, n) for i in range(1, b + 1)]
        for n in range(1, b + 1)
    ]
    return np.array(shares).reshape(b, b) @ ordered


def _flat(scores: Scores | ArrayLike) -> np.ndarray:
    """The scores that are not NaN, as one vector."""
    listed = list(scores.values()) if isinstance(scores, Mapping) else scores
    values = np.asarray(listed, dtype=float).ravel()
    return values[~np.isnan(values)]
