"""Names beside points."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kdbench.report.figures.arrange import RADII, Box, arrange, nearest
from kdbench.report.figures.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Bar = tuple[tuple[float, float], tuple[float, float]]
"""The two ends of an upright or level line."""

SIZE = 7.5
AIR = 3.0
"""Pixels around a name that stay free."""


def place_labels(
    axes: "Axes",
    names: Sequence[str],
    points: Sequence[tuple[float, float]],
    bars: Sequence[Bar] = (),
) -> None:
    """Write each name near its point (data units), as near as there is room: always the
    same for the same points. `bars` are lines that a name should not cross. The layout
    must be settled."""
    if not points:
        return
    pixels = [(float(x), float(y)) for x, y in axes.transData.transform(points)]
    sizes = [_size(axes, text) for text in names]
    boxes = arrange(pixels, sizes, _bars(axes, bars), axes.bbox.padded(-2 * AIR).extents)
    back = axes.transData.inverted()
    for text, pixel, box in zip(names, pixels, boxes, strict=True):
        end = nearest(np.asarray(pixel), np.asarray(box))
        if math.dist(end, pixel) > RADII[1]:
            xs, ys = back.transform(np.array([pixel, end])).T
            axes.plot(xs, ys, color=INK, alpha=0.5, lw=0.5, zorder=2, scalex=False, scaley=False)
        side, x = _anchor(pixel, box)
        x, y = back.transform((x, (box[1] + box[3]) / 2))
        axes.text(x, y, text, fontsize=SIZE, ha=side, va="center_baseline", zorder=5)


def _anchor(point: tuple[float, float], box: Box) -> tuple[str, float]:
    """Which side of a text is held, and where: the one next to its point, since fonts on
    other screens are wider or narrower."""
    if box[0] >= point[0]:
        return "left", box[0] + AIR / 2
    if box[2] <= point[0]:
        return "right", box[2] - AIR / 2
    return "center", (box[0] + box[2]) / 2


def _bars(axes: "Axes", bars: Sequence[Bar]) -> list[Box]:
    """Lines as thin boxes."""
    found = []
    for ends in bars:
        (x0, y0), (x1, y1) = axes.transData.transform(ends)
        found.append((min(x0, x1) - 1.5, min(y0, y1) - 1.5, max(x0, x1) + 1.5, max(y0, y1) + 1.5))
    return found


def _size(axes: "Axes", text: str) -> tuple[float, float]:
    """Width and height of a text in pixels, with some air."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.font_manager import FontProperties

    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    width, height, _ = canvas.get_renderer().get_text_width_height_descent(
        text, FontProperties(size=SIZE), False
    )
    return width + AIR, max(height, SIZE) + AIR
