"""Figure: the confusion matrices of the best method, against the truth and its teacher."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdbench.report.data.report_data import ReportData
from kdbench.report.figures.style import BLUE, INK, WIDTH, primary_table, short
from kdbench.report.leaderboard import Leaderboard

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AGAINST = {"truth": "true class", "teacher": "teacher's prediction"}
MOST_COUNTS = 12
"""Classes up to which the counts are shown."""

MOST_NAMES = 30
"""Classes up to which their names are shown."""


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of test images, expected by predicted class, for each kind of expected class
    (a key of `AGAINST`)."""

    counts: dict[str, np.ndarray]
    classes: tuple[str, ...]
    label: str
    runs: int

    @property
    def title(self) -> str:
        """The caption."""
        sides = " and ".join(f"the {AGAINST[a]}" for a in self.counts)
        numbers = " with the counts over" if len(self.classes) <= MOST_COUNTS else " over"
        return (
            f"Predictions of {self.label}, the best method, against {sides}{numbers} its "
            f"{self.runs} runs: the shade is the square root of the share of a row, so that rare "
            "mistakes are visible."
        )

    @property
    def size(self) -> tuple[float, float]:
        """Square panels."""
        return WIDTH, 3.7 if len(self.counts) > 1 else 5.5

    def draw(self, figure: "Figure") -> None:
        """The panels side by side."""
        panels = figure.subplots(1, len(self.counts), squeeze=False)[0]
        for axes, (against, counts) in zip(panels, self.counts.items(), strict=True):
            _image(axes, counts)
            _names(axes, self.classes)
            axes.set_ylabel(AGAINST[against])
            axes.set_xlabel("student's prediction")


def prepare(board: Leaderboard, data: ReportData) -> Confusion | None:
    """The confusions of the best row, if it has any."""
    table = primary_table(board)
    best = table[table["n"] > 0].head(1)
    if best.empty:
        return None
    label, row, runs = best.iloc[0][["method", "row", "n"]]
    confusions = data.confusions
    confusions = confusions[(confusions["label"] == label) & (confusions["row"] == row)]
    classes = _classes(data, confusions[["expected", "predicted"]].to_numpy())
    counts = {}
    for against in AGAINST:
        cells = confusions[confusions["against"] == against]
        if len(cells):
            counts[against] = np.zeros((len(classes),) * 2, dtype=int)
            cell = (cells["expected"].to_numpy(int), cells["predicted"].to_numpy(int))
            counts[against][cell] = cells["count"].to_numpy(int)
    return Confusion(counts, classes, label, int(runs)) if counts else None


def _classes(data: ReportData, used: np.ndarray) -> tuple[str, ...]:
    """The class names of the plan, and numbers for further classes that are `used`."""
    names = data.plan.data.classes if data.plan.data else ()
    count = int(used.max()) + 1 if used.size else 0
    return names + tuple(str(k) for k in range(len(names), count))


def _image(axes: "Axes", counts: np.ndarray) -> None:
    from matplotlib.colors import to_rgb

    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shade = np.sqrt(share)
    cells = np.empty((*counts.shape, 4))
    cells[..., :3], cells[..., 3] = to_rgb(BLUE), shade  # transparent where there is none
    n = len(counts)
    scale = max(1, 400 // n)  # so that no viewer blurs the edges of the cells
    axes.imshow(
        cells.repeat(scale, axis=0).repeat(scale, axis=1), interpolation="none",
        extent=(-0.5, n - 0.5, n - 0.5, -0.5),
    )  # fmt: skip
    axes.grid(False)
    if n > MOST_COUNTS:
        return
    size = min(8.0, 62 / n)
    for (y, x), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shade[y, x] > 0.8 else INK
            axes.text(x, y, str(count), ha="center", va="center", fontsize=size, color=colour)


def _names(axes: "Axes", classes: Sequence[str]) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    if len(classes) > MOST_NAMES:
        return
    names = [short(name, 14) for name in classes]
    size = 8 if len(classes) <= MOST_COUNTS else 6
    rotation = 0 if max(map(len, names)) <= 2 else 90
    ticks = range(len(classes))
    axes.set_xticks(ticks, names, rotation=rotation, fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    axes.tick_params(length=0)
