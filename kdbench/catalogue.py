"""The registry as pages for a person: all methods, or one with its formula and knobs."""

import inspect

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kdbench.methods import METHODS, origin
from kdbench.study import did_you_mean


class UnknownMethod(Exception):
    """No method has that key."""


def overview() -> Table:
    """One line a method: key, what the student learns from, paper."""
    table = Table("method", "the student learns from", "paper", "knobs")
    for key, kind in METHODS.items():
        first = inspect.getdoc(kind).split("\n\n")[0].replace("\n", " ")  # type: ignore[union-attr]
        knobs = ", ".join(kind.knobs())
        table.add_row(key, first, f"{kind.paper.venue} {kind.paper.year}", knobs)
    return table


def page(key: str) -> RenderableType:
    """One method: formula and differences, knobs with default and range, paper.

    Raises `UnknownMethod` with the nearest key.
    """
    if key not in METHODS:
        raise UnknownMethod(f"no method {key!r}{did_you_mean(key, METHODS)}")
    kind = METHODS[key]
    default = kind()
    table = Table("knob", "default", "searched in", "limits", "meaning")
    for name, knob in kind.knobs().items():
        search = knob.search
        scale = " (log)" if search and search.log else ""
        searched = f"{search.low:g} to {search.high:g}{scale}" if search else "not searched"
        low = "-inf" if knob.low is None else f"{knob.low:g}"
        high = "inf" if knob.high is None else f"{knob.high:g}"
        table.add_row(
            name,
            str(getattr(default, name)),
            searched,
            f"[{low}, {high}]".replace("[", r"\["),
            knob.help,
        )
    paper = kind.paper
    source = f"{paper.authors}. {paper.title}. {paper.venue}, {paper.year}. [{paper.key}]"
    head = Text(f"{key}  (from {origin(key)})", style="bold")
    parts: list[RenderableType] = [head, Text(inspect.getdoc(kind) or "")]
    parts += [table] if kind.knobs() else []
    return Group(*parts, Text(source))
