"""Whether a student that does what its teacher does is right more often."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdbench.report.figures.scatter import Point, draw_points
from kdbench.report.figures.style import WIDTH, mains, scores
from kdbench.stats import mean_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kdbench.report.data.report_data import ReportData
    from kdbench.report.leaderboard import Leaderboard


@dataclass(frozen=True)
class Fidelity:
    """`points`: agreement with the teacher against accuracy."""

    points: tuple[Point, ...]
    reference: str
    score: str
    level: float

    @property
    def title(self) -> str:
        """What is shown."""
        return (
            f"{self.score} against agreement with the teacher (the share of test images on which "
            "student and teacher say the same): mean over seeds and "
            f"{100 * self.level:g} % t intervals of both."
        )

    @property
    def size(self) -> tuple[float, float]:
        """Always the same."""
        return WIDTH, 4.6

    def draw(self, figure: "Figure") -> None:
        """The points."""
        words = ("agreement with the teacher in %", f"{self.score} in %")
        draw_points(figure, self.points, self.reference, words)


def prepare(board: "Leaderboard", evidence: "ReportData") -> Fidelity | None:
    """All methods whose agreement is known, where there are two at least."""
    level = board.family.analysis.level
    points = []
    for _, row in mains(board).iterrows():
        found = mean_interval(scores(evidence, row["method"], row["row"], "agreement"), level)
        if math.isnan(found.mean) or math.isnan(row["accuracy"]):
            continue
        points.append(
            Point(row["method"], found.mean, row["accuracy"], row["accuracy_low"],
                  row["accuracy_high"], found.low, found.high)
        )  # fmt: skip
    if len(points) < 2:
        return None
    return Fidelity(tuple(points), board.reference, board.score, level)
