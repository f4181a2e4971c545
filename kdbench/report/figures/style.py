"""The look that all figures share (one ink, one font, colours that colour-blind readers can
tell apart), and the rows and names that they draw."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from kdbench.report.data.report_data import ReportData
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.rows import primary_lines

if TYPE_CHECKING:
    from kdbench.report.leaderboard import Leaderboard

INK = "#010203"
"""Colour of text and axes: practically black, but recognised in an SVG, where it becomes the
colour of the page's text. Nothing else may have this colour."""

MUTED = "#8a8f98"
"""Colour of the background: readable on white and on black."""

WIDTH = 7.2
"""Inches: a page's text column, and about 690 pixels on the web."""

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, SKY, PURPLE = "#E69F00", "#56B4E9", "#CC79A7"
"""From Okabe and Ito (2008), without the yellow, which is hardly visible on white."""

NAME_LENGTH = 26
"""Characters of a name that are drawn."""

RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,  # a name may hold a dollar sign
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.solid_capstyle": "butt",
    "figure.facecolor": "white",
    "figure.constrained_layout.w_pad": 0.07,
    "figure.constrained_layout.h_pad": 0.06,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # some publishers refuse Type 3
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw with Matplotlib's defaults and `RC`, whatever the user has set; restores the user's
    settings afterwards."""
    from matplotlib import style

    with style.context(["default", RC]), warnings.catch_warnings():
        # A script that the font lacks is drawn as boxes in PNG and PDF, and correctly in an SVG.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


@dataclass(frozen=True)
class Mark:
    """How a method is distinguished from the others: never by its colour alone."""

    colour: str
    marker: str
    dash: str | tuple[int, tuple[float, ...]] = "-"


REFERENCE = Mark(INK, "D", (0, (4, 2)))
MARKS = (
    Mark(BLUE, "o"),
    Mark(VERMILION, "s"),
    Mark(GREEN, "^"),
    Mark(ORANGE, "v", (0, (6, 1.5))),
    Mark(PURPLE, "P", (0, (6, 1.5))),
    Mark(SKY, "X", (0, (6, 1.5))),
)
SHAPES = ("o", "s", "^", "v", "P", "X", "<", ">", "p", "h", "*")


DASHES: tuple[tuple[int, tuple[float, ...]], ...] = ((0, (2, 1.5)), (0, (1, 1)))
"""Of the lines of methods beyond the first, which share their colours."""


def marks_of(board: Leaderboard) -> dict[str, Mark]:
    """The mark of every method in all figures of a report and on its page: those of `MARKS` for
    the best ones and the second reference, best first, then their colours with other shapes."""
    order = [str(m) for m in primary_table(board)["method"] if m != board.reference]
    first = _best(board, order)
    marks = {board.reference: REFERENCE}
    for number, method in enumerate([*first, *(m for m in order if m not in first)]):
        mark, turn = MARKS[number % len(MARKS)], number // len(MARKS)
        if turn:
            shape, dash = SHAPES[(number + turn) % len(SHAPES)], DASHES[turn % len(DASHES)]
            mark = Mark(mark.colour, shape, dash)
        marks[method] = mark
    return marks


def _best(board: Leaderboard, order: Sequence[str]) -> list[str]:
    """As many of the methods as there are `MARKS`: the second reference and the best others."""
    others = [m for m in order if m not in (board.reference, board.second)]
    best = {board.second, *others[: len(MARKS) - (board.second in order)]}
    return [m for m in order if m in best]


def highlights(board: Leaderboard, among: Sequence[str]) -> dict[str, Mark]:
    """The methods that are drawn in colour, with their marks, in the board's order: the best
    ones, the reference and the second reference; those that are not in `among` are replaced by
    its first other methods."""
    table = primary_table(board)
    order = [str(m) for m in table.loc[table["n"] > 0, "method"]]
    best = _best(board, order)
    missing = [m for m in best if m not in among]
    more = [m for m in among if m in order and m not in (board.reference, *best)]
    drawn = {board.reference, *best, *more[: len(missing)]}
    marks = marks_of(board)
    return {m: marks[m] for m in order if m in drawn and m in among}


def short(name: str, longest: int = NAME_LENGTH) -> str:
    """A name on one line; a long one loses its middle, since variants differ in their ends."""
    name = " ".join(name.split())
    if len(name) <= longest:
        return name
    head = (longest - 1) // 2
    return f"{name[:head]}…{name[head + 1 - longest :]}"


def legend_name(board: Leaderboard, label: str) -> str:
    """A method's name in a legend."""
    return f"{short(label)} (reference)" if label == board.reference else short(label)


def primary_table(board: Leaderboard) -> pd.DataFrame:
    """The row of the table that stands for each method, in the board's order."""
    return primary_lines(board.table)


def scored(data: ReportData, label: str, row: str) -> pd.DataFrame:
    """The runs of a row that have a score, by seed."""
    runs = data.runs
    done = (runs["label"] == label) & (runs["row"] == row) & (runs["state"] == "done")
    return runs[done & runs["accuracy"].notna()].sort_values("seed")


def scores(data: ReportData, label: str, row: str, score: str) -> dict[int, float]:
    """A score of a row's runs by seed, in percent."""
    runs = scored(data, label, row)
    return {int(s): 100 * float(v) for s, v in zip(runs["seed"], runs[score], strict=True)}
