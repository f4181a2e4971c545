"""The leaderboard in a terminal of 100 columns."""

from textwrap import fill
from typing import Any

from kdbench.report.board import Leaderboard
from kdbench.report.cells import grid

NAME = 11
"""Longer labels go on over several lines, broken at their hyphens."""


def terminal(board: Leaderboard) -> Any:
    """A rich renderable: the table, and beneath it what must be known to read it.

    Rows other than the one that stands for a method are dimmed.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    cells = grid(board, narrow=True)
    table = Table(title=Text(board.title), box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for k, header in enumerate(cells.headers):
        right = any(row[k].number for row in cells.rows)
        table.add_column(
            Text(header),
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=header != "verdict",  # the numbers stay whole
        )
    seen: set[str] = set()
    for label, row in zip(cells.groups, cells.rows, strict=True):
        style = "dim" if label in seen else ""
        seen.add(label)
        texts = (fill(row[0].text, NAME), *(cell.text for cell in row[1:]))
        bold = ("bold" if cell.bold else "" for cell in row)
        table.add_row(*map(Text, texts, bold), style=style)
    lines = [Text(s, style="dim") for s in board.captions]
    lines += [Text(f"† {note}", style="yellow") for note in board.notes]
    return Group(table, *lines)
