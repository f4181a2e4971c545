"""The leaderboard in a terminal of 100 columns."""

from typing import Any

from kdbench.report.board import Leaderboard
from kdbench.report.cells import grid


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
        wraps = header in ("method", "verdict")
        table.add_column(
            Text(header),
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=not wraps and not right,
        )
    seen: set[str] = set()
    for label, row in zip(cells.groups, cells.rows, strict=True):
        style = "dim" if label in seen else ""
        seen.add(label)
        table.add_row(*(Text(c.text, style="bold" if c.bold else "") for c in row), style=style)
    lines = [Text(s, style="dim") for s in board.captions]
    lines += [Text(f"† {note}", style="yellow") for note in board.notes]
    return Group(table, *lines)
