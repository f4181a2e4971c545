"""The leaderboard as GitHub's Markdown."""

import re

from kdbench.report.data.runs import PUBLISHED
from kdbench.report.writers.cells import MISSING, Cell, Document


def to_markdown(document: Document) -> str:
    """Title, question, table, captions, notes."""
    cells = document.grid
    lines = [f"<!-- made from {document.digest} -->", f"# {escape(document.title)}", ""]
    if document.question:
        lines += [escape(document.question), ""]
    lines.append("| " + " | ".join(escape(h) for h in cells.headers) + " |")
    lines.append("|" + "|".join("---:" if r else "---" for r in cells.right) + "|")
    for row, kind in zip(cells.rows, cells.kinds, strict=True):
        lines.append("| " + " | ".join(_cell(c, kind == PUBLISHED) for c in row) + " |")
    lines += ["", escape(document.headline), ""]
    lines += [f"- {escape(sentence)}" for sentence in document.captions]
    if document.notes:
        lines += ["", "† Notes", ""]
        lines += [f"- {escape(note)}" for note in document.notes]
    return "\n".join(lines) + "\n"


def _cell(cell: Cell, grey: bool) -> str:
    text = escape(cell.text)
    if grey:  # Markdown knows no grey
        return f"*{text}*" if cell.text != MISSING else text
    return f"**{text}**" if cell.bold else text


def escape(text: str) -> str:
    """`text` as Markdown shows it unchanged, on one line and inside a table."""
    text = re.sub(r"([\\`*_|<>])", r"\\\1", text)
    return " ".join(text.split())
