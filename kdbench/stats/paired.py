"""The mean of one method and the paired difference of two: Student's t over the seeds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

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
        """Half the interval's width: the number after the plus-minus sign."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Difference(Interval):
    """The mean of score minus reference over `seeds`, which both sides have.

    `se` is the standard error of the mean, `df` its degrees of freedom, and `p` the
    uncorrected two-sided p value. `sd` is at least `image`, what one test image
    counts (0 if unknown): scores are whole images, and a few seeds without a disagreement do
    not show that there is none. `constant`: the difference is the same number on every seed
    and `image` is unknown, so there is no variance; see `t_intervals`.
    """

    se: float
    p: float
    df: float
    constant: bool
    image: float = field(default=0.0, kw_only=True)
    seeds: tuple[int, ...]
    values: tuple[float, ...]


def _is_constant(values: np.ndarray, scale: float) -> np.ndarray:
    """Whether all values of the last axis are one number, up to rounding at `scale`."""
    spread = values.max(axis=-1) - values.min(axis=-1)
    return np.asarray(spread <= 1e-11 * max(scale, float(np.abs(values).max(initial=0.0))))


def t_intervals(
    values: np.ndarray, level: float = 0.95, scale: float = 0.0, image: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, lower and upper bound of its t interval, and p of the t test against 0,
    along the last axis (at least 2 values). `scale`: the largest of the numbers that
    `values` are differences of, to tell rounding from variance. The standard deviation
    is at least `image`.

    Without `image`, values that are all one number have no variance, and their interval
    has no width. The t test would give p = 0 from three equal differences, so p is that of
    the exact sign-flip test instead: 2 / 2**n, and 1 where the number is 0.
    """
    from scipy import stats

    values = np.asarray(values, dtype=float)
    n = values.shape[-1]
    mean, variance, flat = mean_and_variance(values, scale, image)
    se = np.sqrt(np.where(flat, 1.0, variance) / n)
    half = np.where(flat, 0.0, stats.t.ppf((1 + level) / 2, n - 1) * se)
    p = np.where(flat, flip_p(mean, n), 2 * stats.t.sf(np.abs(mean) / se, n - 1))
    return mean, mean - half, mean + half, p


def mean_and_variance(
    values: np.ndarray, scale: float, image: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and variance along the last axis, without rounding errors where all values are
    one number, and whether there is no variance; `scale` and `image` as in `t_intervals`."""
    same = _is_constant(values, scale)
    mean = values.mean(axis=-1)
    mean = np.where(same & (np.abs(mean) <= 1e-11 * max(scale, 1e-300)), 0.0, mean)
    variance = np.maximum(np.where(same, 0.0, values.var(axis=-1, ddof=1)), image**2)
    return mean, variance, variance == 0


def flip_p(mean: np.ndarray | float, n: int) -> np.ndarray:
    """p of the exact sign-flip test of `n` values that are all `mean`."""
    return np.where(np.asarray(mean) == 0, 1.0, 2.0 ** (1 - n))


def drop_missing(scores: Scores) -> dict[int, float]:
    """The scores that are neither absent nor NaN, sorted by seed."""
    return {s: float(v) for s, v in sorted(scores.items()) if v is not None and not math.isnan(v)}


def mean_interval(scores: Scores, level: float = 0.95) -> Interval:
    """The mean over seeds and its t interval."""
    values = np.array(list(drop_missing(scores).values()))
    if len(values) < 2:
        mean = float(values[0]) if len(values) else math.nan
        return Interval(mean, math.nan, math.nan, math.nan, len(values))
    mean, low, high, _ = (float(x) for x in t_intervals(values, level))
    sd = 0.0 if low == high else float(values.std(ddof=1))
    return Interval(mean, low, high, sd, len(values))


def paired_difference(
    scores: Scores, reference: Scores, level: float = 0.95, image: float = 0.0
) -> Difference:
    """Score minus reference, paired strictly by seed, over the seeds that both have.

    The interval is Student's t with n - 1 degrees of freedom, and `p` that of
    `scipy.stats.ttest_rel`, unless the values vary by less than one `image`; see
    `Difference` and `t_intervals`.
    With one common seed only the mean is a number, with none everything is NaN.
    """
    by_seed, reference_by_seed = drop_missing(scores), drop_missing(reference)
    seeds = tuple(s for s in by_seed if s in reference_by_seed)
    a = np.array([by_seed[s] for s in seeds])
    b = np.array([reference_by_seed[s] for s in seeds])
    scale = max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0))
    return difference_from_values(a - b, seeds, level, float(scale), image)


def difference_from_values(
    values: np.ndarray, seeds: tuple[int, ...], level: float, scale: float, image: float
) -> Difference:
    """The difference with these values on `seeds`; `scale` and `image` as in `t_intervals`."""
    n = len(values)
    floats = tuple(float(v) for v in values)
    if n < 2:
        mean = floats[0] if n else math.nan
        nan = math.nan
        return Difference(mean, nan, nan, nan, n, se=nan, p=nan, df=0, constant=False,
                          image=image, seeds=seeds, values=floats)  # fmt: skip
    mean, variance, _ = (float(x) for x in mean_and_variance(values, scale, image))
    se = math.sqrt(variance / n)
    half, p = 0.0, float(flip_p(mean, n))
    if se:
        from scipy import stats

        half = float(stats.t.ppf((1 + level) / 2, n - 1)) * se
        p = 2 * float(stats.t.sf(abs(mean) / se, n - 1))
    return Difference(mean, mean - half, mean + half, math.sqrt(variance), n, se=se, p=p,
                      df=n - 1, constant=se == 0, image=image, seeds=seeds,
                      values=floats)  # fmt: skip


def interval_at(difference: Difference, level: float) -> tuple[float, float]:
    """The t interval of a difference at another level; NaN below 2 seeds."""
    if difference.n < 2 or difference.constant:
        return difference.low, difference.high
    from scipy import stats

    half = float(stats.t.ppf((1 + level) / 2, difference.df)) * difference.se
    return difference.mean - half, difference.mean + half


def equality_p(difference: Difference, margin: float) -> float:
    """p of the two one-sided t tests that the true difference lies within +-`margin`
    (Schuirmann 1987): the larger of the two.

    It needs only the mean, its standard error and its degrees of freedom, so it serves a
    mean over several settings too; for one setting it equals statsmodels' `ttost_paired`.
    Two runs that differ by a margin of k test images disagree on k or more, and a count of
    disagreements varies by about its expectation (McNemar 1947): so here the variance is at
    least the margin times one image.

    Without variance p is that of the exact one-sided sign-flip test, 1 / 2**n, inside the
    margin and 1 outside.
    """
    if difference.n < 2:
        return math.nan
    if difference.constant:
        return 0.5**difference.n if abs(difference.mean) < margin else 1.0
    from scipy import stats

    nearest = margin - abs(difference.mean)
    se = max(difference.se, math.sqrt(margin * difference.image / difference.n))
    return float(stats.t.sf(nearest / se, difference.df))


def prediction_interval(scores: Scores, level: float = 0.95) -> Interval:
    """The interval in which the score of one further seed lies with probability `level`:
    mean +- t * sd * sqrt(1 + 1 / n), for normal scores (Hahn and Meeker 1991).

    It is sqrt(n + 1) times wider than the interval of the mean. Bounds are NaN below 2
    seeds.
    """
    mean = mean_interval(scores, level)
    half = mean.half * math.sqrt(mean.n + 1)
    return Interval(mean.mean, mean.mean - half, mean.mean + half, mean.sd, mean.n)


def lies_within(interval: Interval, value: float) -> bool | None:
    """Whether `value` lies inside the interval, bounds included; None where the interval
    has no bounds or `value` is NaN. An interval without width (all scores are one number)
    contains only that number, up to rounding."""
    if math.isnan(interval.low) or math.isnan(value):
        return None
    rounding = 1e-11 * max(abs(interval.mean), abs(value))
    return interval.low - rounding <= value <= interval.high + rounding
