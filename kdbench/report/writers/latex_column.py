"""The leaderboard as a LaTeX table that fits one column of a paper: one row a method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from kdbench.errors import KdbenchError
from kdbench.registry import did_you_mean
from kdbench.report.columns import Column
from kdbench.report.data.runs import PUBLISHED, TEACHER
from kdbench.report.figures.style import primary_table
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.writers.cells import MISSING, Cell, Document, cell_of, heading_of
from kdbench.report.writers.latex import (
    GAP,
    PACKAGES,
    SIZE,
    Setting,
    column_width,
    escape,
    label_of,
    made_from,
    total,
)

WIDTH, BOTH = 240.0, 504.0
"""Points: a column (252 in IEEEtran, 241 in acmart), and both of them with what is between."""

NARROWEST = 60.0
"""Points of the names of the methods: with less the table takes both columns."""

SCORES = ("default", "tuned")
MARK = "verdict"
CHOSEN = (*SCORES, "difference", MARK)
"""The columns where none are chosen, after that of the method."""

MARKS = {
    "better but practically equal": "↑≈",
    "worse but practically equal": "↓≈",
    "better": "↑",
    "worse": "↓",
    "practically equal": "≈",
    "cannot tell": "◦",
}
"""The mark of a verdict by the beginning of its words; the longer ones stand first."""

NOTES = ("incomplete", "seeds", "unscored", "constant")
"""The topics of the notes that concern what stands in the table."""


class UnknownColumn(KdbenchError):
    """A column was asked for that a leaderboard does not have."""


@dataclass(frozen=True)
class Rows:
    """The row that stands for each method, and the scores of its default and tuned rows."""

    board: Leaderboard
    titles: Mapping[str, str]

    @property
    def table(self) -> pd.DataFrame:
        """One row a method, best first, then the teacher."""
        board = self.board.table
        return pd.concat([primary_table(self.board), board[board["row"] == TEACHER]])

    def title(self, label: str) -> str:
        """The display name of a method."""
        return self.titles.get(label, label)

    def cell(self, row: pd.Series, name: str) -> Cell:
        """What a column says of a method."""
        board = self.board
        if name == "method":
            cell = cell_of(row, _column(board, name), True, board)
            return replace(cell, text=self.title(cell.text))
        if name in SCORES:
            return self._score(row, name)
        if name == MARK:
            return Cell(_mark(_verdict(row)))
        cell = cell_of(row, _column(board, name), name != "difference", board)
        if name == "difference":
            mean, bracket, interval = cell.text.replace("*", "").partition("[")
            return replace(cell, text=f"{mean}{bracket}{interval.replace('+', '')}")
        return cell

    def _score(self, row: pd.Series, name: str) -> Cell:
        """The mean score of the row that was tuned, or of the one that was not."""
        table = self.board.table
        rows = table[(table["method"] == row["method"]) & (table["row"] != PUBLISHED)]
        rows = rows[(rows["row"] == "tuned") == (name == "tuned")]
        values = rows[self.board.measure.column].dropna()
        if not len(values):
            return Cell(MISSING, number=True)
        best = bool(rows.loc[values.index[0], "best"])
        return Cell(f"{values.iloc[0]:.2f}", bold=best, number=True)

    def header(self, name: str) -> str:
        """The heading of a column."""
        board = self.board
        if name == MARK:
            return ""
        if name in SCORES:
            tuned = (board.table["row"] == "tuned").any()
            return name if tuned else board.measure.words
        if name == "difference":
            return f"Δ [{100 * board.family.analysis.level:g} % CI]"
        return heading_of(_column(board, name), True, board)


def _verdict(row: Mapping[Any, Any] | pd.Series) -> str:
    return str(row["verdict"] or "")


def _mark(verdict: str) -> str:
    return next((mark for words, mark in MARKS.items() if verdict.startswith(words)), "")


def _column(board: Leaderboard, name: str) -> Column:
    return next(column for column in board.columns if column.name == name)


def checked_columns(board: Leaderboard, names: Sequence[str]) -> tuple[str, ...]:
    """The columns of the table in a paper; those of `CHOSEN` where no names are given. Raises
    `UnknownColumn`."""
    known = [*SCORES, *(c.name for c in board.columns if c.heading and c.name != "method")]
    for name in names:
        if name not in known:
            raise UnknownColumn(f"a leaderboard has no column {name!r}{did_you_mean(name, known)}")
    chosen = list(names) or list(CHOSEN)
    if not names and not (board.table["row"] == "tuned").any():
        chosen.remove("tuned")
    return tuple(chosen)


def column_table(
    board: Leaderboard, document: Document, titles: Mapping[str, str], names: Sequence[str] = ()
) -> str:
    """A `table` as wide as a column, or a `table*` over both where the columns `names` take
    more."""
    rows, columns = Rows(board, titles), ("method", *checked_columns(board, names))
    table = rows.table
    cells = [tuple(rows.cell(row, name) for name in columns) for _, row in table.iterrows()]
    headers = tuple(rows.header(name) for name in columns)
    widths = [column_width(h, [c[k] for c in cells]) for k, h in enumerate(headers)]
    others = total([0.0, *widths[1:]])
    width = WIDTH if WIDTH - others >= NARROWEST else BOTH
    widths[0] = max(width - others, NARROWEST)
    setting = Setting(headers, tuple(cells), tuple(table["row"]), tuple(widths))
    kind = "table" if width == WIDTH else "table*"
    body = setting.body
    if (table["row"] == TEACHER).any():
        body.insert(len(body) - 1, r"\midrule")
    lines = [
        PACKAGES,
        f"{made_from(document)} leaderboard-full.tex has all columns.",
        rf"\begin{{{kind}}}",
        r"\centering",
        rf"\caption{{{escape(f'{document.question} {document.headline}')}}}",
        rf"\label{{tab:{label_of(document.name)}}}",
        rf"{SIZE}\setlength{{\tabcolsep}}{{{GAP}pt}}",
        rf"\begin{{tabular}}{{{setting.columns}}}",
        r"\toprule", setting.head, r"\midrule", *body, r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip",
        rf"\begin{{minipage}}{{{width:g}pt}}{SIZE}",
        *map(escape, _notes(rows, document, columns)),
        r"\end{minipage}",
        rf"\end{{{kind}}}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _notes(rows: Rows, document: Document, columns: Sequence[str]) -> list[str]:
    """What the marks in the table mean, and what a reader must know of single rows."""
    board, marks = rows.board, []
    if "difference" in columns:
        marks.append(f"Δ: difference from {rows.title(board.reference)}")
    if MARK in columns:
        verdicts = [v for v in map(_verdict, rows.table.to_dict("records")) if v]
        marks += [f"{m} {words}" for words, m in MARKS.items() if m in map(_mark, verdicts)]
    said = [f"{'; '.join(marks)}."] if marks else []
    best = board.best.best
    if best and set(SCORES) & set(columns):
        bold = next(s for s in document.captions if getattr(s, "topic", "") == "bold")
        said.append(bold.replace(f"({best})", f"({rows.title(best)})"))
    topics: list[tuple[str, Sequence[str]]] = []
    if any(name.endswith("(measured)") for name in columns):
        topics += [("measured", document.captions), ("cost", document.notes)]
    topics += [(topic, document.notes) for topic in NOTES]
    for topic, sentences in topics:
        said += [s for s in sentences if getattr(s, "topic", "") == topic]
    return said
