"""Power analysis: the smallest detectable difference, and the seeds needed to detect one."""

import math
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from kdbench.stats.analysis import Analysis
from kdbench.stats.moderated import (
    OWN_TEST,
    PRIOR_DF,
    confirmed_p,
    moderate_one,
    moderated_variances,
    own_comparisons,
)
from kdbench.stats.paired import FEWEST_SEEDS, Difference, difference_from_values

POINTS = 2000
"""Equally likely sample variances over which the power of the moderated t test is averaged."""


def detectable(
    n: int,
    alpha: float = 0.05,
    power: float = 0.8,
    comparisons: int = 1,
    df: float | None = None,
    common: float | None = None,
) -> float:
    """The smallest true difference that `n` paired seeds detect with `power`, in units of
    the standard deviation of the paired differences; NaN below 2 seeds. `df`: the degrees
    of freedom where they are not n - 1, as over several settings. `common`: the common
    variance relative to that of the differences, for the moderated t test; None is the
    paired t test.

    The test is at alpha / comparisons: Holm's first step, which equals Bonferroni's. The
    power is that of statsmodels' `TTestPower` without its lower tail (the chance of a
    significant result of the wrong sign), because scipy's `nct.cdf` is NaN for many
    arguments there and `TTestPower.solve_power` then silently returns wrong numbers.
    """
    if n < 2:
        return math.nan
    from scipy import optimize, stats

    df = n - 1 if df is None else df
    if common is None:
        critical = float(stats.t.isf(alpha / comparisons / 2, df))

        def power_gap(effect: float) -> Any:
            return stats.nct.sf(critical, df, effect * math.sqrt(n)) - power
    else:
        halves = half_widths(n, alpha / 2, comparisons, common)

        def power_gap(effect: float) -> Any:
            return stats.norm.sf((halves - effect) * math.sqrt(n)).mean() - power

    high = 1.0
    while power_gap(high) < 0:
        high *= 2
    return float(optimize.brentq(power_gap, 0.0, high, xtol=1e-10))


def half_widths(
    n: int, error: float, comparisons: int, common: float | None, least: float = 0.0
) -> np.ndarray:
    """What a mean difference must exceed to be significant at a one-sided `error`, in
    standard deviations, for `POINTS` equally likely sample variances; `common` as in
    `detectable`, and no variance is below `least`."""
    from scipy import stats

    shares = (np.arange(POINTS) + 0.5) / POINTS
    own = stats.chi2.ppf(shares, n - 1) / (n - 1)
    sd = np.sqrt(np.maximum(own, least))
    if common is None:
        halves = stats.t.isf(error / comparisons, n - 1) * sd
    else:
        variance = moderated_variances(own, np.array(common), np.array(n - 1))
        variance = np.maximum(variance, least)
        moderated = stats.t.isf(error / comparisons, n - 1 + PRIOR_DF) * np.sqrt(variance)
        confirming = stats.t.isf(error / min(OWN_TEST, comparisons), n - 1) * sd
        halves = np.maximum(moderated, confirming)
    return np.asarray(halves / math.sqrt(n))


def seeds_needed(
    effect: float,
    alpha: float = 0.05,
    power: float = 0.8,
    comparisons: int = 1,
    common: float | None = None,
) -> int | None:
    """The fewest paired seeds, at least 3, that detect `effect` (in standard deviations of the
    paired differences, sign ignored) with `power`; None where 10,000 seeds do not suffice.
    `common` as in `detectable`."""
    effect = abs(effect)
    if math.isnan(effect):
        return None
    return _fewest(lambda n: detectable(n, alpha, power, comparisons, None, common) <= effect)


def seeds_for_equality(
    margin: float,
    effect: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.8,
    comparisons: int = 1,
    common: float | None = None,
    least: float = 0.0,
) -> int | None:
    """The fewest paired seeds, at least 3, with which a method whose true difference is `effect`
    is called practically equal with `power` (both in standard deviations of the paired
    differences);
    None where 10,000 seeds do not suffice, as where the effect is not inside the margin.
    `common` and `least` as in `half_widths`."""
    from scipy import stats

    def suffice(n: int) -> bool:
        inside = margin - half_widths(n, alpha, comparisons, common, least)
        upper, lower = (inside - effect) * math.sqrt(n), (-inside - effect) * math.sqrt(n)
        chances = np.maximum(stats.norm.cdf(upper) - stats.norm.cdf(lower), 0)
        return bool(chances.mean() >= power)

    return None if math.isnan(margin) else _fewest(suffice)


def seeds_of_constant(
    points: float,
    analysis: Analysis,
    comparisons: int,
    common: float,
    p_of: Callable[[Difference], float],
) -> int | None:
    """The fewest paired seeds, at least 3, with which a difference that is `points` on every
    seed gets its verdict at the last look; None where 10,000 seeds do not suffice. Without
    variance nothing is left to chance. `p_of` is the test, of a difference or of equality;
    `common` is the variance that moderated tests shrink theirs towards, 0 where there is none.
    """
    own = own_comparisons(analysis, comparisons)

    def suffice(n: int) -> bool:
        d = difference_from_values(np.full(n, points), tuple(range(n)), analysis.level, points, 0)
        p = min(1.0, comparisons * p_of(moderate_one(d, common)))
        return confirmed_p(p, p_of(d), own) <= analysis.last_alpha

    return _fewest(suffice)


def _fewest(suffice: Callable[[int], bool], most: int = 10_000) -> int | None:
    """The smallest number of seeds, from the fewest with a verdict to `most`, that suffices, if
    all larger ones do."""
    if not suffice(most):
        return None
    low, high = FEWEST_SEEDS - 1, most  # `low` seeds do not suffice, `high` do
    while high - low > 1:
        middle = (low + high) // 2
        if suffice(middle):
            high = middle
        else:
            low = middle
    return high


def seeds_to_tell_apart(
    difference: Difference, analysis: Analysis, comparisons: int, common: float | None = None
) -> int | None:
    """The number of paired seeds with which a next study would tell these two methods
    apart at the analysis' power and error, if the true difference and its standard
    deviation are those observed. For planning only: it says nothing about the study
    that observed them. `common` as in `detectable`.

    At least 3, below which there is no verdict. None where the observed difference is 0
    or NaN, and where 10,000 seeds do not suffice. A difference without variance is tested
    by sign flips (see `t_intervals`), so 2 / 2**n must be at most alpha / comparisons.
    For a `Pooled` difference the number is that of the seeds in each setting, too high
    by a few where the settings do not share their seeds.
    """
    if difference.n < 2 or difference.mean == 0:
        return None
    if difference.constant:
        error = analysis.alpha / comparisons
        return next(n for n in count(FEWEST_SEEDS) if 2.0 ** (1 - n) <= error)
    effect = difference.mean / difference.sd
    return seeds_needed(effect, analysis.alpha, analysis.power, comparisons, common)
