"""Which rows of a board stand for its methods, and what their runs gave."""

from typing import TYPE_CHECKING

import pandas as pd

from kdbench.report.leaderboard import PRECEDENCE

if TYPE_CHECKING:
    from kdbench.report.data.report_data import Evidence
    from kdbench.report.leaderboard import Leaderboard


def mains(board: "Leaderboard") -> pd.DataFrame:
    """The lines of the table that stand for the methods, in the board's order."""
    rank = {row: k for k, row in enumerate(PRECEDENCE)}
    ranked = board.table.assign(rank=board.table["row"].map(rank)).dropna(subset="rank")
    if not len(ranked):
        return board.table.iloc[:0]
    first = ranked.groupby("method", sort=False)["rank"].idxmin()
    return board.table.loc[sorted(first)]


def scored(evidence: "Evidence", label: str, row: str) -> pd.DataFrame:
    """The runs of a row that have a score, by seed."""
    runs = evidence.runs
    mine = (runs["label"] == label) & (runs["row"] == row) & (runs["state"] == "done")
    return runs[mine & runs["accuracy"].notna()].sort_values("seed")


def scores(evidence: "Evidence", label: str, row: str, score: str = "accuracy") -> dict[int, float]:
    """A score of a row's runs by seed, in percentage points."""
    runs = scored(evidence, label, row)
    return {int(s): 100 * float(v) for s, v in zip(runs["seed"], runs[score], strict=True)}
