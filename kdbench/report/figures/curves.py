"""Figure: accuracy after each epoch of training."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kdbench.report.data.report_data import ReportData
from kdbench.report.figures.axes import Series, draw_lines, integer_ticks, limits_of, line_legend
from kdbench.report.figures.style import WIDTH, Mark, highlights, legend_name, primary_table, scored
from kdbench.report.leaderboard import Leaderboard

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = {"val.accuracy": "validation accuracy", "train.accuracy": "training accuracy"}
"""The first of these metrics that the runs have is shown."""

FEWEST_EPOCHS = 6
"""Epochs from which the last half has a panel of its own."""


@dataclass(frozen=True, eq=False)
class Curves:
    """A line for each method in percent: mean and range over its seeds."""

    series: tuple[Series, ...]
    metric: str
    marks: Mapping[str, Mark]
    names: Mapping[str, str]

    @property
    def epochs(self) -> int:
        """The last epoch."""
        return int(max(s.x[-1] for s in self.series))

    @property
    def title(self) -> str:
        """The caption."""
        zoom = "; on the right the last half of training, enlarged" if self._zoomed else ""
        return (
            f"Learning curves: {self.metric} after each epoch, mean over seeds; the bands, only "
            "for the best method and the reference, go from the lowest to the highest "
            f"seed{zoom}."
        )

    @property
    def size(self) -> tuple[float, float]:
        """Fixed."""
        return WIDTH, 3.6

    @property
    def _zoomed(self) -> bool:
        return self.epochs >= FEWEST_EPOCHS

    def draw(self, figure: "Figure") -> None:
        """All epochs, and beside them the last half, where the lines differ."""
        panels = figure.subplots(1, 1 + self._zoomed, squeeze=False)[0]
        for axes in panels:
            draw_lines(axes, self.series, self.marks)
            axes.set_xlabel("epoch")
            integer_ticks(axes.xaxis)
        panels[0].set_ylabel(f"{self.metric} in %")
        if self._zoomed:
            half = self.epochs / 2
            panels[1].set_xlim(half, self.epochs + 0.02 * half)
            panels[1].set_ylim(*self._limits_after(half))
        line_legend(figure, self.names, self.marks)

    def _limits_after(self, half: float) -> tuple[float, float]:
        """The limits of what is drawn from the epoch `half` on."""
        lows = [(s.y if s.low is None else s.low)[s.x >= half] for s in self.series]
        highs = [(s.y if s.high is None else s.high)[s.x >= half] for s in self.series]
        return limits_of(np.concatenate(lows), np.concatenate(highs))


def prepare(board: Leaderboard, data: ReportData) -> Curves | None:
    """The row that stands for each method, by the first metric that any of them has."""
    curves = data.curves
    rows = [(row["method"], scored(data, row["method"], row["row"])["id"])
            for _, row in primary_table(board).iterrows()]  # fmt: skip
    if rows:
        curves = curves[curves["id"].isin(pd.concat([ids for _, ids in rows]))]
    metric = next((m for m in METRICS if (curves["metric"] == m).any()), None)
    if metric is None:
        return None
    values = curves[curves["metric"] == metric]
    by_run = values.pivot_table(index="epoch", columns="id", values="value")
    lines = (_series(label, by_run[[i for i in ids if i in by_run]]) for label, ids in rows)
    series = [line for line in lines if line is not None]
    if not series:
        return None
    labels = [s.label for s in series]
    # The bands of all methods would cover each other.
    with_band = {labels[0], board.reference}
    series = [s if s.label in with_band else replace(s, low=None, high=None) for s in series]
    names = {label: legend_name(board, label) for label in labels}
    return Curves(tuple(series), METRICS[metric], highlights(board, labels), names)


def _series(label: str, runs: pd.DataFrame) -> Series | None:
    """Mean and range over runs, for the epochs that all of them have."""
    runs = 100 * runs.dropna()
    if runs.empty:
        return None
    epochs = runs.index.to_numpy(float)
    mean, low, high = (f(axis=1).to_numpy() for f in (runs.mean, runs.min, runs.max))
    return Series(label, epochs, mean, low, high)
