"""The figures of a report: one module a figure, each with its data apart from its drawing.

A figure's module has `prepare(board, evidence)`, which gives what is to be seen as plain
numbers, or None where there is nothing to see, and the drawing as a method of that.
Matplotlib is imported only when something is drawn.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from kdbench.report.figures import (
    budget,
    confusion,
    cost,
    curves,
    fidelity,
    forest,
    profiles,
    tuning,
)
from kdbench.report.figures.render import Drawn, Picture

if TYPE_CHECKING:
    from kdbench.report.data.report_data import ReportData
    from kdbench.report.leaderboard import Leaderboard

__all__ = ["PREPARE", "Drawn", "Picture", "figures"]

PREPARE: Mapping[str, "Callable[[Leaderboard, ReportData], Picture | None]"] = {
    "forest": forest.prepare,
    "cost": cost.prepare,
    "curves": curves.prepare,
    "tuning": tuning.prepare,
    "budget": budget.prepare,
    "fidelity": fidelity.prepare,
    "confusion": confusion.prepare,
    "profiles": profiles.prepare,
}
"""In the order in which a report shows them."""


def figures(board: "Leaderboard", evidence: "ReportData") -> Drawn:
    """Draw all that there is something to show for: equal numbers give equal bytes."""
    from kdbench.report.figures.render import render
    from kdbench.report.figures.style import styled

    found = {name: prepare(board, evidence) for name, prepare in PREPARE.items()}
    pictures = {name: picture for name, picture in found.items() if picture is not None}
    with styled():
        forms = {name: render(name, picture) for name, picture in pictures.items()}
    return Drawn(
        svg={name: svg for name, (svg, _, _) in forms.items()},
        png={name: png for name, (_, png, _) in forms.items()},
        pdf={name: pdf for name, (_, _, pdf) in forms.items()},
        titles={name: picture.title for name, picture in pictures.items()},
    )
