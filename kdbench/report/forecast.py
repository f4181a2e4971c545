"""How many seeds a study needs to see a difference, and what they cost."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdbench.errors import KdbenchError
from kdbench.report.data.report_data import ReportData
from kdbench.report.needs import seconds_a_seed, seconds_by_row, seeds_to_equate, seeds_to_tell
from kdbench.report.text.context import count
from kdbench.report.write import leaderboard_of
from kdbench.stats import Analysis, Family

SHARES = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0)
"""The true differences that are forecast, in margins of practical equality."""


class TooFewRuns(KdbenchError):
    """A study has too few paired runs to say how much they vary."""


@dataclass(frozen=True)
class Need:
    """What one comparison needs: the standard deviation of its paired differences (points)
    over `n` stored seeds, the fewest seeds that detect the difference and those that call
    the method practically equal if it does not differ at all (None: more than 10,000), and
    the seconds of a run of its row (NaN where none is known)."""

    label: str
    sd: float
    n: int
    seeds: int | None
    equal_seeds: int | None
    seconds: float


@dataclass(frozen=True)
class Effect:
    """The seeds for a true difference of so many points at the median standard deviation:
    to call it better or worse, and to call it practically equal (None: never, or more than
    10,000)."""

    points: float
    seeds: int | None
    equal_seeds: int | None


@dataclass(frozen=True)
class Forecast:
    """The seeds and hours to detect `difference` points, comparison by comparison.

    `typical` is the effect of `difference`, `effects` are further ones; `seconds` those of
    one seed of the whole study, every row once, on one worker.
    """

    study: str
    difference: float
    analysis: Analysis
    comparisons: int
    needs: tuple[Need, ...]
    typical: Effect
    effects: tuple[Effect, ...]
    seconds: float

    def hours(self, seeds: int | None) -> float:
        """Of one worker, for all rows on so many seeds; NaN where `seeds` is None."""
        return math.nan if seeds is None else seeds * self.seconds / 3600


def forecast_seeds(data: ReportData, difference: float) -> Forecast:
    """The seeds and hours it takes to detect `difference` (points, positive) with the
    report's own test, correction and power, and to call methods practically equal.

    Raises `TooFewRuns` where no comparison has two paired seeds.
    """
    board = leaderboard_of(data)
    family = board.family
    seconds = seconds_by_row(data.runs)
    primary = {(r["method"]): r["row"] for _, r in board.table.iterrows() if not pd.isna(r["p"])}
    needs = []
    for label, verdict in family.verdicts.items():
        d = verdict.difference
        if d.n < 2:
            continue
        cost = seconds.get((label, primary.get(label, "")), math.nan)
        seeds, equal = seeds_to_tell(family, d.sd, difference), seeds_to_equate(family, d.sd, 0.0)
        needs.append(Need(label, d.sd, d.n, seeds, equal, cost))
    if not needs:
        raise TooFewRuns(
            f"study '{board.study}' has no method with two seeds paired with {board.reference}: "
            "run it on two or more seeds first, three or more for a steady answer"
        )
    return Forecast(
        board.study,
        difference,
        family.analysis,
        family.size,
        tuple(needs),
        _effect(family, difference),
        tuple(_effect(family, share * family.analysis.margin) for share in SHARES),
        seconds_a_seed(data.runs),
    )


def _effect(family: Family, points: float) -> Effect:
    sd = family.sd
    return Effect(points, seeds_to_tell(family, sd, points), seeds_to_equate(family, sd, points))


def forecast_sentences(forecast: Forecast) -> Iterable[str]:
    """The seeds and hours that are needed, in words."""
    a, typical = forecast.analysis, forecast.typical
    last = " at the last look" if a.looks else ""
    compared = count(forecast.comparisons, "comparison")
    yield (
        f"To detect {forecast.difference:g} points at {100 * a.power:g} % power ({a.test_name}, "
        f"family-wise error {100 * a.last_alpha:.3g} %{last}, {compared}):"
    )
    if typical.seeds is None:
        yield "more than 10,000 seeds: a difference that small cannot be seen in this setting."
    else:
        yield (
            f"{typical.seeds} seeds for the typical comparison (median standard deviation), "
            f"{_hours(forecast, typical.seeds)} for every row of the study on each of them, "
            "teachers, tuning and earlier stages not counted."
        )
    same = forecast.effects[0].equal_seeds
    yield (
        f"To call a typical method that does not differ practically equal (margin {a.margin:.2g} "
        f"points): {_number(same)} seeds, {_hours(forecast, same)}."
    )
    fewest = min(n.n for n in forecast.needs)
    if fewest < 10:
        yield (
            f"The standard deviations are themselves estimates from {fewest} seeds and may be off "
            f"by {_slack(fewest)}."
        )


def _number(seeds: int | None) -> str:
    return "> 10,000" if seeds is None else str(seeds)


def _hours(forecast: Forecast, seeds: int | None) -> str:
    known = seeds is not None and forecast.seconds
    return f"{forecast.hours(seeds):.1f} hours of one worker" if known else "unknown hours"


def _slack(n: int) -> str:
    """The 95 % interval of a standard deviation from `n` seeds, as factors."""
    from scipy import stats

    low = math.sqrt((n - 1) / stats.chi2.ppf(0.975, n - 1))
    high = math.sqrt((n - 1) / stats.chi2.ppf(0.025, n - 1))
    return f"factors of {low:.2f} to {high:.2f} (95 % interval)"


def forecast_table(forecast: Forecast) -> Any:
    """A rich table with one line for each comparison."""
    headings = (
        "method", "sd of differences", "stored seeds", "seeds needed", "hours",
        "seeds to be called equal",
    )  # fmt: skip
    rows = []
    for need in forecast.needs:
        hours = math.nan if need.seeds is None else need.seeds * need.seconds / 3600
        cost = "–" if math.isnan(hours) else f"{hours:.2f}"
        seeds, equal = _number(need.seeds), _number(need.equal_seeds)
        rows.append((need.label, f"{need.sd:.2f}", str(need.n), seeds, cost, equal))
    return _table(f"{forecast.study}: to detect {forecast.difference:g} points", headings, rows)


def effects_table(forecast: Forecast) -> Any:
    """A rich table with one line for each true difference of a typical method."""
    headings = ("true difference", "seeds to tell it", "hours", "seeds to call it equal", "hours")
    rows = []
    for effect in forecast.effects:
        # A true difference of 0 cannot be told, and one of the margin is not equal.
        cells = [f"{effect.points:.2g}"]
        for seeds, possible in (
            (effect.seeds, effect.points > 0),
            (effect.equal_seeds, effect.points < forecast.analysis.margin),
        ):
            hours = forecast.hours(seeds)
            cells += [
                _number(seeds) if possible else "never",
                "–" if math.isnan(hours) else f"{hours:.1f}",
            ]
        rows.append(tuple(cells))
    return _table(f"{forecast.study}: a typical method, by effect", headings, rows)


def _table(title: str, headings: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=Text(title))
    for heading in headings:
        shown.add_column(heading, justify="left" if heading == "method" else "right")
    for row in rows:
        shown.add_row(*row)
    return shown
