"""How accuracy grew while training."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kdbench.report.figures.axes import Series, draw_lines, name_lines, whole, window
from kdbench.report.figures.style import WIDTH, Mark, highlights, mains, named, scored

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kdbench.report.data.report_data import ReportData
    from kdbench.report.leaderboard import Leaderboard

METRICS = {"val.accuracy": "validation accuracy", "train.accuracy": "training accuracy"}
"""What is shown: the first that the runs have."""

FEWEST = 6
"""Epochs from which the last half is worth a panel of its own."""


@dataclass(frozen=True, eq=False)
class Curves:
    """One line a method in percent, mean and range over its seeds."""

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
        """What is shown."""
        zoom = "; on the right the last half of training, larger" if self._zoomed else ""
        return (
            f"Learning curves: {self.metric} after each epoch, mean over seeds; bands, for "
            "the best method and the reference alone, go from the lowest to the highest "
            f"seed{zoom}."
        )

    @property
    def size(self) -> tuple[float, float]:
        """Always the same."""
        return WIDTH, 3.6

    @property
    def _zoomed(self) -> bool:
        return self.epochs >= FEWEST

    def draw(self, figure: "Figure") -> None:
        """All epochs, and the last half beside them, where the lines part."""
        panels = figure.subplots(1, 1 + self._zoomed, squeeze=False)[0]
        for axes in panels:
            draw_lines(axes, self.series, self.marks)
            axes.set_xlabel("epoch")
            whole(axes.xaxis)
        panels[0].set_ylabel(f"{self.metric} in %")
        if self._zoomed:
            half = self.epochs / 2
            panels[1].set_xlim(half, self.epochs + 0.02 * half)
            panels[1].set_ylim(*self._late(half))
        name_lines(figure, self.names, self.marks)

    def _late(self, half: float) -> tuple[float, float]:
        """From the lowest to the highest of what is drawn."""
        lows = [(s.y if s.low is None else s.low)[s.x >= half] for s in self.series]
        highs = [(s.y if s.high is None else s.high)[s.x >= half] for s in self.series]
        return window(np.concatenate(lows), np.concatenate(highs))


def prepare(board: "Leaderboard", evidence: "ReportData") -> Curves | None:
    """The rows that stand for the methods, by the first metric that any of them has."""
    curves = evidence.curves
    rows = [(row["method"], scored(evidence, row["method"], row["row"])["id"])
            for _, row in mains(board).iterrows()]  # fmt: skip
    known = curves[curves["id"].isin(pd.concat([ids for _, ids in rows]))] if rows else curves
    metric = next((m for m in METRICS if (known["metric"] == m).any()), None)
    if metric is None:
        return None
    values = known[known["metric"] == metric]
    by_run = values.pivot_table(index="epoch", columns="id", values="value")
    series = [_series(label, by_run[[i for i in ids if i in by_run]]) for label, ids in rows]
    found = [s for s in series if s is not None]
    if not found:
        return None
    labels = [s.label for s in found]
    # Bands of all would lie over each other.
    with_band = {labels[0], board.reference}
    found = [s if s.label in with_band else replace(s, low=None, high=None) for s in found]
    names = {label: named(board, label) for label in labels}
    return Curves(tuple(found), METRICS[metric], highlights(board, labels), names)


def _series(label: str, runs: pd.DataFrame) -> Series | None:
    """Mean and range over runs, of the epochs that all of them have."""
    runs = 100 * runs.dropna()
    if runs.empty:
        return None
    epochs = runs.index.to_numpy(float)
    mean, low, high = (f(axis=1).to_numpy() for f in (runs.mean, runs.min, runs.max))
    return Series(label, epochs, mean, low, high)
