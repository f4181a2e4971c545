"""Figure: the validation score of the tuning trials against each hyperparameter."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdbench.report.data.report_data import ReportData
from kdbench.report.figures.axes import limits_of, log_scale_if_wide, method_legend
from kdbench.report.figures.style import (
    INK,
    MUTED,
    WIDTH,
    Mark,
    highlights,
    legend_name,
    primary_table,
)
from kdbench.report.leaderboard import Leaderboard

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HPARAMS = ("temperature", "alpha", "beta")
"""The hyperparameters that most methods share."""


@dataclass(frozen=True)
class Trial:
    """One value of a hyperparameter, and the validation score it gave in percent."""

    label: str
    value: float
    score: float
    chosen: bool


@dataclass(frozen=True)
class Tuning:
    """The trials by hyperparameter; `words` name their score."""

    panels: Mapping[str, tuple[Trial, ...]]
    marks: Mapping[str, Mark]
    names: Mapping[str, str]
    words: str

    @property
    def title(self) -> str:
        """The caption."""
        return (
            f"Validation {self.words} of the tuning trials against each hyperparameter; the trial "
            "that was chosen for each method has a ring. Hyperparameters were searched together, "
            "so trials differ in more than the hyperparameter shown."
        )

    @property
    def size(self) -> tuple[float, float]:
        """Fixed."""
        return WIDTH, 3.6

    def draw(self, figure: "Figure") -> None:
        """One panel for each hyperparameter, all with the same scale of the score."""
        panels = figure.subplots(1, len(self.panels), squeeze=False, sharey=True)[0]
        scores = [t.score for trials in self.panels.values() for t in trials]
        panels[0].set_ylim(*limits_of(scores, scores, margin=0.07))
        for axes, (hparam, trials) in zip(panels, self.panels.items(), strict=True):
            axes.set_xlabel(hparam)
            log_scale_if_wide(axes.xaxis, [t.value for t in trials])
            for label in dict.fromkeys(t.label for t in trials):
                _dots(axes, [t for t in trials if t.label == label], self.marks.get(label))
        panels[0].set_ylabel(f"validation {self.words} in %")
        self._legend(figure)

    def _legend(self, figure: "Figure") -> None:
        from matplotlib.lines import Line2D

        def dot(**style: Any) -> Line2D:
            return Line2D([], [], ls="", **style)

        handles = [dot(color=m.colour, marker=m.marker, ms=5.5, mew=0) for m in self.marks.values()]
        grey = dot(color=MUTED, marker="o", ms=3, mew=0, alpha=0.6)
        ring = dot(marker="o", ms=9, mfc="none", mec=INK, mew=0.9)
        method_legend(figure, self.names, self.marks, handles, grey, (ring, "chosen"))


def _dots(axes: "Axes", trials: Sequence[Trial], mark: Mark | None) -> None:
    """The trials of one method; those outside the limits as carets at the edge."""
    low, high = axes.get_ylim()
    colour, size = (mark.colour, 5.5) if mark else (MUTED, 3.0)
    groups: tuple[tuple[str | int, Any], ...] = (
        (mark.marker if mark else "o", lambda y: low <= y <= high),
        (7, lambda y: y < low),
        (6, lambda y: y > high),
    )
    for marker, belongs in groups:
        points = [(t.value, min(max(t.score, low), high)) for t in trials if belongs(t.score)]
        if points:
            axes.plot(
                *zip(*points, strict=True), marker=marker, ls="", mew=0, clip_on=False,
                color=colour, ms=size, alpha=0.9 if mark else 0.6, zorder=3 if mark else 2,
            )  # fmt: skip
    for t in trials:
        if t.chosen:
            axes.plot([t.value], [min(max(t.score, low), high)], marker="o", ls="",
                      ms=9 if mark else 6, mfc="none", mec=INK, mew=0.9 if mark else 0.5,
                      zorder=4, clip_on=False)  # fmt: skip


def prepare(board: Leaderboard, data: ReportData) -> Tuning | None:
    """All trials with a score, by the hyperparameters that were searched."""
    order = list(primary_table(board)["method"])
    searched = {row.label: set(row.searched) for row in data.plan.rows if row.row == "tuned"}
    trials = data.trials.dropna(subset="accuracy")
    panels: dict[str, list[Trial]] = {}
    columns = (trials[c] for c in ("label", "hparams", "accuracy", "chosen"))
    for label, hparams, score, chosen in zip(*columns, strict=True):
        for hparam, value in json.loads(str(hparams)).items():
            if hparam in HPARAMS and hparam in searched.get(label, ()):
                trial = Trial(label, float(value), 100 * score, bool(chosen))
                panels.setdefault(hparam, []).append(trial)
    if not panels:
        return None
    shown = {t.label for panel in panels.values() for t in panel}
    labels = [label for label in order if label in shown]
    names = {label: legend_name(board, label) for label in labels}
    # Methods in more panels first, since colour is for following a method through the panels.
    count = {m: sum(any(t.label == m for t in panel) for panel in panels.values()) for m in labels}
    marks = highlights(board, sorted(labels, key=lambda m: -count[m]))
    by_hparam = {k: tuple(panels[k]) for k in HPARAMS if k in panels}
    return Tuning(by_hparam, marks, names, board.measure.words)
