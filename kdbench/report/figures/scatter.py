"""Methods as points with intervals and names, for figures of one quantity against another."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

from kdbench.report.figures.axes import limits_of, log_scale_if_wide
from kdbench.report.figures.labels import Bar, place_labels
from kdbench.report.figures.render import fix_layout
from kdbench.report.figures.style import BLUE, INK, MUTED, REFERENCE, VERMILION, Mark, short
from kdbench.report.pareto import on_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NO_MARKS: Mapping[str, Mark] = MappingProxyType({})
WEAK = 0.55
"""Opacity of the points that are not strong."""

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
    marks: Mapping[str, Mark] = NO_MARKS,
) -> None:
    """Draw the points with their intervals and names, with the `marks` of their methods, the
    reference as a diamond. A point outside the limits stands at the edge, with its numbers
    beside its name. `labels` are those of the x and y axis, `line` is drawn behind the points; a
    name has at most `longest` characters."""
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
        mark = marks.get(p.label) or _mark(p, reference)
        axes.plot(
            *zip(position, strict=True), marker=mark.marker if inside else _arrow(p, position),
            ms=6.5, color=mark.colour if inside else VERMILION, mew=0, zorder=4, clip_on=False,
            alpha=1 if p.strong or not inside else WEAK,
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


def _mark(p: Point, reference: str) -> Mark:
    """The mark of a point whose method has none."""
    if p.label == reference:
        return REFERENCE
    return Mark(BLUE, "o") if p.strong else Mark(MUTED, "s")
