"""The table as text, once for all formats: which columns there are and what a cell says.

A cell is plain text with flags; each writer escapes the text and sets the flags in its
own way. Numbers have two decimals here and all their digits in the CSV file.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from kdbench.report.columns import Column
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
    anchors; `headline` the one sentence above the table; `answer` what it says, in a paragraph;
    `digest` says what it was made from."""

    name: str
    title: str
    question: str
    headline: str
    grid: Grid
    captions: tuple[str, ...]
    notes: tuple[str, ...]
    digest: str
    answer: str = ""


def leaderboard_document(board: Leaderboard, digest: str) -> Document:
    """A leaderboard's table and words."""
    headline = f"{board.score} in the study {board.title}, in %, differences in percentage points."
    return Document(
        board.study, board.title, board.question, headline, grid(board),
        board.captions, board.notes, digest, board.answer,
    )  # fmt: skip


def grid(
    board: Leaderboard,
    narrow: bool = False,
    without: Collection[str] = (),
    columns: Sequence[Column] | None = None,
) -> Grid:
    """The cells of a leaderboard.

    `narrow` is for a terminal: half-widths in place of bounds, and the columns that have a
    short heading, less those named in `without`. `columns` names others, in their order.
    """
    if columns is None:
        columns = [c for c in shown_columns(board, narrow) if c.name not in without]
    table = board.table
    return Grid(
        tuple(heading_of(column, narrow, board) for column in columns),
        tuple(
            tuple(cell_of(row, column, narrow, board) for column in columns)
            for _, row in table.iterrows()
        ),
        tuple(str(method) for method in table["method"]),
        tuple(str(row) for row in table["row"]),
    )


def shown_columns(board: Leaderboard, narrow: bool = False) -> list[Column]:
    """The columns of the table that have something to show."""
    table = board.table
    headed = [c for c in board.columns if (c.short if narrow else c.heading) is not None]
    hidden = set()
    if board.second is None:
        hidden.add("versus_second")
    if not (table["row"] == "tuned").any():
        hidden.add("gain")
    if not table["hparams"].fillna("").ne("").any():
        hidden.add("hparams")
    if narrow and all(_whole(row) for _, row in table.iterrows()):
        hidden.add("n")
    # Results made elsewhere may lack what a study of ours measures.
    hidden |= {c.name for c in headed if c.run and not table[c.name].notna().any()}
    return [column for column in headed if column.name not in hidden]


def heading_of(column: Column, narrow: bool, board: Leaderboard) -> str:
    """A column's heading; the short one, where there is one, if it must be `narrow`."""
    return filled((narrow and column.short) or column.heading or "", board)


def filled(text: str, board: Leaderboard) -> str:
    """A text of a column with what the leaderboard declares in its places."""
    analysis = board.family.analysis
    return text.format(
        reference=board.reference,
        second=board.second,
        level=f"{100 * analysis.level:g} %",
        correction=analysis.correction_name,
    )


def cell_of(row: pd.Series, column: Column, narrow: bool, board: Leaderboard) -> Cell:
    """What a column says in a row of the table."""
    name, score = column.name, board.measure.column
    if name in (score, "difference", "versus_second", "gain"):
        cell = _estimate(row, name, name != score, narrow)
        return replace(cell, bold=bool(row["best"])) if name == score else cell
    if name == "method":
        return Cell(row["method"], bold=bool(row["best"]), cite=row["cite"])
    if name == "n":
        return _n(row, narrow)
    if name == "verdict":
        return Cell(_verdict(row, narrow))
    if column.kind == "text":
        return Cell(row[name] or MISSING)
    if name == "p_adjusted":
        return Cell(p_text(row[name], narrow), number=True)
    value = row[name]
    digits = column.short_digits if narrow else column.digits
    return Cell(MISSING if pd.isna(value) else f"{value:.{digits}f}", number=True)


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
