"""How small a difference could have been seen, and how many seeds would see it."""

import math
from itertools import count
from typing import TYPE_CHECKING, Any

from kdbench.stats.paired import FEWEST_SEEDS, Difference

if TYPE_CHECKING:
    from kdbench.stats.analysis import Analysis


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

    At alpha / comparisons: the first Holm step, which equals Bonferroni's. It solves
    what statsmodels' `TTestPower` computes, without its lower tail (the chance of a
    significant result of the wrong sign): scipy's `nct.cdf` is NaN for many arguments
    there, on which `TTestPower.solve_power` silently returns wrong numbers.
    """
    if n < 2:
        return math.nan
    from scipy import optimize, stats

    df = n - 1 if df is None else df
    critical = float(stats.t.isf(alpha / comparisons / 2, df))

    def missing(effect: float) -> Any:
        return stats.nct.sf(critical, df, effect * math.sqrt(n)) - power

    high = 1.0
    while missing(high) < 0:
        high *= 2
    return float(optimize.brentq(missing, 0.0, high, xtol=1e-10))


def seeds_needed(
    effect: float,
    alpha: float = 0.05,
    power: float = 0.8,
    comparisons: int = 1,
    most: int = 10_000,
) -> int | None:
    """The fewest paired seeds that detect `effect` (in standard deviations of the paired
    differences, sign ignored) with `power`; None where `most` would not do."""
    effect = abs(effect)
    if math.isnan(effect) or detectable(most, alpha, power, comparisons) > effect:
        return None
    low, high = 1, most  # `low` does not do, `high` does
    while high - low > 1:
        middle = (low + high) // 2
        if detectable(middle, alpha, power, comparisons) <= effect:
            high = middle
        else:
            low = middle
    return high


def seeds_to_tell_apart(
    difference: Difference, analysis: "Analysis", comparisons: int
) -> int | None:
    """The paired seeds that a next study would need to tell these two methods apart, with
    the analysis' power and error, if their true difference and its standard deviation
    were those observed. It plans; it says nothing about the study that observed them.

    At least 3, below which there is no verdict. None where the observed difference is 0
    or unknown, and where 10,000 seeds would not do. A difference without variance is
    tested by signs (see `t_intervals`), so it needs 2 / 2**n to be at most
    alpha / comparisons. For a `Pooled` difference the number is of seeds in each
    setting, too many by a few where settings have seeds of their own.
    """
    if difference.n < 2 or difference.mean == 0:
        return None
    if difference.constant:
        error = analysis.alpha / comparisons
        return next(n for n in count(FEWEST_SEEDS) if 2.0 ** (1 - n) <= error)
    effect = difference.mean / difference.sd
    found = seeds_needed(effect, analysis.alpha, analysis.power, comparisons)
    return None if found is None else max(found, FEWEST_SEEDS)
