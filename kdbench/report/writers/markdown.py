"""The leaderboard as GitHub's Markdown."""

import re

from kdbench.report.data.runs import PUBLISHED
from kdbench.report.writers.cells import MISSING, Cell, Document


def to_markdown(document: Document) -> str:
    """Title, question, answer, table, captions, notes."""
    cells = document.grid
    lines = [f"<!-- made from {document.digest} -->", f"# {block(document.title)}", ""]
    if document.question:
        lines += [block(document.question), ""]
    if document.answer:
        lines += [block(document.answer), ""]
    lines.append("| " + " | ".join(escape(h) for h in cells.headers) + " |")
    lines.append("|" + "|".join("---:" if r else "---" for r in cells.right) + "|")
    for row, kind in zip(cells.rows, cells.kinds, strict=True):
        lines.append("| " + " | ".join(_cell(c, kind == PUBLISHED) for c in row) + " |")
    lines += ["", block(document.headline), ""]
    lines += [f"- {block(sentence)}" for sentence in document.captions]
    if document.notes:
        lines += ["", "† Notes", ""]
        lines += [f"- {block(note)}" for note in document.notes]
    return "\n".join(lines) + "\n"


def _cell(cell: Cell, grey: bool) -> str:
    text = escape(cell.text)
    if grey:  # Markdown knows no grey
        return f"*{text}*" if cell.text != MISSING else text
    return f"**{text}**" if cell.bold else text


def escape(text: str) -> str:
    """`text` as Markdown shows it unchanged, on one line and inside a table: no markup, HTML,
    entity, formula, link or picture."""
    text = re.sub(r"([\\`*_|<>~$])", r"\\\1", text)
    text = re.sub(r"&(?=#?\w+;)", r"\\&", text)
    text = re.sub(r"\](?=[(:\[])", r"]\\", text)
    return " ".join(text.split())


def block(text: str) -> str:
    """`text` as a paragraph, list item or heading of its own: no heading or list in it."""
    return re.sub(r"^(\d*)(?=[-#+=.)])", r"\1\\", escape(text))
