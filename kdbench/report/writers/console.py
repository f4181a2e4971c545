"""The leaderboard in a terminal: as many columns as fit whole."""

from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

from kdbench.report.data.runs import PUBLISHED
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.writers.cells import Document, Grid, grid, shown_columns

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table

NAME = 11
"""Longer labels go on over several lines, broken at their hyphens."""


class TerminalTable:
    """A rich renderable: the answer, the table, and beneath it what must be known to read it.

    Rows other than the one that stands for a method are dimmed, and those from papers. Where
    the terminal is too narrow for all columns, they are left out in the order that
    `kdbench.report.columns` declares (`drop`), until the rest fits with every number whole;
    a line beneath the table names them.
    """

    def __init__(self, board: Leaderboard) -> None:
        self.board = board

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> Iterator[Any]:
        from rich.text import Text

        columns = shown_columns(self.board, narrow=True)
        drops = sorted((c for c in columns if c.drop), key=lambda column: column.drop)
        for count in range(len(drops) + 1):
            left_out = [column.name for column in drops[:count]]
            table = self._table(grid(self.board, narrow=True, without=left_out))
            unlimited = options.update(max_width=1000)
            if table.__rich_measure__(console, unlimited).minimum <= options.max_width:
                break
        if self.board.answer:
            yield Text(f"{self.board.answer}\n", style="bold")
        yield table
        if left_out:
            names = ", ".join(str(c.short).format(second=self.board.second) for c in drops[:count])
            names = names.removesuffix(".")  # of a heading that is cut short
            yield Text(f"Left out at {options.max_width} columns: {names}.", style="dim")
        yield from _words(self.board.captions, self.board.notes)

    def _table(self, cells: Grid) -> "Table":
        from rich import box
        from rich.table import Table
        from rich.text import Text

        title = Text(self.board.title)
        table = Table(title=title, box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
        texts = [(fill(row[0].text, NAME), *(c.text for c in row[1:])) for row in cells.rows]
        for k, header in enumerate(cells.headers):
            words = header == "verdict"  # it goes on over several lines; the numbers stay whole
            pieces = [piece for text in (header, *(row[k] for row in texts))
                      for piece in (text.split() if words else text.splitlines())]  # fmt: skip
            table.add_column(
                Text(header),
                justify="right" if cells.right[k] else "left",
                no_wrap=not words,
                min_width=max(map(len, pieces), default=0),
            )
        methods: set[str] = set()
        for label, kind, row, text in zip(
            cells.groups, cells.kinds, cells.rows, texts, strict=True
        ):
            style = "dim" if label in methods or kind == PUBLISHED else ""
            methods.add(label)
            bold = ("bold" if cell.bold else "" for cell in row)
            table.add_row(*map(Text, text, bold), style=style)
        return table


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

    dimmed = [Text(caption, style="dim") for caption in captions]
    return dimmed + [Text(f"† {note}", style="yellow") for note in notes]
