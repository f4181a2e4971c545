"""The table as text, once for all faces: which columns there are and what a cell says.

A cell is plain text with flags; each writer escapes the text and sets the flags in its
own way. Numbers have two decimals here and all their digits in the CSV file.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from kdbench.report.data.runs import PUBLISHED, TEACHER
from kdbench.report.leaderboard import Leaderboard

MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """`number`: set flush right, minus signs are minus signs."""

    text: str
    bold: bool = False
    number: bool = False
    cite: str | None = None


@dataclass(frozen=True)
class Grid:
    """Headers and rows of cells, all rows as long as the headers. `groups`: the method's
    label of each row, for rules between methods; `kinds`: which of its rows it is
    (tuned, default, ..., published)."""

    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    groups: tuple[str, ...]
    kinds: tuple[str, ...]

    @property
    def right(self) -> tuple[bool, ...]:
        """Which columns hold numbers, set flush right."""
        return tuple(any(r[k].number for r in self.rows) for k in range(len(self.headers)))


@dataclass(frozen=True)
class Document:
    """A table with all its words, ready for a writer. `name` is short, for labels and
    anchors; `headline` the one sentence above the table; `digest` says what it was made
    from."""

    name: str
    title: str
    question: str
    headline: str
    grid: Grid
    captions: tuple[str, ...]
    notes: tuple[str, ...]
    digest: str


def leaderboard_document(board: Leaderboard, digest: str) -> Document:
    """A leaderboard's table and words."""
    headline = f"{board.score} in the study {board.title}, in %, differences in percentage points."
    return Document(
        board.study, board.title, board.question, headline, grid(board),
        board.captions, board.notes, digest,
    )  # fmt: skip


def grid(board: Leaderboard, narrow: bool = False) -> Grid:
    """The cells of a leaderboard. `narrow` is for 100 columns of a terminal: half-widths
    in place of bounds, and only the columns that decide."""
    columns = list(_columns(board, narrow))
    rows = []
    for _, row in board.table.iterrows():
        rows.append(tuple(make(row) for _, make in columns))
    return Grid(
        tuple(h for h, _ in columns),
        tuple(rows),
        tuple(str(m) for m in board.table["method"]),
        tuple(str(r) for r in board.table["row"]),
    )


def _columns(board: Leaderboard, narrow: bool) -> Iterable[tuple[str, Any]]:
    ref, second = board.reference, board.second
    level = f"{100 * board.family.analysis.level:g} %"
    bounds = "±" if narrow else f"[{level}]"
    correction = board.family.analysis.correction_name

    def estimate(name: str, signed: bool) -> Any:
        return lambda row: _estimate(row, name, signed, narrow)

    yield "method", _method
    yield "hparams", lambda row: Cell(row["row"])
    if not (narrow and all(_whole(row) for _, row in board.table.iterrows())):
        yield "n", lambda row: _n(row, narrow)
    yield (
        f"accuracy {bounds}",
        lambda row: replace(_estimate(row, "accuracy", False, narrow), bold=bool(row["best"])),
    )
    yield f"Δ {ref} {bounds}", estimate("difference", True)
    yield (
        "p" if narrow else f"p ({correction})",
        lambda row: Cell(p_text(row["p_adjusted"], narrow), number=True),
    )
    yield "verdict", lambda row: Cell(_verdict(row, narrow))
    if second:
        yield f"Δ {second} {bounds}", estimate("versus_second", True)
    if narrow:
        for header, column, digits in (
            ("agr.", "agreement", 1),
            ("cost", "relative cost (measured)", 2),
        ):
            if board.table[column].notna().any():
                yield header, _decimal(column, digits)
        return
    if (board.table["row"] == "tuned").any():
        yield f"gain from tuning {bounds}", estimate("gain", True)
    for header, column, digits in (
        ("agreement", "agreement", 2),
        ("ECE", "ece", 2),
        ("NLL", "nll", 3),
        ("relative cost (measured)", "relative cost (measured)", 2),
    ):
        if board.table[column].notna().any():  # results made elsewhere may have none
            yield header, _decimal(column, digits)
    if board.table["hparams"].fillna("").ne("").any():
        yield "values of the hyperparameters", lambda row: Cell(row["hparams"] or MISSING)


def _method(row: pd.Series) -> Cell:
    return Cell(row["method"], bold=bool(row["best"]), cite=row["cite"])


def _whole(row: pd.Series) -> bool:
    if row["row"] in (TEACHER, PUBLISHED):
        return True
    return bool(row["n"] == row["wanted"])


def _n(row: pd.Series, narrow: bool) -> Cell:
    if _whole(row):
        return Cell(MISSING if pd.isna(row["n"]) else str(row["n"]), number=True)
    mark = "†" if narrow else " †"
    return Cell(f"{row['n']}{'/' if narrow else ' of '}{row['wanted']}{mark}", number=True)


def _verdict(row: pd.Series, narrow: bool) -> str:
    """The words, or why there is not a single score to speak of."""
    if row["row"] == PUBLISHED:
        return MISSING
    if row["n"] == 0 and row["state"] != "done":
        return row["state"] if narrow else (row["reason"] or row["state"])
    return row["verdict"] or MISSING


def _estimate(row: pd.Series, name: str, signed: bool, narrow: bool) -> Cell:
    star = name == "difference" and str(row["verdict"] or "").startswith(("better", "worse"))
    return interval_cell(
        row[name], row[f"{name}_low"], row[f"{name}_high"], star, signed=signed, narrow=narrow
    )


def interval_cell(
    mean: float,
    low: float,
    high: float,
    star: bool = False,
    *,
    signed: bool = True,
    narrow: bool = False,
) -> Cell:
    """A mean with its interval: bounds, or half the width where it must be `narrow`."""
    if math.isnan(mean):
        return Cell(MISSING, number=True)
    text = (signed_text(mean) if signed else f"{mean:.2f}") + "*" * star
    if math.isnan(low):
        return Cell(text, number=True)
    if narrow:
        return Cell(f"{text} ±{(high - low) / 2:.2f}", number=True)
    shown = (signed_text(low), signed_text(high)) if signed else (f"{low:.2f}", f"{high:.2f}")
    return Cell(f"{text} [{shown[0]}, {shown[1]}]", number=True)


def _decimal(column: str, digits: int) -> Any:
    def make(row: pd.Series) -> Cell:
        value = row[column]
        return Cell(MISSING if math.isnan(value) else f"{value:.{digits}f}", number=True)

    return make


def signed_text(value: float) -> str:
    """Two decimals and a sign, none where it reads 0.00."""
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text


def p_text(p: float, narrow: bool = False) -> str:
    """Three decimals, never rounded to zero."""
    if math.isnan(p):
        return MISSING
    if p < 0.001:
        return "<.001" if narrow else "<0.001"
    return f"{p:.3f}"
