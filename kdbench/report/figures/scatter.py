"""Methods as points with intervals and names, for figures of one quantity against another."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from kdbench.report.figures.axes import limits_of, log_scale_if_wide
from kdbench.report.figures.labels import Bar, place_labels
from kdbench.report.figures.render import fix_layout
from kdbench.report.figures.style import BLUE, INK, MUTED, VERMILION, short
from kdbench.report.pareto import on_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME_LENGTH = 22
"""Characters of a name that are written beside a point."""


@dataclass(frozen=True)
class Point:
    """The mean of a method at (x, y), with the bounds of its intervals, NaN if it has none:
    `low` and `high` in y, `left` and `right` in x. `strong`: drawn in colour."""

    label: str
    x: float
    y: float
    low: float = math.nan
    high: float = math.nan
    left: float = math.nan
    right: float = math.nan
    strong: bool = True

    def bars(self) -> Iterator[Bar]:
        """The vertical and the horizontal interval, if they exist."""
        if not math.isnan(self.low + self.high):
            yield (self.x, self.low), (self.x, self.high)
        if not math.isnan(self.left + self.right):
            yield (self.left, self.y), (self.right, self.y)


def mark_front(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points, `strong` where they are on the Pareto front."""
    strong = on_front([(p.x, p.y) for p in points])
    return tuple(replace(p, strong=s) for p, s in zip(points, strong, strict=True))


def draw_points(
    figure: "Figure",
    points: Sequence[Point],
    reference: str,
    labels: tuple[str, str],
    line: Sequence[tuple[float, float]] = (),
    longest: int = NAME_LENGTH,
) -> None:
    """Draw the points with their intervals and names, the reference as a diamond. A point
    outside the limits stands at the edge, with its numbers beside its name. `labels` are
    those of the x and y axis, `line` is drawn behind the points; a name has at most `longest`
    characters."""
    axes = figure.add_subplot()
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    _set_limits(axes, points)
    names, positions = [], []
    bars = [*pairwise(line), *(bar for p in points for bar in p.bars())]
    if line:
        axes.plot(*zip(*line, strict=True), color=BLUE, lw=1.2, alpha=0.5, zorder=1.8)
    for p in points:
        position = _clipped(axes, p)
        for bar in p.bars():
            axes.plot(*zip(*bar, strict=True), color=INK if p.label == reference else MUTED, lw=0.9,
                      alpha=0.5)  # fmt: skip
        inside = position == (p.x, p.y)
        marker = "D" if p.label == reference else "o" if p.strong else "s"
        axes.plot(
            *zip(position, strict=True), marker=marker if inside else _arrow(p, position), ms=5.5,
            color=_colour(p, reference) if inside else VERMILION, mew=0, zorder=4, clip_on=False,
        )  # fmt: skip
        name = short(p.label, longest)
        names.append(name if inside else f"{name} ({p.x:.3g}, {p.y:.3g})")
        positions.append(position)
    fix_layout(figure)
    place_labels(axes, names, positions, bars)


def _set_limits(axes: "Axes", points: Sequence[Point]) -> None:
    lows = [p.y if math.isnan(p.low) else p.low for p in points]
    highs = [p.y if math.isnan(p.high) else p.high for p in points]
    axes.set_ylim(*limits_of(lows, highs, margin=0.08))
    lefts = [p.x if math.isnan(p.left) else p.left for p in points]
    rights = [p.x if math.isnan(p.right) else p.right for p in points]
    if not log_scale_if_wide(axes.xaxis, [p.x for p in points]):
        axes.set_xlim(*limits_of(lefts, rights, margin=0.08))


def _clipped(axes: "Axes", p: Point) -> tuple[float, float]:
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    return min(max(p.x, left), right), min(max(p.y, bottom), top)


def _arrow(p: Point, edge: tuple[float, float]) -> str:
    if p.y != edge[1]:
        return "v" if p.y < edge[1] else "^"
    return "<" if p.x < edge[0] else ">"


def _colour(p: Point, reference: str) -> str:
    if p.label == reference:
        return INK
    return BLUE if p.strong else MUTED
