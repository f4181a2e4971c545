"""The leaderboard as GitHub's Markdown."""

import re

from kdbench.report.board import Leaderboard
from kdbench.report.cells import Cell, grid


def markdown(board: Leaderboard) -> str:
    """Title, question, table, captions, notes."""
    cells = grid(board)
    right = [any(row[k].number for row in cells.rows) for k in range(len(cells.headers))]
    lines = [f"# {escape(board.title)}", ""]
    if board.question:
        lines += [escape(board.question), ""]
    lines.append("| " + " | ".join(escape(h) for h in cells.headers) + " |")
    lines.append("|" + "|".join("---:" if r else "---" for r in right) + "|")
    lines += ["| " + " | ".join(_cell(c) for c in row) + " |" for row in cells.rows]
    lines += ["", "Scores in %, differences in percentage points.", ""]
    lines += [f"- {escape(sentence)}" for sentence in board.captions]
    if board.notes:
        lines += ["", "† Notes", ""]
        lines += [f"- {escape(note)}" for note in board.notes]
    return "\n".join(lines) + "\n"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    return f"**{text}**" if cell.bold else text


def escape(text: str) -> str:
    """`text` as Markdown shows it unchanged, on one line and inside a table."""
    text = re.sub(r"([\\`*_|<>])", r"\\\1", text)
    return " ".join(text.split())
