"""Two rows of a report compared, seed by seed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kdbench.report.data.report_data import ReportData
from kdbench.report.rows import (
    UnknownRow,
    compared_rows,
    find_row,
    primary_rows,
    table_rows,
)
from kdbench.report.write import leaderboard_of
from kdbench.report.writers.cells import p_text, signed_text
from kdbench.stats import (
    FEWEST_SEEDS,
    PAIRED,
    Analysis,
    Difference,
    Verdict,
    detectable,
    judge,
    paired_difference,
    probability_of_improvement,
)


@dataclass(frozen=True)
class Pair:
    """Two rows of a report: `first` minus `second`, in percentage points by seed."""

    study: str
    first: str
    second: str
    scores: tuple[Mapping[int, float], Mapping[int, float]]
    verdict: Verdict
    analysis: Analysis
    #: The part of the error that the look at this number of seeds spends: 1 without looks.
    share: float = 1.0

    @property
    def difference(self) -> Difference:
        """The paired difference."""
        return self.verdict.difference


def compare_rows(data: ReportData, first: str, second: str) -> Pair:
    """Compare two rows, named as `find_row` takes them; the analysis is the report's, but with
    the paired t test, since one pair has no family to take a variance from.

    A pair that was picked is one comparison, so its p is not corrected for the others that
    might have been picked: `comparison_sentences` says so. Where looks decided how many seeds
    both rows have, the pair is judged with what the look at its seeds spends. Raises `UnknownRow`.
    """
    whole = replace(leaderboard_of(data).family.analysis, test=PAIRED)
    one, other = find_row(data, first), find_row(data, second)
    if (one.label, one.row) == (other.label, other.row):
        raise UnknownRow(f"{first} and {second} both name the row {one.label}:{one.row}")
    compared = compared_rows(primary_rows(table_rows(data.runs, data.plan)), data.plan.reference)
    share = 1.0
    if {(x.label, x.row) for x in (one, other)} <= {(x.label, x.row) for x in compared.values()}:
        share = whole.share(len(one.scores.keys() & other.scores.keys()))
    analysis = replace(
        whole, looks=(), alpha=share * whole.alpha, level=1 - share * (1 - whole.level)
    )
    difference = paired_difference(one.scores, other.scores, analysis.level, analysis.image)
    family = judge({"pair": difference}, analysis)
    return Pair(
        study=data.plan.study,
        first=f"{one.label} ({one.row})",
        second=f"{other.label} ({other.row})",
        scores=(one.scores, other.scores),
        verdict=family.verdicts["pair"],
        analysis=analysis,
        share=share,
    )


def comparison_sentences(pair: Pair) -> list[str]:
    """The difference of the pair, its test, verdict, power and descriptive measures, in words."""
    d, analysis = pair.difference, pair.analysis
    if d.n == 0:
        return ["The two rows have no seed in common."]
    level = f"{100 * analysis.level:.3g} %"
    interval = f" [{signed_text(d.low)}, {signed_text(d.high)}]" if d.n > 1 else ""
    better = sum(v > 0 for v in d.values)
    sentences = [
        f"{pair.first} minus {pair.second}: {signed_text(d.mean)}{interval} points "
        f"({level} Student t interval over {d.n} paired seeds), better on {better} of {d.n}."
    ]
    if d.n > 1:
        paired, unpaired = (
            probability_of_improvement(*pair.scores, paired=p) for p in (True, False)
        )
        looks = (
            " Looks decided how many seeds there are, so p is compared with "
            f"{100 * analysis.alpha:.3g} %, which the look at these seeds spends."
            if pair.share < 1
            else ""
        )
        sentences += [
            f"{analysis.test_name}: p = {p_text(d.p)}, not corrected: right for one pair that was "
            f"chosen before the numbers were seen.{looks} Verdict: {pair.verdict.text} (margin "
            f"{analysis.margin:.2g} points).",
            *_detectable(pair),
            f"Descriptive: probability of improvement {paired:.2f} paired, {unpaired:.2f} "
            "unpaired.",
        ]
    return sentences


def _detectable(pair: Pair) -> Iterable[str]:
    """The smallest detectable difference, where there are seeds enough for a verdict."""
    d, analysis = pair.difference, pair.analysis
    if d.n >= FEWEST_SEEDS:
        least = detectable(d.n, analysis.alpha, analysis.power) * d.sd
        yield (
            f"Smallest detectable difference at {100 * analysis.power:g} % power: {least:.2f} "
            "points."
        )


def comparison_table(pair: Pair) -> Any:
    """A rich table with one line for each seed that either row has."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(pair.study))
    for heading in ("seed", pair.first, pair.second, "difference"):
        table.add_column(Text(heading), justify="right")
    a, b = pair.scores
    for seed in sorted({*a, *b}):
        both = signed_text(a[seed] - b[seed]) if seed in a and seed in b else "–"
        shown = (f"{s[seed]:.2f}" if seed in s else "–" for s in (a, b))
        table.add_row(str(seed), *shown, both)
    return table
