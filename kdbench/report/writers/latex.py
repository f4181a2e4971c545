"""The leaderboard as a LaTeX table (booktabs)."""

import re

from kdbench.report.data.runs import PUBLISHED
from kdbench.report.writers.cells import MISSING, Cell, Document

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "†": r"$\dagger$",
    "×": r"$\times$",
    "–": "--",
}


def to_latex(document: Document) -> str:
    """A `table*` with caption, label and the notes beneath, as wide as the text."""
    cells = document.grid
    lines = [
        r"% \usepackage{booktabs,graphicx,xcolor}",
        f"% made from {document.digest}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{escape(f'{document.question} {document.headline}')}}}",
        rf"\label{{tab:{re.sub('[^A-Za-z0-9:-]+', '-', document.name)}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{{''.join('r' if r else 'l' for r in cells.right)}}}",
        r"\toprule",
        " & ".join(escape(h) for h in cells.headers) + r" \\",
        r"\midrule",
    ]
    before = ""
    for row, kind in zip(cells.rows, cells.kinds, strict=True):
        grey = kind == PUBLISHED
        if grey and before != PUBLISHED:
            lines.append(r"\midrule")
        lines.append(" & ".join(_cell(c, grey) for c in row) + r" \\")
        before = kind
    lines += [
        r"\bottomrule",
        r"\end{tabular}}",
        r"\par\smallskip",
        r"\begin{minipage}{\textwidth}\footnotesize",
        *(escape(sentence) for sentence in document.captions),
    ]
    if document.notes:
        lines += [r"\par $\dagger$ Notes:", *(escape(note) for note in document.notes)]
    lines += [r"\end{minipage}", r"\end{table*}"]
    return "\n".join(lines) + "\n"


def _cell(cell: Cell, grey: bool) -> str:
    text = escape(cell.text)
    if text.startswith(("[", "*")):  # after a line's end these would belong to its \\
        text = f"{{{text[0]}}}{text[1:]}"
    if cell.number and cell.text != MISSING:
        text = re.sub(r"(?<![\w.])-(?=\d)", "$-$", text)
    if cell.bold:
        text = rf"\textbf{{{text}}}"
    if cell.cite:
        text = rf"{text}~\cite{{{cell.cite}}}"
    return rf"\textcolor{{gray}}{{{text}}}" if grey else text


def escape(text: str) -> str:
    """`text` as LaTeX sets it unchanged, on one line."""
    return " ".join("".join(SPECIAL.get(c, c) for c in text).split())
