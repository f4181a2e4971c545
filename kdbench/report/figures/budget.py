"""How much tuning a method needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdbench.report.figures.axes import Series, draw_lines, name_lines, whole
from kdbench.report.figures.style import WIDTH, Mark, highlights, mains, named
from kdbench.stats import budget_curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kdbench.report.data.report_data import ReportData
    from kdbench.report.leaderboard import Leaderboard

SAMPLER = "random"
"""The only one whose trials are independent draws."""


@dataclass(frozen=True, eq=False)
class Budget:
    """One line a method: the number of trials, and their expected best in percent."""

    series: tuple[Series, ...]
    marks: Mapping[str, Mark]
    names: Mapping[str, str]
    without: int

    @property
    def title(self) -> str:
        """What is shown."""
        lost = f" {self.without} with a trial that gave no score left out." if self.without else ""
        return (
            "Expected best validation accuracy of so many random trials (mean over all subsets "
            f"of the trials that were run, the published defaults not among them).{lost}"
        )

    @property
    def size(self) -> tuple[float, float]:
        """Always the same."""
        return WIDTH, 3.6

    def draw(self, figure: "Figure") -> None:
        """The lines."""
        axes = figure.add_subplot()
        draw_lines(axes, self.series, self.marks)
        axes.set_xlabel("random trials")
        axes.set_ylabel("expected best validation accuracy in %")
        whole(axes.xaxis)
        name_lines(figure, self.names, self.marks)


def prepare(board: "Leaderboard", evidence: "ReportData") -> Budget | None:
    """Methods with two random trials at least, all of them with a score."""
    if (evidence.plan.get("tune") or {}).get("sampler") != SAMPLER:
        return None
    trials = evidence.trials[evidence.trials["number"] > 0]
    series, without = [], 0
    for label in mains(board)["method"]:
        accuracy = trials.loc[trials["label"] == label, "accuracy"].to_numpy(float)
        if np.isnan(accuracy).any():
            without += 1
        elif len(accuracy) > 1:
            best = budget_curve(100 * accuracy, SAMPLER)
            series.append(Series(label, np.arange(1.0, len(best) + 1), best))
    if not series:
        return None
    labels = [s.label for s in series]
    names = {label: named(board, label) for label in labels}
    return Budget(tuple(series), highlights(board, labels), names, without)
