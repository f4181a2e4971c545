"""Figures: the score of each network against its latency, and against its size on disk."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdbench.records.profiles import TEACHER, WEIGHTS
from kdbench.report.data.report_data import ReportData
from kdbench.report.deployment import Deployable, Deployment, Row, deployment_of
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
class Tradeoff:
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


def prepare_latency(board: Leaderboard, data: ReportData) -> Tradeoff | None:
    """The score against the latency of one image, if at least two rows were profiled."""
    deployment = deployment_of(board, data)
    return latency_tradeoff(deployment) if deployment else None


def prepare_size(board: Leaderboard, data: ReportData) -> Tradeoff | None:
    """The score against the size on disk, if at least two rows were profiled."""
    deployment = deployment_of(board, data)
    return size_tradeoff(deployment) if deployment else None


def latency_tradeoff(deployment: Deployment) -> Tradeoff | None:
    """The score against the latency of one image, for two points at least."""
    profile = deployment.profile
    words = (
        f"the latency of one image on {profile.machine} ({profile.device}, "
        f"{count(profile.threads, 'thread')}; median and quartiles)"
    )
    return _tradeoff(deployment, "latency of one image in ms (measured)", words)


def size_tradeoff(deployment: Deployment) -> Tradeoff | None:
    """The score against the size on disk, for two points at least."""
    words = f"the size of the weights on disk ({WEIGHTS})"
    return _tradeoff(deployment, "size of the weights on disk in MB", words, size=True)


def _tradeoff(deployment: Deployment, cost: str, words: str, size: bool = False) -> Tradeoff | None:
    points, teacher = [], ""
    for item in deployment.networks:
        for row in item.rows:
            if row is item.rows[0] or row["method"] == deployment.reference:
                points.append(_point(item, row, deployment.column, size))
                if row["row"] == TEACHER:
                    teacher = points[-1].label
    if len(points) < 2:
        return None
    return Tradeoff(
        mark_front(points), teacher, cost, words,
        deployment.score, deployment.reference, deployment.level,
    )  # fmt: skip


def _point(item: Deployable, row: Row, score: str, size: bool) -> Point:
    name = item.network.name
    label = f"{name} (teacher)" if row["row"] == TEACHER else f"{name}, {row['method']}"
    y = row[score], row[f"{score}_low"], row[f"{score}_high"]
    if size:
        return Point(label, item.megabytes, *y)
    timing = item.network.timing(1)
    return Point(label, item.milliseconds, *y, 1000 * timing.low, 1000 * timing.high)
