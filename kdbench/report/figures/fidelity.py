"""Figure: the score against agreement with the teacher."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdbench.report.data.report_data import ReportData
from kdbench.report.figures.scatter import Point, draw_points
from kdbench.report.figures.style import WIDTH, Mark, marks_of, primary_table, scores
from kdbench.report.leaderboard import Leaderboard
from kdbench.stats import mean_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Fidelity:
    """`points`: agreement with the teacher against the score."""

    points: tuple[Point, ...]
    reference: str
    score: str
    level: float
    marks: Mapping[str, Mark]

    @property
    def title(self) -> str:
        """The caption."""
        return (
            f"{self.score} against agreement with the teacher (the share of test images on which "
            "student and teacher predict the same class): mean over seeds and "
            f"{100 * self.level:g} % t intervals of both."
        )

    @property
    def size(self) -> tuple[float, float]:
        """Fixed."""
        return WIDTH, 4.6

    def draw(self, figure: "Figure") -> None:
        """The points."""
        labels = ("agreement with the teacher in %", f"{self.score} in %")
        draw_points(figure, self.points, self.reference, labels, marks=self.marks)


def prepare(board: Leaderboard, data: ReportData) -> Fidelity | None:
    """The methods with an agreement and a score, if there are at least two."""
    level, score = board.family.analysis.level, board.measure.column
    points = []
    for _, row in primary_table(board).iterrows():
        agreement = mean_interval(scores(data, row["method"], row["row"], "agreement"), level)
        if math.isnan(agreement.mean) or math.isnan(row[score]):
            continue
        points.append(
            Point(row["method"], agreement.mean, row[score], row[f"{score}_low"],
                  row[f"{score}_high"], agreement.low, agreement.high)
        )  # fmt: skip
    if len(points) < 2:
        return None
    return Fidelity(tuple(points), board.reference, board.score, level, marks_of(board))
