"""The rows of a leaderboard before they are judged."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdbench.errors import KdbenchError
from kdbench.records.measures import MEASURES
from kdbench.records.plan_file import PlanFile, PlanRow
from kdbench.report.data.report_data import ReportData
from kdbench.stats import mean_interval

PRECEDENCE = ("tuned", "only", "pinned", "default")


class UnknownRow(KdbenchError):
    """A report has no row of that name."""


@dataclass(frozen=True)
class TableRow:
    """A row of the plan with its runs and their scores, in percentage points by seed."""

    plan: PlanRow
    runs: pd.DataFrame
    scores: Mapping[int, float]

    @property
    def label(self) -> str:
        """The method's label."""
        return self.plan.label

    @property
    def row(self) -> str:
        """default, tuned, pinned, only or teacher."""
        return self.plan.row

    @property
    def state(self) -> str:
        """`done`, or why fewer runs than wanted have a score; several states by commas."""
        states = sorted(set(self.runs["state"]) - {"done"})
        return ", ".join(states) if states else "done"

    @property
    def reason(self) -> str:
        """Why runs have no score, in words, seeds that share a reason together."""
        bad = self.runs[self.runs["state"] != "done"]
        parts = []
        for text, group in bad.groupby(bad["reason"].fillna("no score"), sort=False):
            seeds = [str(s) for s in group["seed"].dropna()]
            named = f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)} " if seeds else ""
            parts.append(f"{named}{text}")
        return "; ".join(parts)


def scores_by_seed(runs: pd.DataFrame, column: str) -> dict[int, float]:
    """What stands in a column of the finished runs, in percentage points by seed."""
    done = runs[(runs["state"] == "done") & runs[column].notna()]
    pairs = zip(done["seed"], done[column], strict=True)
    return {int(s): 100 * float(a) for s, a in sorted(pairs)}


def table_rows(frame: pd.DataFrame, plan: PlanFile) -> list[TableRow]:
    """The plan's rows with their runs and scores, in the plan's order."""
    column = MEASURES[plan.measure].column
    return [_row(frame, row, column) for row in plan.rows]


def _row(frame: pd.DataFrame, row: PlanRow, column: str) -> TableRow:
    runs = frame[(frame["label"] == row.label) & (frame["row"] == row.row)]
    return TableRow(row, runs, scores_by_seed(runs, column))


def primary_rows(rows: Iterable[TableRow]) -> dict[str, TableRow]:
    """The row that stands for each method, in the plan's order."""
    primary: dict[str, TableRow] = {}
    for row in rows:
        other = primary.get(row.label)
        if other is None or PRECEDENCE.index(row.row) < PRECEDENCE.index(other.row):
            primary[row.label] = row
    return primary


def primary_lines(table: pd.DataFrame) -> pd.DataFrame:
    """The line of a leaderboard's table that stands for each method, in the table's order."""
    rank = {row: k for k, row in enumerate(PRECEDENCE)}
    ranked = table.assign(rank=table["row"].map(rank)).dropna(subset="rank")
    if not len(ranked):
        return table.iloc[:0]
    primary = ranked.groupby("method", sort=False)["rank"].idxmin()
    return table.loc[sorted(primary)]


def best_first(rows: Iterable[TableRow], primary: Mapping[str, TableRow]) -> list[TableRow]:
    """Methods by the mean score of the row that stands for them, their other rows
    beneath; those without a score last, in the plan's order."""

    def key(line: TableRow) -> tuple[float, str, int]:
        mean = mean_interval(primary[line.label].scores).mean
        return (math.inf if math.isnan(mean) else -mean, line.label, PRECEDENCE.index(line.row))

    return sorted(rows, key=key)


def in_family(row: TableRow) -> bool:
    """Tuned rows, and the only row of a method where nothing is tuned. A method that
    cannot serve the pair was known before any number, so it does not count; one whose
    runs or trials all diverged does."""
    return row.row == "tuned" or (row.row == "only" and not row.plan.incompatible)


def compared_rows(primary: Mapping[str, TableRow], reference: str) -> dict[str, TableRow]:
    """The rows that are compared, by label, and the reference's: of these looks decide how many
    seeds they have, all others have the seeds of the first."""
    return {k: row for k, row in primary.items() if k == reference or in_family(row)}


def find_row(data: ReportData, name: str) -> TableRow:
    """The row called `kd` (the one that stands for it) or `kd:default`.

    Raises `UnknownRow` with the rows there are.
    """
    label, _, row = name.partition(":")
    rows = table_rows(data.runs, data.plan)
    named = primary_rows(rows).get(label)
    if row:
        named = next((x for x in rows if (x.label, x.row) == (label, row)), None)
    if named is None:
        names = ", ".join(f"{x.label}:{x.row}" for x in rows)
        raise UnknownRow(f"study '{data.plan.study}' has no row {name!r}; it has {names}")
    return named


def hparams_text(row: PlanRow) -> str:
    """The hyperparameters that were searched, else all of them, as `alpha=0.9, temperature=4`."""
    hparams = row.hparams
    names = [k for k in row.searched if k in hparams] or sorted(hparams)
    return ", ".join(f"{name}={_short(hparams[name])}" for name in names)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
