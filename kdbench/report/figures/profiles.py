"""Figure: performance profiles, the distribution of the scores of each method's runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdbench.report.data.report_data import ReportData
from kdbench.report.figures.axes import Series, draw_lines, limits_of, line_legend
from kdbench.report.figures.style import WIDTH, Mark, highlights, legend_name, primary_table, scores
from kdbench.report.leaderboard import Leaderboard
from kdbench.stats import performance_profile

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Profiles:
    """A line for each method: a score in percent, and the share of runs above it in percent."""

    series: tuple[Series, ...]
    limits: tuple[float, float]
    score: str
    marks: Mapping[str, Mark]
    names: Mapping[str, str]

    @property
    def title(self) -> str:
        """The caption."""
        return (
            "Performance profiles (descriptive): the share of a method's runs above each "
            f"{self.score.lower()}."
        )

    @property
    def size(self) -> tuple[float, float]:
        """Fixed."""
        return WIDTH, 3.6

    def draw(self, figure: "Figure") -> None:
        """The lines as steps."""
        axes = figure.add_subplot()
        draw_lines(axes, self.series, self.marks, steps=True)
        axes.set_xlim(*self.limits)
        axes.set_xlabel(f"{self.score} in %")
        axes.set_ylabel("runs above it in %")
        line_legend(figure, self.names, self.marks)


def prepare(board: Leaderboard, data: ReportData) -> Profiles | None:
    """The row that stands for each method, if any has at least two runs."""
    runs = {
        row["method"]: list(scores(data, row["method"], row["row"], board.measure.column).values())
        for _, row in primary_table(board).iterrows()
    }
    runs = {label: values for label, values in runs.items() if values}
    if max(map(len, runs.values()), default=0) < 2:
        return None
    all_scores = np.unique(np.concatenate(list(runs.values())))
    limits = limits_of(all_scores, all_scores)
    # The profile changes only at scores; the ends are below and above all of them.
    ends = min(limits[0], all_scores[0] - 1), max(limits[1], all_scores[-1] + 1)
    thresholds = np.concatenate([ends[:1], all_scores, ends[1:]])
    series = tuple(
        Series(label, thresholds, 100 * performance_profile(values, thresholds))
        for label, values in runs.items()
    )
    names = {label: legend_name(board, label) for label in runs}
    return Profiles(series, limits, board.score, highlights(board, list(runs)), names)
