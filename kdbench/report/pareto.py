"""The Pareto front of points (x, y) whose x is to be low and whose y is to be high."""

from collections.abc import Sequence
from itertools import pairwise

XY = tuple[float, float]


def on_front(points: Sequence[XY]) -> list[bool]:
    """For each point, whether no other is as good in both and better in one."""
    return [not any(_dominates(other, point) for other in points) for point in points]


def front_line(points: Sequence[XY]) -> tuple[XY, ...]:
    """The corners of the front: level to the next x, then up."""
    front = sorted(p for p, strong in zip(points, on_front(points), strict=True) if strong)
    corners = [((x, y), (after, y)) for (x, y), (after, _) in pairwise(front)]
    return (*(c for pair in corners for c in pair), *front[-1:])


def _dominates(other: XY, point: XY) -> bool:
    return other[0] <= point[0] and other[1] >= point[1] and other != point
