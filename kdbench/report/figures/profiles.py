"""All runs of a method at once, not only their mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdbench.report.figures.axes import Series, draw_lines, name_lines, window
from kdbench.report.figures.style import WIDTH, Mark, highlights, mains, named, scores
from kdbench.stats import performance_profile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kdbench.report.data.report_data import ReportData
    from kdbench.report.leaderboard import Leaderboard


@dataclass(frozen=True, eq=False)
class Profiles:
    """One line a method: a score in percent, and the share of runs above it in percent."""

    series: tuple[Series, ...]
    limits: tuple[float, float]
    score: str
    marks: Mapping[str, Mark]
    names: Mapping[str, str]

    @property
    def title(self) -> str:
        """What is shown."""
        return (
            "Performance profiles (descriptive): the share of a method's runs above each "
            f"{self.score.lower()}."
        )

    @property
    def size(self) -> tuple[float, float]:
        """Always the same."""
        return WIDTH, 3.6

    def draw(self, figure: "Figure") -> None:
        """The lines as stairs."""
        axes = figure.add_subplot()
        draw_lines(axes, self.series, self.marks, steps=True)
        axes.set_xlim(*self.limits)
        axes.set_xlabel(f"{self.score} in %")
        axes.set_ylabel("runs above it in %")
        name_lines(figure, self.names, self.marks)


def prepare(board: "Leaderboard", evidence: "ReportData") -> Profiles | None:
    """The rows that stand for the methods, where any has two runs at least."""
    runs = {
        row["method"]: list(scores(evidence, row["method"], row["row"]).values())
        for _, row in mains(board).iterrows()
    }
    runs = {label: found for label, found in runs.items() if found}
    if max(map(len, runs.values()), default=0) < 2:
        return None
    every = np.unique(np.concatenate(list(runs.values())))
    limits = window(every, every)
    # Between two scores nothing changes; from below all of them to above.
    ends = min(limits[0], every[0] - 1), max(limits[1], every[-1] + 1)
    thresholds = np.concatenate([ends[:1], every, ends[1:]])
    series = tuple(
        Series(label, thresholds, 100 * performance_profile(found, thresholds))
        for label, found in runs.items()
    )
    names = {label: named(board, label) for label in runs}
    return Profiles(series, limits, board.score, highlights(board, list(runs)), names)
