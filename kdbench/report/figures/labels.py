"""Names beside points, placed so that they cover as little as possible."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kdbench.report.figures.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Bar = tuple[tuple[float, float], tuple[float, float]]
"""The two ends of a vertical or horizontal line."""

Box = tuple[float, float, float, float]
"""Left, bottom, right and top in pixels."""

FONT_SIZE = 7.5
PADDING = 3.0
"""Pixels around a name that stay free."""

RADII = (7.0, 13.0, 20.0, 29.0, 40.0, 54.0)
"""Distances from a point in pixels that are tried for its name."""

ANGLES = tuple(k * math.pi / 6 for k in (0, 6, 1, 5, 11, 7, 2, 4, 10, 8, 3, 9))
"""Directions that are tried, the preferred ones first."""


def place_labels(
    axes: "Axes",
    names: Sequence[str],
    points: Sequence[tuple[float, float]],
    bars: Sequence[Bar] = (),
) -> None:
    """Write each name as near to its point (in data units) as there is room, always at the
    same place for the same points. `bars` are lines that a name should not cover. The
    layout must be fixed already."""
    if not points:
        return
    pixels = [(float(x), float(y)) for x, y in axes.transData.transform(points)]
    sizes = [_size(axes, text) for text in names]
    boxes = arrange(pixels, sizes, _bar_boxes(axes, bars), axes.bbox.padded(-2 * PADDING).extents)
    to_data = axes.transData.inverted()
    for text, pixel, box in zip(names, pixels, boxes, strict=True):
        end = nearest(np.asarray(pixel), np.asarray(box))
        if math.dist(end, pixel) > RADII[1]:
            xs, ys = to_data.transform(np.array([pixel, end])).T
            axes.plot(xs, ys, color=INK, alpha=0.5, lw=0.5, zorder=2, scalex=False, scaley=False)
        side, x = _anchor(pixel, box)
        x, y = to_data.transform((x, (box[1] + box[3]) / 2))
        axes.text(x, y, text, fontsize=FONT_SIZE, ha=side, va="center_baseline", zorder=5)


def _anchor(point: tuple[float, float], box: Box) -> tuple[str, float]:
    """The horizontal alignment of a text and its x: the side next to its point is fixed,
    since fonts on other screens are wider or narrower."""
    if box[0] >= point[0]:
        return "left", box[0] + PADDING / 2
    if box[2] <= point[0]:
        return "right", box[2] - PADDING / 2
    return "center", (box[0] + box[2]) / 2


def _bar_boxes(axes: "Axes", bars: Sequence[Bar]) -> list[Box]:
    """Lines as thin boxes."""
    boxes = []
    for ends in bars:
        (x0, y0), (x1, y1) = axes.transData.transform(ends)
        boxes.append((min(x0, x1) - 1.5, min(y0, y1) - 1.5, max(x0, x1) + 1.5, max(y0, y1) + 1.5))
    return boxes


def _size(axes: "Axes", text: str) -> tuple[float, float]:
    """Width and height of a text in pixels, with padding."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.font_manager import FontProperties

    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    width, height, _ = canvas.get_renderer().get_text_width_height_descent(
        text, FontProperties(size=FONT_SIZE), False
    )
    return width + PADDING, max(height, FONT_SIZE) + PADDING


def arrange(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    bars: Sequence[Box],
    frame: Sequence[float],
) -> list[Box]:
    """A box of each size near each point: of the places tried around it, the one that covers
    least, and among those the nearest. Points in a crowd choose first."""
    marks = [(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    taken: list[Box] = []
    chosen: dict[int, Box] = {}
    positions = np.array(points)
    distances = np.linalg.norm(positions[:, None] - positions[None, :], axis=-1)
    crowding = np.exp(-distances / 40).sum(axis=1).round(6)
    for k in sorted(range(len(points)), key=lambda k: (-crowding[k], k)):
        boxes = _candidates(points[k], sizes[k])
        others = [m for j, m in enumerate(marks) if j != k]
        cost = 10 * _cover(boxes, taken) + 5 * _cover(boxes, marks) + 0.5 * _cover(boxes, bars)
        cost += 20 * _outside(boxes, frame) + 2 * np.repeat(RADII, len(ANGLES))
        cost += np.tile(np.arange(len(ANGLES)), len(RADII)) / len(ANGLES)
        cost += 60 * _crossed(points[k], boxes, [*taken, *others])
        cost += 90 * _nearer(points[k], boxes, np.delete(positions, k, axis=0))
        chosen[k] = _box(boxes[int(np.argmin(cost))])
        taken += [chosen[k], *_leader(points[k], chosen[k])]
    return [chosen[k] for k in range(len(points))]


def _leader(point: tuple[float, float], box: Box) -> list[Box]:
    """The space of the line from a point to its name, if the name is far enough to have one."""
    end = nearest(np.asarray(point), np.asarray(box))
    if math.dist(end, point) <= RADII[1]:
        return []
    dots = np.linspace(point, end, 9)[1:-1]
    return [_box(np.array([x - 1.5, y - 1.5, x + 1.5, y + 1.5])) for x, y in dots]


def _box(values: np.ndarray) -> Box:
    left, bottom, right, top = (float(v) for v in values)
    return left, bottom, right, top


def nearest(point: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The position in each box that is nearest to a point."""
    return np.clip(point, boxes[..., :2], boxes[..., 2:])


def _crossed(point: tuple[float, float], boxes: np.ndarray, others: Sequence[Box]) -> np.ndarray:
    """How many of the others lie on the straight line from a point to each box."""
    if not others:
        return np.zeros(len(boxes))
    start = np.asarray(point)
    steps = np.linspace(0, 1, 12)[None, :, None]
    line = start + steps * (nearest(start, boxes) - start)[:, None, :]
    a, b = line[:, :, None, :], np.array(others)
    inside = ((a >= b[:, :2]) & (a <= b[:, 2:])).all(axis=-1)
    return inside.any(axis=1).sum(axis=-1).astype(float)


def _nearer(point: tuple[float, float], boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How many other points are nearer to each box than its own point, and so would seem to
    have its name."""
    if not len(others):
        return np.zeros(len(boxes))

    def distance(points: np.ndarray) -> np.ndarray:
        gaps = nearest(points, boxes[:, None, :]) - points
        return np.linalg.norm(gaps, axis=-1)

    return (distance(others) < distance(np.array([point]))).sum(axis=1).astype(float)


def _candidates(point: tuple[float, float], size: tuple[float, float]) -> np.ndarray:
    """Boxes whose nearest edge or corner lies at each radius and angle."""
    radius, angle = (g.ravel() for g in np.meshgrid(RADII, ANGLES, indexing="ij"))
    cos, sin = np.cos(angle).round(9), np.sin(angle).round(9)
    x = point[0] + radius * cos + cos * size[0] / 2
    y = point[1] + radius * sin + np.sign(sin) * np.minimum(np.abs(sin) * 2, 1) * size[1] / 2
    return np.stack([x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2], axis=1)


def _cover(boxes: np.ndarray, others: Sequence[Box]) -> np.ndarray:
    """The area of each box that the others cover, in square pixels."""
    if not others:
        return np.zeros(len(boxes))
    a, b = boxes[:, None, :], np.array(others)[None, :, :]
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    return (np.clip(width, 0, None) * np.clip(height, 0, None)).sum(axis=1)


def _outside(boxes: np.ndarray, frame: Sequence[float]) -> np.ndarray:
    """The area of each box outside the frame, in square pixels."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left, bottom, right, top = (float(v) for v in frame)
    return area - _cover(boxes, [(left, bottom, right, top)])
