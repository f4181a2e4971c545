"""One mean and one paired difference: Student's t over the seeds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Scores = Mapping[int, float]
"""Score by seed. A seed whose run has no score is left out or NaN."""
FEWEST_SEEDS = 3
"""Below this many paired seeds there is no verdict and no bold."""


@dataclass(frozen=True)
class Interval:
    """A mean over `n` seeds with its t interval; bounds are NaN where `n` < 2."""

    mean: float
    low: float
    high: float
    sd: float
    n: int

    @property
    def half(self) -> float:
        """Half the interval's width: what stands after the plus-minus sign."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Difference(Interval):
    """The mean of score minus reference over `seeds`, which both sides have.

    `se` is the standard error of the mean and `df` its degrees of freedom, `p` the raw
    two-sided p value. `constant`: the difference is the same number on every seed, so
    that there is no variance to test with; see `paired_difference`.
    """

    se: float
    p: float
    df: float
    constant: bool
    seeds: tuple[int, ...]
    values: tuple[float, ...]


def _constant(values: np.ndarray, scale: float) -> np.ndarray:
    """Whether all values of the last axis are one number, up to rounding at `scale`."""
    spread = values.max(axis=-1) - values.min(axis=-1)
    return np.asarray(spread <= 1e-11 * max(scale, float(np.abs(values).max(initial=0.0))))


def t_intervals(
    values: np.ndarray, level: float = 0.95, scale: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, lower and upper bound of its t interval, and p of the t test against 0,
    along the last axis (at least 2 values). `scale`: the size of the numbers that
    `values` are differences of, for telling rounding from variance.

    Values that are all one number have no variance. Their interval has no width. The t
    test would give p = 0 from three equal differences of one test image each, so p is
    the exact sign-flip test's instead: 2 / 2**n, and 1 where the number is 0.
    """
    from scipy import stats

    values = np.asarray(values, dtype=float)
    n = values.shape[-1]
    flat = _constant(values, scale)
    tested = np.where(flat[..., None], np.arange(n), values)  # any values that vary
    result = stats.ttest_1samp(tested, 0.0, axis=-1)
    bounds = result.confidence_interval(level)
    mean = values.mean(axis=-1)
    zero = np.abs(mean) <= 1e-11 * max(scale, 1e-300)
    mean = np.where(flat & zero, 0.0, mean)
    p = np.where(flat, np.where(mean == 0, 1.0, 2.0 ** (1 - n)), result.pvalue)
    return mean, np.where(flat, mean, bounds.low), np.where(flat, mean, bounds.high), p


def known(scores: Scores) -> dict[int, float]:
    """The seeds that have a score, in order."""
    return {s: float(v) for s, v in sorted(scores.items()) if v is not None and not math.isnan(v)}


def mean_interval(scores: Scores, level: float = 0.95) -> Interval:
    """The mean over seeds and its t interval."""
    values = np.array(list(known(scores).values()))
    if len(values) < 2:
        mean = float(values[0]) if len(values) else math.nan
        return Interval(mean, math.nan, math.nan, math.nan, len(values))
    mean, low, high, _ = (float(x) for x in t_intervals(values, level))
    sd = 0.0 if low == high else float(values.std(ddof=1))
    return Interval(mean, low, high, sd, len(values))


def paired_difference(scores: Scores, reference: Scores, level: float = 0.95) -> Difference:
    """Score minus reference, paired strictly by seed, over the seeds that both have.

    The interval is Student's t with n - 1 degrees of freedom, and `p` that of
    `scipy.stats.ttest_rel`; see `t_intervals` for differences without any variance.
    With one common seed there is a mean and nothing else, with none only NaN.
    """
    ours, theirs = known(scores), known(reference)
    seeds = tuple(s for s in ours if s in theirs)
    a = np.array([ours[s] for s in seeds])
    b = np.array([theirs[s] for s in seeds])
    scale = max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0))
    return from_values(a - b, seeds, level, float(scale))


def from_values(
    values: np.ndarray, seeds: tuple[int, ...], level: float, scale: float
) -> Difference:
    """The difference whose value on each of `seeds` is known; `scale` as in `t_intervals`."""
    n = len(values)
    kept = tuple(float(v) for v in values)
    if n < 2:
        mean = kept[0] if n else math.nan
        nan = math.nan
        return Difference(mean, nan, nan, nan, n, se=nan, p=nan, df=0, constant=False,
                          seeds=seeds, values=kept)  # fmt: skip
    mean, low, high, p = (float(x) for x in t_intervals(values, level, scale))
    constant = bool(_constant(values, scale))
    sd = 0.0 if constant else float(values.std(ddof=1))
    return Difference(mean, low, high, sd, n, se=sd / math.sqrt(n), p=p, df=n - 1,
                      constant=constant, seeds=seeds, values=kept)  # fmt: skip


def interval_at(difference: Difference, level: float) -> tuple[float, float]:
    """The t interval of a difference at another level. NaN where it has none."""
    if difference.n < 2 or difference.constant:
        return difference.low, difference.high
    from scipy import stats

    half = float(stats.t.ppf((1 + level) / 2, difference.df)) * difference.se
    return difference.mean - half, difference.mean + half


def equality_p(difference: Difference, margin: float) -> float:
    """p of the two one-sided t tests that the true difference lies within +-`margin`
    (Schuirmann 1987): the larger of the two.

    From the mean, its standard error and its degrees of freedom, so that it serves a
    mean over several settings too; for one setting it is statsmodels' `ttost_paired`.
    Without variance, 0 inside the margin and 1 outside: identical scores are equal.
    """
    if difference.n < 2:
        return math.nan
    if difference.constant:
        return 0.0 if abs(difference.mean) < margin else 1.0
    from scipy import stats

    nearest = margin - abs(difference.mean)
    return float(stats.t.sf(nearest / difference.se, difference.df))


def prediction_interval(scores: Scores, level: float = 0.95) -> Interval:
    """Where the score of one further seed lies: mean +- t * sd * sqrt(1 + 1 / n).

    For normal scores, unlike the interval of the mean, which is sqrt(n + 1) times
    narrower (Hahn and Meeker 1991). Bounds are NaN below 2 seeds.
    """
    found = mean_interval(scores, level)
    half = found.half * math.sqrt(found.n + 1)
    return Interval(found.mean, found.mean - half, found.mean + half, found.sd, found.n)


def lies_within(interval: Interval, value: float) -> bool | None:
    """Whether `value` lies inside the interval, bounds included; None where the interval
    has no bounds or `value` is NaN. An interval without width, from scores that are all
    one number, holds that number only, up to rounding."""
    if math.isnan(interval.low) or math.isnan(value):
        return None
    rounding = 1e-11 * max(abs(interval.mean), abs(value))
    return interval.low - rounding <= value <= interval.high + rounding
