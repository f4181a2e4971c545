"""Which classes the best method takes for which, beside which of its teacher's answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdbench.report.figures.style import BLUE, INK, WIDTH, mains, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from kdbench.report.data.report_data import ReportData
    from kdbench.report.leaderboard import Leaderboard

AGAINST = {"truth": "true class", "teacher": "teacher's answer"}
MOST_COUNTS = 12
"""Classes up to which there is room for the numbers."""

MOST_NAMES = 30
"""Classes up to which there is room for their names."""


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of test images, expected by predicted class, by what they are held against."""

    counts: dict[str, np.ndarray]
    classes: tuple[str, ...]
    label: str
    runs: int

    @property
    def title(self) -> str:
        """What is shown."""
        sides = " and ".join(f"the {AGAINST[a]}" for a in self.counts)
        numbers = " with the counts over" if len(self.classes) <= MOST_COUNTS else " over"
        return (
            f"Answers of {self.label}, the best method, against {sides}{numbers} its "
            f"{self.runs} runs: the shade is the share of a row (its square root, so that rare "
            "mistakes are seen)."
        )

    @property
    def size(self) -> tuple[float, float]:
        """Square panels."""
        return WIDTH, 3.7 if len(self.counts) > 1 else 5.5

    def draw(self, figure: "Figure") -> None:
        """One panel beside the other."""
        panels = figure.subplots(1, len(self.counts), squeeze=False)[0]
        for axes, (against, counts) in zip(panels, self.counts.items(), strict=True):
            _image(axes, counts)
            _names(axes, self.classes)
            axes.set_ylabel(AGAINST[against])
            axes.set_xlabel("student's answer")


def prepare(board: "Leaderboard", evidence: "ReportData") -> Confusion | None:
    """The confusions of the highest row that has any."""
    table = mains(board)
    best = table[table["n"] > 0].head(1)
    if best.empty:
        return None
    label, row, runs = best.iloc[0][["method", "row", "n"]]
    found = evidence.confusions
    found = found[(found["label"] == label) & (found["row"] == row)]
    classes = _classes(evidence, found[["expected", "predicted"]].to_numpy())
    counts = {}
    for against in AGAINST:
        cells = found[found["against"] == against]
        if len(cells):
            counts[against] = np.zeros((len(classes),) * 2, dtype=int)
            places = (cells["expected"].to_numpy(int), cells["predicted"].to_numpy(int))
            counts[against][places] = cells["count"].to_numpy(int)
    return Confusion(counts, classes, label, int(runs)) if counts else None


def _classes(evidence: "ReportData", used: np.ndarray) -> tuple[str, ...]:
    """The names that the plan gives, else numbers, as many as are used."""
    known = tuple(map(str, (evidence.plan.get("data") or {}).get("classes") or ()))
    most = int(used.max()) + 1 if used.size else 0
    return known + tuple(str(k) for k in range(len(known), most))


def _image(axes: "Axes", counts: np.ndarray) -> None:
    from matplotlib.colors import to_rgb

    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shade = np.sqrt(share)
    cells = np.empty((*counts.shape, 4))
    cells[..., :3], cells[..., 3] = to_rgb(BLUE), shade  # the page shows through where none is
    n = len(counts)
    large = max(1, 400 // n)  # so that no viewer smooths the cells' edges away
    axes.imshow(
        cells.repeat(large, axis=0).repeat(large, axis=1), interpolation="none",
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
    upright = 0 if max(map(len, names)) <= 2 else 90
    places = range(len(classes))
    axes.set_xticks(places, names, rotation=upright, fontsize=size)
    axes.set_yticks(places, names, fontsize=size)
    axes.tick_params(length=0)
