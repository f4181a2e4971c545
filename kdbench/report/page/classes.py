"""How often each class is recognised, by method."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kdbench.report.data.report_data import ReportData
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.page.matrix import confusion_matrix
from kdbench.report.rows import primary_rows, table_rows

MOST = 200
"""More classes than this are in `confusions.csv.gz` only."""


@dataclass(frozen=True, eq=False)
class ClassTable:
    """`recall`, in percent: a row for each class, a column for each method; NaN where the test
    set has no image of the class."""

    classes: tuple[str, ...]
    labels: tuple[str, ...]
    recall: np.ndarray

    @property
    def rows(self) -> Iterator[tuple[str, list[tuple[str, float]]]]:
        """For each class its name, and each share with its shade from 0 to 1: how far it is
        below the best of the class, relative to the farthest in the table."""
        below = np.nanmax(self.recall, axis=1, keepdims=True) - self.recall
        shades = below / max(float(np.nanmax(below)), 1e-9)
        for name, shares, row in zip(self.classes, self.recall, shades, strict=True):
            pairs = zip(shares, row, strict=True)
            yield name, [(f"{s:.1f}", round(float(d), 2)) for s, d in pairs if not np.isnan(s)]


def class_table(board: Leaderboard, data: ReportData) -> ClassTable | None:
    """The recall of each class for the row that stands for each method, best first; None where
    no predictions are known, or where there are too many classes for a page."""
    names = data.plan.data.classes if data.plan.data else ()
    if not names or len(names) > MOST:
        return None
    truth = data.confusions[data.confusions["against"] == "truth"]
    primary = primary_rows(table_rows(data.runs, data.plan))
    columns: dict[str, np.ndarray] = {}
    for label in dict.fromkeys(map(str, board.table["method"])):
        if label not in primary:
            continue
        cells = truth[(truth["label"] == label) & (truth["row"] == primary[label].row)]
        matrix = confusion_matrix(cells, tuple(map(str, names)))
        if matrix is not None:
            counts = matrix.counts
            with np.errstate(invalid="ignore"):
                columns[label] = 100 * counts.diagonal() / counts.sum(axis=1)
    if not columns:
        return None
    recall = np.stack([values[: len(names)] for values in columns.values()], axis=1)
    known = ~np.isnan(recall).all(axis=1)
    classes = tuple(str(n) for n, k in zip(names, known, strict=True) if k)
    return ClassTable(classes, tuple(columns), recall[known])
