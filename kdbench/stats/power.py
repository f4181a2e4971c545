"""Power analysis: the smallest detectable difference, and the seeds needed to detect one."""

import math
from itertools import count
from typing import Any

from kdbench.stats.analysis import Analysis
from kdbench.stats.paired import FEWEST_SEEDS, Difference


def detectable(
    n: int,
    alpha: float = 0.05,
    power: float = 0.8,
    comparisons: int = 1,
    df: float | None = None,
) -> float:
    """The smallest true difference that `n` paired seeds detect with `power`, in units of
    the standard deviation of the paired differences; NaN below 2 seeds. `df`: the degrees
    of freedom where they are not n - 1, as over several settings.

    The test is at alpha / comparisons: Holm's first step, which equals Bonferroni's. The
    power is that of statsmodels' `TTestPower` without its lower tail (the chance of a
    significant result of the wrong sign), because scipy's `nct.cdf` is NaN for many
    arguments there and `TTestPower.solve_power` then silently returns wrong numbers.
    """
    if n < 2:
        return math.nan
    from scipy import optimize, stats

    df = n - 1 if df is None else df
    critical = float(stats.t.isf(alpha / comparisons / 2, df))

    def power_gap(effect: float) -> Any:
        return stats.nct.sf(critical, df, effect * math.sqrt(n)) - power

    high = 1.0
    while power_gap(high) < 0:
        high *= 2
    return float(optimize.brentq(power_gap, 0.0, high, xtol=1e-10))


def seeds_needed(
    effect: float,
    alpha: float = 0.05,
    power: float = 0.8,
    comparisons: int = 1,
    most: int = 10_000,
) -> int | None:
    """The fewest paired seeds that detect `effect` (in standard deviations of the paired
    differences, sign ignored) with `power`; None where `most` seeds do not suffice."""
    effect = abs(effect)
    if math.isnan(effect) or detectable(most, alpha, power, comparisons) > effect:
        return None
    low, high = 1, most  # `low` seeds do not suffice, `high` do
    while high - low > 1:
        middle = (low + high) // 2
        if detectable(middle, alpha, power, comparisons) <= effect:
            high = middle
        else:
            low = middle
    return high


def seeds_to_tell_apart(difference: Difference, analysis: Analysis, comparisons: int) -> int | None:
    """The number of paired seeds with which a next study would tell these two methods
    apart at the analysis' power and error, if the true difference and its standard
    deviation are those observed. For planning only: it says nothing about the study
    that observed them.

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
    seeds = seeds_needed(effect, analysis.alpha, analysis.power, comparisons)
    return None if seeds is None else max(seeds, FEWEST_SEEDS)
