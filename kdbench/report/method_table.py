"""The leaderboard as MLflow shows it: the row that stands for each method, by the columns of
`kdbench.report.columns`."""

from typing import Any

import pandas as pd

from kdbench.report.columns import Column
from kdbench.report.data.runs import PUBLISHED, TEACHER
from kdbench.report.leaderboard import Leaderboard
from kdbench.tracking.leaderboard import MethodRow, MethodTable
from kdbench.tracking.payload import section_name


def method_table(board: Leaderboard) -> MethodTable:
    """The rows that stand for the methods, best first, and what the views of them show: as on the
    page, the columns that a window has room for. Numbers are those of `leaderboard.csv`; what a row
    has no value for is left out."""
    shown = [c for c in board.columns if c.page != "all" and c.name != "method"]
    own = board.table[~board.table["row"].isin([TEACHER, PUBLISHED])]
    primary = own.drop_duplicates("method")  # a method's other rows stand below it
    prefix = "test_best" if board.selection == "best" else "test"
    scores = [column.run for column in board.columns if column.heading and column.of == "score"]
    metrics = dict.fromkeys([board.measure.column, "accuracy", *filter(None, scores)])
    return MethodTable(
        [_row(row, board.columns) for row in primary.to_dict("records")],
        [_name(column) for column in shown],
        board.measure.column,
        [section_name(f"{prefix}.{metric}") for metric in metrics],
    )


def _name(column: Column) -> str:
    """A column's name without what stands in brackets behind it."""
    return column.name.partition(" (")[0]


def _row(row: dict[Any, Any], columns: tuple[Column, ...]) -> MethodRow:
    present = [column for column in columns if not pd.isna(row[column.name])]
    numbers = [column for column in present if column.kind in ("number", "count")]
    texts = [column for column in present if column not in numbers]
    return MethodRow(
        str(row["method"]),
        {_name(column): float(row[column.name]) for column in numbers},
        {_name(column): str(row[column.name]) for column in texts},
    )
