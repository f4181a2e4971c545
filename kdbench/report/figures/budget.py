"""Figure: the expected best validation score after so many tuning trials."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdbench.report.data.report_data import ReportData
from kdbench.report.figures.axes import Series, draw_lines, integer_ticks, line_legend
from kdbench.report.figures.style import WIDTH, Mark, highlights, legend_name, primary_table
from kdbench.report.leaderboard import Leaderboard
from kdbench.stats import budget_curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLER = "random"
"""The only sampler whose trials are independent draws."""


@dataclass(frozen=True, eq=False)
class Budget:
    """A line for each method: the number of trials, and their expected best in percent.
    `without` counts the methods left out because a trial has no score; `words` name it."""

    series: tuple[Series, ...]
    marks: Mapping[str, Mark]
    names: Mapping[str, str]
    without: int
    words: str

    @property
    def title(self) -> str:
        """The caption."""
        left_out = f"; {self.without} left out for a trial without a score" if self.without else ""
        return (
            f"Expected best validation {self.words} after so many random trials (mean over all "
            f"subsets of the trials that were run, without the published defaults){left_out}."
        )

    @property
    def size(self) -> tuple[float, float]:
        """Fixed."""
        return WIDTH, 3.6

    def draw(self, figure: "Figure") -> None:
        """One line for each method."""
        axes = figure.add_subplot()
        draw_lines(axes, self.series, self.marks)
        axes.set_xlabel("random trials")
        axes.set_ylabel(f"expected best validation {self.words} in %")
        integer_ticks(axes.xaxis)
        line_legend(figure, self.names, self.marks)


def prepare(board: Leaderboard, data: ReportData) -> Budget | None:
    """The methods with at least two random trials, all of which have a score."""
    if data.plan.tune is None or data.plan.tune.sampler != SAMPLER:
        return None
    trials = data.trials[data.trials["number"] > 0]
    series, without = [], 0
    for label in primary_table(board)["method"]:
        accuracy = trials.loc[trials["label"] == label, "accuracy"].to_numpy(float)
        if np.isnan(accuracy).any():
            without += 1
        elif len(accuracy) > 1:
            best = budget_curve(100 * accuracy, SAMPLER)
            series.append(Series(label, np.arange(1.0, len(best) + 1), best))
    if not series:
        return None
    labels = [s.label for s in series]
    names = {label: legend_name(board, label) for label in labels}
    words = board.measure.words
    return Budget(tuple(series), highlights(board, labels), names, without, words)
