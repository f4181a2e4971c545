"""Methods as points with intervals and names: one thing against another."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from kdbench.report.figures.axes import spread, window
from kdbench.report.figures.labels import Bar, place_labels
from kdbench.report.figures.render import settle
from kdbench.report.figures.style import BLUE, INK, MUTED, VERMILION, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST = 22
"""Characters of a name that are written beside a point."""


@dataclass(frozen=True)
class Point:
    """A method's mean at (x, y), with the bounds that it has. `strong`: drawn in front."""

    label: str
    x: float
    y: float
    low: float = math.nan
    high: float = math.nan
    left: float = math.nan
    right: float = math.nan
    strong: bool = True

    def bars(self) -> Iterator[Bar]:
        """The upright and the level interval, where they are known."""
        if not math.isnan(self.low + self.high):
            yield (self.x, self.low), (self.x, self.high)
        if not math.isnan(self.left + self.right):
            yield (self.left, self.y), (self.right, self.y)


def draw_points(
    figure: "Figure",
    points: Sequence[Point],
    reference: str,
    words: tuple[str, str],
    line: Sequence[tuple[float, float]] = (),
) -> None:
    """The points with their intervals and names, the reference as a diamond. What lies far
    from all others stands at the edge, its numbers beside its name. `words` name the axes,
    `line` is drawn behind the points."""
    axes = figure.add_subplot()
    axes.set_xlabel(words[0])
    axes.set_ylabel(words[1])
    _limit(axes, points)
    names, places = [], []
    bars = [*pairwise(line), *(bar for p in points for bar in p.bars())]
    if line:
        axes.plot(*zip(*line, strict=True), color=BLUE, lw=1.2, alpha=0.5, zorder=1.8)
    for p in points:
        place = _within(axes, p)
        for bar in p.bars():
            axes.plot(*zip(*bar, strict=True), color=INK if p.label == reference else MUTED, lw=0.9,
                      alpha=0.5)  # fmt: skip
        inside = place == (p.x, p.y)
        marker = "D" if p.label == reference else "o" if p.strong else "s"
        axes.plot(
            *zip(place, strict=True), marker=marker if inside else _arrow(p, place), ms=5.5,
            color=_colour(p, reference) if inside else VERMILION, mew=0, zorder=4, clip_on=False,
        )  # fmt: skip
        name = short(p.label, LONGEST)
        names.append(name if inside else f"{name} ({p.x:.3g}, {p.y:.3g})")
        places.append(place)
    settle(figure)
    place_labels(axes, names, places, bars)


def _limit(axes: "Axes", points: Sequence[Point]) -> None:
    lows = [p.y if math.isnan(p.low) else p.low for p in points]
    highs = [p.y if math.isnan(p.high) else p.high for p in points]
    axes.set_ylim(*window(lows, highs, air=0.08))
    lefts = [p.x if math.isnan(p.left) else p.left for p in points]
    rights = [p.x if math.isnan(p.right) else p.right for p in points]
    if not spread(axes.xaxis, [p.x for p in points]):
        axes.set_xlim(*window(lefts, rights, air=0.08))


def _within(axes: "Axes", p: Point) -> tuple[float, float]:
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    return min(max(p.x, left), right), min(max(p.y, bottom), top)


def _arrow(p: Point, place: tuple[float, float]) -> str:
    if p.y != place[1]:
        return "v" if p.y < place[1] else "^"
    return "<" if p.x < place[0] else ">"


def _colour(p: Point, reference: str) -> str:
    if p.label == reference:
        return INK
    return BLUE if p.strong else MUTED
