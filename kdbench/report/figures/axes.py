"""Many lines in one figure: a few in colour with a name, the rest in the background."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axis import XAxis
from numpy.typing import ArrayLike

from kdbench.report.figures.style import MUTED, Mark

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FAR = 5.0
MOST = 3.0
DECADE = 10.0


@dataclass(frozen=True, eq=False)
class Series:
    """One method's line, and the band around it where it is to have one."""

    label: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


def draw_lines(
    axes: "Axes", series: Sequence[Series], marks: Mapping[str, Mark], steps: bool = False
) -> None:
    """The background first, then the named lines, the best on top."""
    style = "steps-post" if steps else "default"
    for one in series:
        if one.label not in marks:
            axes.plot(one.x, one.y, color=MUTED, alpha=0.45, lw=0.9, zorder=1.5, drawstyle=style)
    last = [one for one in series if one.label in marks][::-1]
    for depth, one in enumerate(last):
        mark = marks[one.label]
        if one.low is not None and one.high is not None:
            axes.fill_between(one.x, one.low, one.high, color=mark.colour, alpha=0.13, lw=0)
        every = max(1, len(one.x) // 6)
        axes.plot(
            one.x, one.y, color=mark.colour, ls=mark.dash, lw=1.5, marker=mark.marker,
            ms=4.5, mew=0, markevery=(depth % every, every), zorder=3 + depth / 100,
            drawstyle=style,
        )  # fmt: skip


def name_lines(figure: "Figure", names: Mapping[str, str], marks: Mapping[str, Mark]) -> None:
    """A legend for lines, with a word for the background. `names` are those of all."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=m.colour, ls=m.dash, lw=1.5, marker=m.marker, ms=4.5, mew=0)
        for m in marks.values()
    ]
    behind = Line2D([], [], color=MUTED, alpha=0.45, lw=0.9)
    name_all(figure, names, marks, handles, behind)


def name_all(
    figure: "Figure",
    names: Mapping[str, str],
    marks: Mapping[str, Mark],
    handles: "Sequence[Artist]",
    behind: "Artist",
    *more: "tuple[Artist, str]",
) -> None:
    """A legend with a handle for each mark, one for the others together, and any more."""
    texts = [names[label] for label in marks]
    others = [name for label, name in names.items() if label not in marks]
    if others:
        handles = [*handles, behind]
        texts.append(others[0] if len(others) == 1 else f"{len(others)} more")
    legend(figure, [*handles, *(h for h, _ in more)], [*texts, *(t for _, t in more)])


def legend(figure: "Figure", handles: "Sequence[Artist]", texts: Sequence[str]) -> None:
    """A legend to the right of all axes. Texts are set one by one, for a legend leaves out
    what begins with an underscore."""
    made = figure.legend(handles, ["-"] * len(texts), loc="outside right upper")
    for place, text in zip(made.get_texts(), texts, strict=True):
        place.set_text(text)


def window(lows: ArrayLike, highs: ArrayLike, air: float = 0.05) -> tuple[float, float]:
    """Limits that hold all known ranges from `lows` to `highs`, with some air; but where a
    few lie so far out that they would press the rest into a third of the axis, the limits
    of the rest: those are to be marked at the edge."""
    low, high = (np.asarray(values, dtype=float).ravel() for values in (lows, highs))
    known = np.isfinite(low + high)
    low, high = low[known], high[known]
    middle = (low + high) / 2
    apart = np.abs(middle - np.median(middle))
    near = apart <= FAR * (np.median(apart) + np.median(high - low))
    bottom, top = float(low.min()), float(high.max())
    inner = float(low[near].min()), float(high[near].max())
    if top - bottom > MOST * (inner[1] - inner[0]) > 0:
        bottom, top = inner
    margin = air * (top - bottom) if top > bottom else 0.5
    return bottom - margin, top + margin


def spans_decades(values: Sequence[float]) -> bool:
    """Whether a linear axis would press most values together."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > DECADE


def spread(axis: "XAxis", values: Sequence[float]) -> bool:
    """Make the axis logarithmic where the values span more than a decade; whether it is."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if not spans_decades(values):
        return False
    low, high = min(values), max(values)
    axis.axes.set_xscale("log")
    axis.axes.set_xlim(low / 1.3, high * 1.3)
    few = high / low < DECADE**2.5
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=9 if few else 5))
    # Matplotlib's own formatter writes powers of ten as formulas, which are switched off.
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_formatter(NullFormatter())
    return True


def whole(axis: "XAxis") -> None:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))


def plain(value: float, _: object = None) -> str:
    """A tick's number."""
    return f"{value:g}"
