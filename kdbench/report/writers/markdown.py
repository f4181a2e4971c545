"""The leaderboard as GitHub's Markdown."""

import re

from kdbench.report.data.runs import PUBLISHED
from kdbench.report.writers.cells import MISSING, Cell, Sheet


def markdown(sheet: Sheet) -> str:
    """Title, question, table, captions, notes."""
    cells = sheet.grid
    lines = [f"<!-- made from {sheet.digest} -->", f"# {escape(sheet.title)}", ""]
    if sheet.question:
        lines += [escape(sheet.question), ""]
    lines.append("| " + " | ".join(escape(h) for h in cells.headers) + " |")
    lines.append("|" + "|".join("---:" if r else "---" for r in cells.right) + "|")
    for row, kind in zip(cells.rows, cells.kinds, strict=True):
        lines.append("| " + " | ".join(_cell(c, kind == PUBLISHED) for c in row) + " |")
    lines += ["", escape(sheet.headline), ""]
    lines += [f"- {escape(sentence)}" for sentence in sheet.captions]
    if sheet.notes:
        lines += ["", "† Notes", ""]
        lines += [f"- {escape(note)}" for note in sheet.notes]
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
