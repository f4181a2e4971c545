"""What a method gains for what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from kdbench.report.figures.scatter import Point, draw_points
from kdbench.report.figures.style import WIDTH, mains, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kdbench.report.data.report_data import ReportData
    from kdbench.report.leaderboard import Leaderboard

COST = "relative cost (measured)"


@dataclass(frozen=True)
class Cost:
    """`points`: cost against accuracy; those that no other beats in both are strong."""

    points: tuple[Point, ...]
    reference: str
    score: str
    level: float

    @property
    def title(self) -> str:
        """What is shown."""
        return (
            f"{self.score} against the measured cost of training relative to {self.reference}: "
            f"mean over seeds and {100 * self.level:g} % t interval; the line joins the methods "
            "that no other beats in both (Pareto front)."
        )

    @property
    def size(self) -> tuple[float, float]:
        """Always the same."""
        return WIDTH, 4.6

    def draw(self, figure: "Figure") -> None:
        """The points, and the front as a stair."""
        words = f"cost relative to {short(self.reference)} (measured)"
        draw_points(figure, self.points, self.reference, (words, f"{self.score} in %"), self.stair)

    @property
    def stair(self) -> tuple[tuple[float, float], ...]:
        """The corners of the front: level to the next cost, then up."""
        front = sorted((p.x, p.y) for p in self.points if p.strong)
        corners = [((x, y), (after, y)) for (x, y), (after, _) in pairwise(front)]
        return (*(c for pair in corners for c in pair), *front[-1:])


def prepare(board: "Leaderboard", evidence: "ReportData") -> Cost | None:
    """All methods whose cost and accuracy are known, where there are two at least."""
    table = mains(board).dropna(subset=["accuracy", COST])
    points = [
        Point(row["method"], row[COST], row["accuracy"], row["accuracy_low"], row["accuracy_high"])
        for _, row in table.iterrows()
    ]
    if len(points) < 2:
        return None
    found = tuple(replace(p, strong=not _beaten(p, points)) for p in points)
    return Cost(found, board.reference, board.score, board.family.analysis.level)


def _beaten(p: Point, points: Sequence[Point]) -> bool:
    """Whether another is as good in both and better in one."""
    return any(o.x <= p.x and o.y >= p.y and (o.x, o.y) != (p.x, p.y) for o in points)
