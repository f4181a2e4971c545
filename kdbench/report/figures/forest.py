"""Figure: the difference of each method from the reference."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdbench.report.data.report_data import ReportData
from kdbench.report.figures.axes import legend, limits_of
from kdbench.report.figures.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    WIDTH,
    Mark,
    marks_of,
    primary_table,
    short,
)
from kdbench.report.leaderboard import Leaderboard

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PINNED = "pinned, no verdict"
KINDS = {
    "better": ("^", BLUE),
    "worse": ("v", VERMILION),
    "better but practically equal": ("P", SKY),
    "worse but practically equal": ("X", ORANGE),
    "practically equal": ("s", GREEN),
    "cannot tell": ("o", INK),
    "no verdict": ("D", PURPLE),
    PINNED: ("d", MUTED),
}
"""Marker and colour, by the beginning of the verdict."""


@dataclass(frozen=True)
class Entry:
    """One row: the mean difference, its interval, the interval at the corrected level, and
    the difference of each seed. `reason` is shown if there is no number."""

    label: str
    kind: str
    mean: float
    low: float
    high: float
    corrected: tuple[float, float] = (math.nan, math.nan)
    dots: tuple[float, ...] = ()
    reason: str = ""

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest value that is drawn."""
        values = [self.mean, self.low, self.high, *self.corrected, *self.dots]
        drawn = [v for v in values if not math.isnan(v)]
        return (min(drawn), max(drawn)) if drawn else (math.nan, math.nan)


@dataclass(frozen=True)
class Forest:
    """`entries` from top to bottom."""

    entries: tuple[Entry, ...]
    reference: str
    score: str
    margin: float
    level: float
    comparisons: int
    marks: Mapping[str, Mark]

    @property
    def title(self) -> str:
        """The caption."""
        return (
            f"{self.score}: difference of each method from {self.reference} in percentage points, "
            f"paired by seed: mean, one dot per seed, the {100 * self.level:g} % t interval "
            f"(thick) and the interval corrected for {self.comparisons} comparisons (thin); the "
            f"band of ±{self.margin:.2g} points is the margin of practical equality."
        )

    @property
    def size(self) -> tuple[float, float]:
        """Higher with every entry."""
        return WIDTH, 1.0 + 0.27 * max(len(self.entries), 3)

    def draw(self, figure: "Figure") -> None:
        """One row for each entry, the first on top."""
        axes = figure.add_subplot()
        ends = [e.ends for e in self.entries]
        axes.set_xlim(
            *limits_of([-self.margin, *(e[0] for e in ends)], [self.margin, *(e[1] for e in ends)])
        )
        axes.axvspan(-self.margin, self.margin, color=GREEN, alpha=0.13, lw=0, zorder=0)
        axes.axvline(0, color=INK, lw=0.8, zorder=1)
        for y, entry in enumerate(self.entries):
            _draw_entry(axes, -y, entry)
        pinned = sum(e.kind == PINNED for e in self.entries)
        if 0 < pinned < len(self.entries):
            axes.axhline(pinned - len(self.entries) + 0.5, color=INK, lw=0.5, alpha=0.5)
        _names(figure, axes, self.entries, self.marks)
        axes.set_xlabel(f"difference from {short(self.reference)} in percentage points")
        _legend(figure, self.entries)


def prepare(board: Leaderboard, data: ReportData) -> Forest | None:
    """The family in the board's order, and below it the pinned rows, which have no verdict."""
    rows = [row for _, row in primary_table(board).iterrows()]
    family = [_member(board, r) for r in rows if r["method"] in board.family.verdicts]
    pinned = [_pinned(r) for r in rows if _is_pinned(board, r)]
    entries = (*family, *pinned)
    if all(math.isnan(e.mean) for e in entries):
        return None
    analysis = board.family.analysis
    return Forest(
        entries, board.reference, board.score, analysis.margin, analysis.level, board.family.size,
        marks_of(board),
    )  # fmt: skip


def _member(board: Leaderboard, row: "pd.Series") -> Entry:
    verdict = board.family.verdicts[row["method"]]
    difference = verdict.difference
    kind = next(k for k in reversed(KINDS) if verdict.text.startswith(k))
    reason = (
        "" if difference.n else (row["state"] if row["state"] != "done" else "no seed in common")
    )
    return Entry(
        row["method"], kind, difference.mean, difference.low, difference.high,
        (verdict.low, verdict.high), difference.values, reason,
    )  # fmt: skip


def _is_pinned(board: Leaderboard, row: "pd.Series") -> bool:
    compared = row["method"] not in board.family.verdicts and row["method"] != board.reference
    return bool(compared and row["row"] == "pinned" and not math.isnan(row["difference"]))


def _pinned(row: "pd.Series") -> Entry:
    low, high = row["difference_low"], row["difference_high"]
    return Entry(row["method"], PINNED, row["difference"], low, high)


def _draw_entry(axes: "Axes", y: float, entry: Entry) -> None:
    if math.isnan(entry.mean):
        axes.text(0.01, y, entry.reason, transform=axes.get_yaxis_transform(), fontsize=7.5,
                  va="center_baseline")  # fmt: skip
        return
    marker, colour = KINDS[entry.kind]
    pinned = entry.kind == PINNED
    axes.plot(entry.corrected, (y, y), color=colour, lw=0.8, zorder=2)
    axes.plot((entry.low, entry.high), (y, y), color=colour, lw=1.2 if pinned else 2.6, zorder=2.5)
    below = [y - 0.3] * len(entry.dots)
    axes.plot(entry.dots, below, "o", color=INK, alpha=0.45, ms=2.6, mew=0, zorder=3)
    left, right = axes.get_xlim()
    shown = min(max(entry.mean, left), right)
    if shown == entry.mean:
        axes.plot([shown], [y], marker, ms=5.5 if pinned else 7, color=colour, mew=0, zorder=4)
    else:
        _mark_at_edge(axes, y, entry, shown)


def _mark_at_edge(axes: "Axes", y: float, entry: Entry, edge: float) -> None:
    """An arrow at the edge and the number, for a mean outside the limits."""
    inward = 1 if entry.mean < edge else -1
    number = f"{entry.mean:+.1f}".replace("-", "\N{MINUS SIGN}")
    marker, side = ("<", "left") if inward > 0 else (">", "right")
    left, right = axes.get_xlim()
    x = edge + inward * 0.015 * (right - left)
    axes.plot([x], [y], marker, color=KINDS[entry.kind][1], ms=7, mew=0, zorder=4)
    axes.annotate(
        number, (x, y), xytext=(inward * 8, 0), fontsize=7.5, textcoords="offset points",
        ha=side, va="center_baseline",
    )  # fmt: skip


def _names(
    figure: "Figure", axes: "Axes", entries: Sequence[Entry], marks: Mapping[str, Mark]
) -> None:
    """The methods' names, each behind its mark in the other figures."""
    from matplotlib.transforms import offset_copy

    beside = offset_copy(axes.get_yaxis_transform(), figure, x=-7, units="points")
    for y, entry in enumerate(entries):
        mark = marks[entry.label]
        axes.plot([0], [-y], mark.marker, color=mark.colour, ms=5, mew=0, transform=beside,
                  clip_on=False)  # fmt: skip
    axes.set_yticks([-y for y in range(len(entries))], [short(e.label) for e in entries])
    axes.set_ylim(0.3 - len(entries), 0.7)
    axes.tick_params(axis="y", length=0, pad=14)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)


def _legend(figure: "Figure", entries: Sequence[Entry]) -> None:
    from matplotlib.lines import Line2D

    kinds = [k for k in KINDS if any(e.kind == k and not math.isnan(e.mean) for e in entries)]
    handles = [
        Line2D([], [], color=colour, marker=marker, ms=6, lw=2, mew=0)
        for marker, colour in (KINDS[k] for k in kinds)
    ]
    legend(figure, handles, kinds)
