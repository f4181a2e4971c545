"""Axes whose ticks are plain numbers: logarithmic, or whole."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import XAxis

DECADE = 10.0


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
