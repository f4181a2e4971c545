"""Figure: the score against the measured cost of training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdbench.report.data.report_data import ReportData
from kdbench.report.figures.scatter import Point, draw_points, mark_front
from kdbench.report.figures.style import WIDTH, Mark, marks_of, primary_table, short
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.pareto import front_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COST = "relative cost (measured)"
COUNTED = ", with all networks that a row trains but the study's teacher"


@dataclass(frozen=True)
class Cost:
    """`points`: cost against score; those on the Pareto front are `strong`. `counted` says what
    a cost counts, where that is known."""

    points: tuple[Point, ...]
    reference: str
    score: str
    level: float
    counted: str
    marks: Mapping[str, Mark]

    @property
    def title(self) -> str:
        """The caption."""
        return (
            f"{self.score} against the measured cost of training relative to {self.reference}"
            f"{self.counted}: mean over seeds and {100 * self.level:g} % t interval; the line "
            "joins the methods that no other beats in both (Pareto front)."
        )

    @property
    def size(self) -> tuple[float, float]:
        """Fixed."""
        return WIDTH, 4.6

    def draw(self, figure: "Figure") -> None:
        """The points, and the Pareto front as steps."""
        x_label = f"cost relative to {short(self.reference)} (measured)"
        labels = (x_label, f"{self.score} in %")
        draw_points(figure, self.points, self.reference, labels, self.front, marks=self.marks)

    @property
    def front(self) -> tuple[tuple[float, float], ...]:
        """The corners of the Pareto front."""
        return front_line([(p.x, p.y) for p in self.points])


def prepare(board: Leaderboard, data: ReportData) -> Cost | None:
    """The methods with a cost and a score, if there are at least two."""
    score = board.measure.column
    table = primary_table(board).dropna(subset=[score, COST])
    points = [
        Point(row["method"], row[COST], row[score], row[f"{score}_low"], row[f"{score}_high"])
        for _, row in table.iterrows()
    ]
    if len(points) < 2:
        return None
    # What a file of results counts as cost is not known.
    counted = COUNTED if data.plan.score is None else ""
    level = board.family.analysis.level
    marks = marks_of(board)
    return Cost(mark_front(points), board.reference, board.score, level, counted, marks)
