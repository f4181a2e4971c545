"""How many seeds a study needs to see a difference, and what they cost."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdbench.errors import KdbenchError
from kdbench.report.data.report_data import ReportData
from kdbench.report.data.runs import TEACHER
from kdbench.report.write import leaderboard_of
from kdbench.stats import Analysis, seeds_needed


class TooFewRuns(KdbenchError):
    """A study has too few paired runs to say how much they vary."""


@dataclass(frozen=True)
class Need:
    """What one comparison needs: the standard deviation of its paired differences (points)
    over `n` stored seeds, the fewest seeds that detect the difference (None: more than
    10,000), and the seconds of a run of its row (NaN where none is known)."""

    label: str
    sd: float
    n: int
    seeds: int | None
    seconds: float


@dataclass(frozen=True)
class Forecast:
    """The seeds and hours to detect `difference` points, comparison by comparison.

    `typical` is the seeds for the median standard deviation, `seconds` those of one seed
    of the whole study, every row once, on one worker.
    """

    study: str
    difference: float
    analysis: Analysis
    comparisons: int
    needs: tuple[Need, ...]
    typical: int | None
    seconds: float

    @property
    def hours(self) -> float:
        """Of one worker, for all rows on the typical number of seeds."""
        return math.nan if self.typical is None else self.typical * self.seconds / 3600


def forecast_seeds(data: ReportData, difference: float) -> Forecast:
    """The seeds and hours it takes to detect `difference` (points, positive) with the
    report's own test, correction and power.

    Raises `TooFewRuns` where no comparison has two paired seeds.
    """
    board = leaderboard_of(data)
    family = board.family
    analysis, m = family.analysis, family.size
    seconds = _seconds(data.runs)
    primary = {(r["method"]): r["row"] for _, r in board.table.iterrows() if not pd.isna(r["p"])}
    needs = []
    for label, verdict in family.verdicts.items():
        d = verdict.difference
        if d.n < 2:
            continue
        needs.append(
            Need(
                label,
                d.sd,
                d.n,
                _seeds(difference, d.sd, analysis, m),
                seconds.get((label, primary.get(label, "")), math.nan),
            )
        )
    if not needs:
        raise TooFewRuns(
            f"study '{board.study}' has no method with two seeds paired with {board.reference}: "
            "run it on two or more seeds first, three or more for a steady answer"
        )
    typical = _seeds(difference, family.sd, analysis, m)
    total = sum(s for (_, row), s in seconds.items() if row != TEACHER)
    return Forecast(board.study, difference, analysis, m, tuple(needs), typical, total)


def _seeds(difference: float, sd: float, analysis: Analysis, comparisons: int) -> int | None:
    if sd == 0:
        return 2  # the fewest that a paired test takes
    return seeds_needed(difference / sd, analysis.alpha, analysis.power, comparisons)


def _seconds(runs: pd.DataFrame) -> dict[tuple[str, str], float]:
    """The median seconds of a run, by label and row."""
    timed = runs.dropna(subset=["measured.seconds"])
    medians = timed.groupby(["label", "row"], sort=False)["measured.seconds"].median()
    return {(str(k[0]), str(k[1])): float(v) for k, v in medians.items()}  # type: ignore[index]


def forecast_sentences(forecast: Forecast) -> Iterable[str]:
    """The seeds and hours that are needed, in words."""
    a = forecast.analysis
    yield (
        f"To detect {forecast.difference:g} points at {100 * a.power:g} % power ({a.test_name}, "
        f"family-wise error {100 * a.alpha:g} %, {forecast.comparisons} comparisons):"
    )
    if forecast.typical is None:
        yield "more than 10,000 seeds: a difference that small cannot be seen in this setting."
        return
    hours = f"{forecast.hours:.1f} hours of one worker" if forecast.seconds else "unknown hours"
    yield (
        f"{forecast.typical} seeds for the typical comparison (median standard deviation), "
        f"{hours} for every row of the study on each of them, teachers, tuning and earlier "
        "stages not counted."
    )
    fewest = min(n.n for n in forecast.needs)
    if fewest < 10:
        yield (
            f"The standard deviations are themselves estimates from {fewest} seeds and may be off "
            f"by {_slack(fewest)}."
        )


def _slack(n: int) -> str:
    """The 95 % interval of a standard deviation from `n` seeds, as factors."""
    from scipy import stats

    low = math.sqrt((n - 1) / stats.chi2.ppf(0.975, n - 1))
    high = math.sqrt((n - 1) / stats.chi2.ppf(0.025, n - 1))
    return f"factors of {low:.2f} to {high:.2f} (95 % interval)"


def forecast_table(forecast: Forecast) -> Any:
    """A rich table with one line for each comparison."""
    from rich.table import Table
    from rich.text import Text

    headings = ("method", "sd of differences", "stored seeds", "seeds needed", "hours")
    shown = Table(title=Text(f"{forecast.study}: to detect {forecast.difference:g} points"))
    for heading in headings:
        shown.add_column(heading, justify="left" if heading == "method" else "right")
    for need in forecast.needs:
        seeds = "> 10,000" if need.seeds is None else str(need.seeds)
        hours = math.nan if need.seeds is None else need.seeds * need.seconds / 3600
        cost = "–" if math.isnan(hours) else f"{hours:.2f}"
        shown.add_row(need.label, f"{need.sd:.2f}", str(need.n), seeds, cost)
    return shown
