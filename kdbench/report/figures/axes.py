"""What figures have in common on their axes: lines, legends, limits and ticks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from kdbench.report.figures.style import MUTED, WIDTH, Mark

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis
    from matplotlib.figure import Figure

FAR = 5.0
"""Ranges further from the median than this many times the usual distance and length are far."""

SQUEEZED = 3.0
"""Far ranges are left out where they make an axis this many times longer."""

DECADE = 10.0

# -- lines


@dataclass(frozen=True, eq=False)
class Series:
    """The line of one method, and the band around it if it has one."""

    label: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


def draw_lines(
    axes: "Axes", series: Sequence[Series], marks: Mapping[str, Mark], steps: bool = False
) -> None:
    """Draw the lines without a mark in grey, then those with a mark, the best on top."""
    style = "steps-post" if steps else "default"
    for one in series:
        if one.label not in marks:
            axes.plot(one.x, one.y, color=MUTED, alpha=0.45, lw=0.9, zorder=1.5, drawstyle=style)
    marked = [one for one in series if one.label in marks][::-1]
    for depth, one in enumerate(marked):
        mark = marks[one.label]
        if one.low is not None and one.high is not None:
            axes.fill_between(one.x, one.low, one.high, color=mark.colour, alpha=0.13, lw=0)
        every = max(1, len(one.x) // 6)
        axes.plot(
            one.x, one.y, color=mark.colour, ls=mark.dash, lw=1.5, marker=mark.marker,
            ms=4.5, mew=0, markevery=(depth % every, every), zorder=3 + depth / 100,
            drawstyle=style,
        )  # fmt: skip


# -- legends


def line_legend(figure: "Figure", names: Mapping[str, str], marks: Mapping[str, Mark]) -> None:
    """A legend for `draw_lines`. `names` are those of all methods by label."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=m.colour, ls=m.dash, lw=1.5, marker=m.marker, ms=4.5, mew=0)
        for m in marks.values()
    ]
    grey = Line2D([], [], color=MUTED, alpha=0.45, lw=0.9)
    method_legend(figure, names, marks, handles, grey)


def method_legend(
    figure: "Figure",
    names: Mapping[str, str],
    marks: Mapping[str, Mark],
    handles: "Sequence[Artist]",
    grey: "Artist",
    *more: "tuple[Artist, str]",
) -> None:
    """A legend with one handle for each mark, one (`grey`) for all methods without a mark,
    and `more` handles with their texts."""
    texts = [names[label] for label in marks]
    others = [name for label, name in names.items() if label not in marks]
    if others:
        handles = [*handles, grey]
        texts.append(others[0] if len(others) == 1 else f"{len(others)} more")
    legend(figure, [*handles, *(h for h, _ in more)], [*texts, *(t for _, t in more)])


HANDLE, CHARACTER = 40.0, 4.3
"""Points that an entry of a legend takes beside its text, and for each character, in 7 pt type."""


def legend(figure: "Figure", handles: "Sequence[Artist]", texts: Sequence[str]) -> None:
    """A legend to the right of all axes, or beneath them in a narrow figure."""
    place: dict[str, Any] = {"loc": "outside right upper"}
    if (width := figure.get_figwidth()) < WIDTH / 2:
        points = HANDLE + CHARACTER * max(map(len, texts), default=0)
        place = {"loc": "outside lower center", "ncols": max(1, int(72 * width / points))}
    # Texts are set one by one, since Matplotlib leaves out those that begin with an underscore.
    made = figure.legend(handles, ["-"] * len(texts), **place)
    for entry, text in zip(made.get_texts(), texts, strict=True):
        entry.set_text(text)


# -- limits and ticks


def limits_of(lows: ArrayLike, highs: ArrayLike, margin: float = 0.05) -> tuple[float, float]:
    """The limits of an axis that shows all ranges from `lows` to `highs` that are not NaN,
    with a `margin` as a share of the axis. Where a few ranges lie so far out that the
    others would be squeezed into a third of the axis, the limits of the others: the
    figure marks the rest at its edge."""
    low, high = (np.asarray(values, dtype=float).ravel() for values in (lows, highs))
    finite = np.isfinite(low + high)
    low, high = low[finite], high[finite]
    middle = (low + high) / 2
    distance = np.abs(middle - np.median(middle))
    near = distance <= FAR * (np.median(distance) + np.median(high - low))
    bottom, top = float(low.min()), float(high.max())
    inner = float(low[near].min()), float(high[near].max())
    if top - bottom > SQUEEZED * (inner[1] - inner[0]) > 0:
        bottom, top = inner
    padding = margin * (top - bottom) if top > bottom else 0.5
    return bottom - padding, top + padding


def log_scale_if_wide(axis: "XAxis", values: Sequence[float]) -> bool:
    """Make the axis logarithmic if the values are positive and span more than a decade;
    whether it is."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if not values or min(values) <= 0 or max(values) / min(values) <= DECADE:
        return False
    low, high = min(values), max(values)
    axis.axes.set_xscale("log")
    axis.axes.set_xlim(low / 1.3, high * 1.3)
    few = high / low < DECADE**2.5
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=9 if few else 5))
    # Matplotlib's own formatter writes powers of ten as formulas, which are switched off.
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    return True


def integer_ticks(axis: "XAxis") -> None:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
