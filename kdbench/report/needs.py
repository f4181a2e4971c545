"""The seeds that a comparison needs under a family's own test, and what a seed costs."""

from collections.abc import Callable

import pandas as pd

from kdbench.report.data.runs import TEACHER
from kdbench.stats import (
    Difference,
    Family,
    equality_p,
    seeds_for_equality,
    seeds_needed,
    seeds_of_constant,
)


def seeds_to_tell(family: Family, sd: float, points: float) -> int | None:
    """The fewest seeds that call a true difference of `points` better or worse, where the paired
    differences have the standard deviation `sd`; None: more than 10,000."""
    a = family.analysis
    if sd == 0:
        return _of_constant(family, points, lambda d: d.p)
    return seeds_needed(points / sd, a.last_alpha, a.power, family.size, family.common(sd))


def seeds_to_equate(family: Family, sd: float, points: float) -> int | None:
    """The fewest seeds that call a method whose true difference is `points` practically equal;
    None: never, or more than 10,000."""
    a = family.analysis
    if points >= a.margin:
        return None
    if sd == 0:
        return _of_constant(family, points, lambda d: equality_p(d, a.margin))
    common, least = family.common(sd), a.margin * a.image / sd**2
    return seeds_for_equality(
        a.margin / sd, points / sd, a.last_alpha, a.power, family.size, common, least
    )


def _of_constant(family: Family, points: float, p_of: Callable[[Difference], float]) -> int | None:
    return seeds_of_constant(points, family.analysis, family.size, family.common_variance, p_of)


def seconds_by_row(runs: pd.DataFrame) -> dict[tuple[str, str], float]:
    """The median seconds of a run, by label and row."""
    timed = runs.dropna(subset=["measured.seconds"])
    medians = timed.groupby(["label", "row"], sort=False)["measured.seconds"].median()
    return {(str(k[0]), str(k[1])): float(v) for k, v in medians.items()}  # type: ignore[index]


def seconds_a_seed(runs: pd.DataFrame) -> float:
    """The seconds of one seed of the whole study, every row once, on one worker."""
    return sum(s for (_, row), s in seconds_by_row(runs).items() if row != TEACHER)
