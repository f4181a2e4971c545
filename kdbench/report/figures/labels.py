"""Names beside points."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kdbench.report.figures.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Bar = tuple[tuple[float, float], tuple[float, float]]
"""The two ends of an upright or level line."""

SIZE = 7.5
AIR = 3.0
"""Pixels around a name that stay free."""


Box = tuple[float, float, float, float]
RADII = (7.0, 13.0, 20.0, 29.0, 40.0, 54.0)
AROUND = tuple(k * math.pi / 6 for k in (0, 6, 1, 5, 11, 7, 2, 4, 10, 8, 3, 9))


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


def arrange(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    bars: Sequence[Box],
    frame: Sequence[float],
) -> list[Box]:
    """A box of each size near each point: of all places around it, the one that covers
    least, and of those the nearest."""
    marks = [(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    placed: list[Box] = []
    found: dict[int, Box] = {}
    # From the most crowded point to the freest.
    where = np.array(points)
    apart = np.linalg.norm(where[:, None] - where[None, :], axis=-1)
    crowd = np.exp(-apart / 40).sum(axis=1).round(6)
    for k in sorted(range(len(points)), key=lambda k: (-crowd[k], k)):
        boxes = _around(points[k], sizes[k])
        others = [m for j, m in enumerate(marks) if j != k]
        cost = 10 * _cover(boxes, placed) + 5 * _cover(boxes, marks) + 0.5 * _cover(boxes, bars)
        cost += 20 * _outside(boxes, frame) + 2 * np.repeat(RADII, len(AROUND))
        cost += np.tile(np.arange(len(AROUND)), len(RADII)) / len(AROUND)
        cost += 60 * _crossed(points[k], boxes, [*placed, *others])
        cost += 90 * _nearer(points[k], boxes, np.delete(where, k, axis=0))
        found[k] = _box(boxes[int(np.argmin(cost))])
        placed += [found[k], *_leader(points[k], found[k])]
    return [found[k] for k in range(len(points))]


def _leader(point: tuple[float, float], box: Box) -> list[Box]:
    """What the line from a point to its distant name takes up."""
    end = nearest(np.asarray(point), np.asarray(box))
    if math.dist(end, point) <= RADII[1]:
        return []
    dots = np.linspace(point, end, 9)[1:-1]
    return [_box(np.array([x - 1.5, y - 1.5, x + 1.5, y + 1.5])) for x, y in dots]


def _box(values: np.ndarray) -> Box:
    left, bottom, right, top = (float(v) for v in values)
    return left, bottom, right, top


def nearest(point: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The place of each box that is nearest to a point."""
    return np.clip(point, boxes[..., :2], boxes[..., 2:])


def _crossed(point: tuple[float, float], boxes: np.ndarray, others: Sequence[Box]) -> np.ndarray:
    """How often the straight way from a point to each box leads through others."""
    if not others:
        return np.zeros(len(boxes))
    start = np.asarray(point)
    steps = np.linspace(0, 1, 12)[None, :, None]
    way = start + steps * (nearest(start, boxes) - start)[:, None, :]
    a, b = way[:, :, None, :], np.array(others)
    inside = ((a >= b[:, :2]) & (a <= b[:, 2:])).all(axis=-1)
    return inside.any(axis=1).sum(axis=-1).astype(float)


def _nearer(point: tuple[float, float], boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How many other points lie nearer to each box than its own: it would be read as theirs."""
    if not len(others):
        return np.zeros(len(boxes))

    def apart(points: np.ndarray) -> np.ndarray:
        gaps = nearest(points, boxes[:, None, :]) - points
        return np.linalg.norm(gaps, axis=-1)

    own = apart(np.array([point]))
    return (apart(others) < own).sum(axis=1).astype(float)


def _around(point: tuple[float, float], size: tuple[float, float]) -> np.ndarray:
    """Boxes whose nearest edge or corner lies at each radius and angle."""
    radius, angle = (g.ravel() for g in np.meshgrid(RADII, AROUND, indexing="ij"))
    cos, sin = np.cos(angle).round(9), np.sin(angle).round(9)
    x = point[0] + radius * cos + cos * size[0] / 2
    y = point[1] + radius * sin + np.sign(sin) * np.minimum(np.abs(sin) * 2, 1) * size[1] / 2
    return np.stack([x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2], axis=1)


def _cover(boxes: np.ndarray, others: Sequence[Box]) -> np.ndarray:
    """How many square pixels of each box lie under the others."""
    if not others:
        return np.zeros(len(boxes))
    a, b = boxes[:, None, :], np.array(others)[None, :, :]
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    return (np.clip(width, 0, None) * np.clip(height, 0, None)).sum(axis=1)


def _outside(boxes: np.ndarray, frame: Sequence[float]) -> np.ndarray:
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left, bottom, right, top = (float(v) for v in frame)
    return area - _cover(boxes, [(left, bottom, right, top)])
