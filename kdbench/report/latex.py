"""The leaderboard as a LaTeX table (booktabs)."""

import re

from kdbench.report.board import Leaderboard
from kdbench.report.cells import MISSING, Cell, grid

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


def latex(board: Leaderboard) -> str:
    """A `table*` with caption, label and the notes beneath, as wide as the text."""
    cells = grid(board)
    right = [any(row[k].number for row in cells.rows) for k in range(len(cells.headers))]
    lines = [
        r"% \usepackage{booktabs,graphicx}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{escape(_headline(board))}}}",
        rf"\label{{tab:{re.sub('[^A-Za-z0-9:-]+', '-', board.study)}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{{''.join('r' if r else 'l' for r in right)}}}",
        r"\toprule",
        " & ".join(escape(h) for h in cells.headers) + r" \\",
        r"\midrule",
        *(" & ".join(_cell(c) for c in row) + r" \\" for row in cells.rows),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\par\smallskip",
        r"\begin{minipage}{\textwidth}\footnotesize",
        *(escape(sentence) for sentence in board.captions),
    ]
    if board.notes:
        lines += [r"\par $\dagger$ Notes:", *(escape(note) for note in board.notes)]
    lines += [r"\end{minipage}", r"\end{table*}"]
    return "\n".join(lines) + "\n"


def _headline(board: Leaderboard) -> str:
    text = f"Test accuracy in the study {board.title}, in %, differences in percentage points."
    return f"{board.question} {text}" if board.question else text


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if text.startswith(("[", "*")):  # after a line's end these would belong to its \\
        text = f"{{{text[0]}}}{text[1:]}"
    if cell.number and cell.text != MISSING:
        text = re.sub(r"(?<![\w.])-(?=\d)", "$-$", text)
    if cell.bold:
        text = rf"\textbf{{{text}}}"
    return rf"{text}~\cite{{{cell.cite}}}" if cell.cite else text


def escape(text: str) -> str:
    """`text` as LaTeX sets it unchanged, on one line."""
    return " ".join("".join(SPECIAL.get(c, c) for c in text).split())
