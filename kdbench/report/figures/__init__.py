"""The figures of a report, one module for each.

The module of a figure has `prepare(board, data)`, which returns a `Picture` (what the figure
shows, as plain numbers, with a method that draws it) or None if there is nothing to show.
Matplotlib is imported only when something is drawn.
"""

from collections.abc import Callable, Mapping

from kdbench.report.data.report_data import ReportData
from kdbench.report.deployment import Deployment
from kdbench.report.figures import (
    budget,
    confusion,
    cost,
    curves,
    deployment,
    fidelity,
    forest,
    profiles,
    tuning,
)
from kdbench.report.figures.render import Drawn, Picture, render_column, render_picture
from kdbench.report.figures.style import styled
from kdbench.report.leaderboard import Leaderboard

__all__ = ["PREPARE", "Drawn", "Picture", "draw_figures", "draw_tradeoffs"]

PREPARE: Mapping[str, Callable[[Leaderboard, ReportData], Picture | None]] = {
    "forest": forest.prepare,
    "cost": cost.prepare,
    "latency": deployment.prepare_latency,
    "size": deployment.prepare_size,
    "curves": curves.prepare,
    "tuning": tuning.prepare,
    "budget": budget.prepare,
    "fidelity": fidelity.prepare,
    "confusion": confusion.prepare,
    "profiles": profiles.prepare,
}
"""The figures by name, in the order of a report."""

WIDE = ("confusion", "tuning")
"""Those whose panels side by side take both columns of a paper."""


def draw_figures(board: Leaderboard, data: ReportData) -> Drawn:
    """Draw every figure that has something to show. Equal numbers give equal bytes."""
    return _drawn({name: prepare(board, data) for name, prepare in PREPARE.items()})


def draw_tradeoffs(networks: Deployment) -> Drawn:
    """Draw the figures of what one would deploy of several studies."""
    latency, size = deployment.latency_tradeoff(networks), deployment.size_tradeoff(networks)
    return _drawn({"latency": latency, "size": size})


def _drawn(prepared: Mapping[str, Picture | None]) -> Drawn:
    pictures = {name: picture for name, picture in prepared.items() if picture is not None}
    with styled():
        rendered = {name: render_picture(name, picture) for name, picture in pictures.items()}
        columns = {n: render_column(p) for n, p in pictures.items() if n not in WIDE}
    return Drawn(
        svg={name: svg for name, (svg, _, _) in rendered.items()},
        png={name: png for name, (_, png, _) in rendered.items()},
        pdf={name: pdf for name, (_, _, pdf) in rendered.items()},
        titles={name: picture.title for name, picture in pictures.items()},
        column=columns,
    )
