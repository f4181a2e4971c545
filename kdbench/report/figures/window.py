"""Which part of an axis to show when a few values lie far from all others."""

import numpy as np
from numpy.typing import ArrayLike

FAR = 5.0
"""How many times the usual distance from the middle, and width, lies far out."""

MOST = 3.0
"""How many times larger an axis may be for the sake of what lies far out."""


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
