"""The leaderboard in a terminal of 100 columns."""

from collections.abc import Sequence
from textwrap import fill
from typing import Any

from kdbench.report.data.runs import PUBLISHED
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.writers.cells import Document, grid

NAME = 11
"""Longer labels go on over several lines, broken at their hyphens."""


def terminal(board: Leaderboard) -> Any:
    """A rich renderable: the table, and beneath it what must be known to read it.

    Rows other than the one that stands for a method are dimmed, and those from papers.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    cells = grid(board, narrow=True)
    table = Table(title=Text(board.title), box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for k, header in enumerate(cells.headers):
        table.add_column(
            Text(header),
            justify="right" if cells.right[k] else "left",
            overflow="fold",
            no_wrap=header != "verdict",  # the numbers stay whole
        )
    seen: set[str] = set()
    for label, kind, row in zip(cells.groups, cells.kinds, cells.rows, strict=True):
        style = "dim" if label in seen or kind == PUBLISHED else ""
        seen.add(label)
        texts = (fill(row[0].text, NAME), *(cell.text for cell in row[1:]))
        bold = ("bold" if cell.bold else "" for cell in row)
        table.add_row(*map(Text, texts, bold), style=style)
    return Group(table, *_words(board.captions, board.notes))


def terminal_document(document: Document, columns: int) -> Any:
    """The first `columns` of any other table with its words: what decides."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(document.title), box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for header, right in list(zip(document.grid.headers, document.grid.right, strict=True))[
        :columns
    ]:
        table.add_column(Text(header), justify="right" if right else "left", overflow="fold")
    for row in document.grid.rows:
        table.add_row(*(Text(c.text, "bold" if c.bold else "") for c in row[:columns]))
    return Group(table, *_words(document.captions, document.notes))


def _words(captions: Sequence[str], notes: Sequence[str]) -> list[Any]:
    from rich.text import Text

    said = [Text(s, style="dim") for s in captions]
    return said + [Text(f"† {note}", style="yellow") for note in notes]
