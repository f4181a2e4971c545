"""Figures: the score of each network against its latency, and against its size on disk."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdbench.records.profiles import TEACHER, WEIGHTS
from kdbench.report.data.report_data import ReportData
from kdbench.report.deployment import Deployable, Row, deployable_networks
from kdbench.report.figures.scatter import Point, draw_points, mark_front
from kdbench.report.figures.style import WIDTH
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.pareto import front_line
from kdbench.report.text.context import count

if TYPE_CHECKING:
    from matplotlib.figure import Figure


#: Characters of a name: the points are few, and a network is named with a method.
NAME_LENGTH = 40


@dataclass(frozen=True)
class Deployment:
    """`points`: what a network costs against its score; those on the Pareto front are `strong`.
    `teacher` is the label of the teacher's point, `cost` the label of the x axis, and `words` say
    what it is."""

    points: tuple[Point, ...]
    teacher: str
    cost: str
    words: str
    score: str
    reference: str
    level: float

    @property
    def title(self) -> str:
        """The caption."""
        return (
            f"{self.score} against {self.words}: the teacher (diamond), and each network as its "
            f"best method and as {self.reference} trains it; mean over seeds and "
            f"{100 * self.level:g} % t interval. The line joins what nothing else beats in both "
            "(Pareto front)."
        )

    @property
    def size(self) -> tuple[float, float]:
        """Fixed."""
        return WIDTH, 4.6

    def draw(self, figure: "Figure") -> None:
        """The points, and the Pareto front as steps."""
        front = front_line([(p.x, p.y) for p in self.points])
        labels = (self.cost, f"{self.score} in %")
        draw_points(figure, self.points, self.teacher, labels, front, longest=NAME_LENGTH)


def prepare_latency(board: Leaderboard, data: ReportData) -> Deployment | None:
    """The score against the latency of one image, if at least two rows were profiled."""
    if data.profile is None:
        return None
    threads = count(data.profile.threads, "thread")
    words = (
        f"the latency of one image on {data.profile.machine} ({data.profile.device}, {threads}; "
        "median and quartiles)"
    )
    return _prepare(board, data, "latency of one image in ms (measured)", words)


def prepare_size(board: Leaderboard, data: ReportData) -> Deployment | None:
    """The score against the size on disk, if at least two rows were profiled."""
    words = f"the size of the weights on disk ({WEIGHTS})"
    return _prepare(board, data, "size of the weights on disk in MB", words, size=True)


def _prepare(
    board: Leaderboard, data: ReportData, cost: str, words: str, size: bool = False
) -> Deployment | None:
    points, teacher = [], ""
    for item in deployable_networks(board, data):
        for row in item.rows:
            if row is item.rows[0] or row["method"] == board.reference:
                points.append(_point(item, row, board.measure.column, size))
                if row["row"] == TEACHER:
                    teacher = points[-1].label
    if len(points) < 2:
        return None
    level = board.family.analysis.level
    marked = mark_front(points)
    return Deployment(marked, teacher, cost, words, board.score, board.reference, level)


def _point(item: Deployable, row: Row, score: str, size: bool) -> Point:
    name = item.network.name
    label = f"{name} (teacher)" if row["row"] == TEACHER else f"{name}, {row['method']}"
    y = row[score], row[f"{score}_low"], row[f"{score}_high"]
    if size:
        return Point(label, item.megabytes, *y)
    timing = item.network.timing(1)
    return Point(label, item.milliseconds, *y, 1000 * timing.low, 1000 * timing.high)
