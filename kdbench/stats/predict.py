"""What one more seed would give."""

import math

from kdbench.stats.paired import Interval, Scores, mean_interval


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
