"""LaTeX: text as it is set unchanged, and the full table as longtables for an appendix."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

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
    "≈": r"$\approx$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "◦": r"$\circ$",
    "–": "--",
}
PACKAGES = r"% \usepackage{array,booktabs,longtable,url,xcolor}"
"""What the tables and references.bib need."""

ROW = ("hparams", "hyperparameters")
"""The headings of the column that tells the rows of a method apart."""

SIZE = r"\fontsize{8}{9.6}\selectfont"
"""The type of a table and of its notes, whatever the class takes for its small sizes."""

GAP = 2.5
"""Points on each side of a column, none at the ends of a row."""

TEXT_WIDTH = 340.0
"""Points: the text of the narrowest usual class with one column."""

WIDEST = {True: 400.0, False: 92.0}
"""Points of a column at the most: numbers do not wrap, words do."""


@dataclass(frozen=True)
class Setting:
    """A table as it is set: `headers`, `rows` of cells with their `kinds` (tuned, ...,
    published), and the columns' `widths` in points."""

    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    kinds: tuple[str, ...]
    widths: tuple[float, ...]

    @property
    def right(self) -> tuple[bool, ...]:
        """Which columns hold numbers, set flush right."""
        return tuple(any(row[k].number for row in self.rows) for k in range(len(self.headers)))

    @property
    def columns(self) -> str:
        """The argument of `tabular` and `longtable`."""
        sides = ["left" if r else "right" for r in self.right]
        parts = (
            rf">{{\ragged{side}\arraybackslash}}p{{{width:.1f}pt}}"
            for side, width in zip(sides, self.widths, strict=True)
        )
        return f"@{{}}{''.join(parts)}@{{}}"

    @property
    def head(self) -> str:
        """The row of headers."""
        return " & ".join(map(escape, self.headers)) + r" \\"

    @property
    def body(self) -> list[str]:
        """The rows; those of kind `published` are grey, beneath a rule."""
        lines, before = [], ""
        for row, kind in zip(self.rows, self.kinds, strict=True):
            grey = kind == PUBLISHED
            if grey and before != PUBLISHED:
                lines.append(r"\midrule")
            lines.append(" & ".join(_cell(c, grey) for c in row) + r" \\")
            before = kind
        return lines


def to_latex(
    document: Document, titles: Mapping[str, str] | None = None, skipped: Sequence[str] = ()
) -> str:
    """All columns of a document as longtables one below the other, each as wide as a page with one
    column at most, with the notes beneath. Captions on the topics in `skipped` are left out."""
    lines = [
        PACKAGES,
        f"{made_from(document)} In a class with two columns it takes \\onecolumn.",
        rf"\begingroup{SIZE}\setlength{{\tabcolsep}}{{{GAP}pt}}",
    ]
    caption = escape(f"{document.question} {document.headline}")
    label = rf"\label{{tab:{label_of(document.name)}-full}}"
    for number, setting in enumerate(_settings(document, titles or {})):
        rules = [r"\toprule", setting.head, r"\midrule"]
        text = rf"\caption{{{caption}}}{label}\\" if number == 0 else r"\caption*{(continued)}\\"
        lines += [
            rf"\begin{{longtable}}{{{setting.columns}}}", text, *rules, r"\endfirsthead",
            *rules, r"\endhead", r"\bottomrule", r"\endfoot",
            *setting.body, r"\end{longtable}",
        ]  # fmt: skip
    captions = [c for c in document.captions if getattr(c, "topic", "") not in skipped]
    lines += [r"\noindent", *map(escape, captions)]
    if document.notes:
        lines += [r"\par\noindent $\dagger$ Notes:", *map(escape, document.notes)]
    return "\n".join([*lines, r"\par\endgroup"]) + "\n"


def made_from(document: Document) -> str:
    """A comment with the digest of what a table was made from, and the software."""
    software = [c for c in document.captions if getattr(c, "topic", "") == "software"]
    return " ".join([f"% Made from {document.digest}.", *map(escape, software)])


def _settings(document: Document, titles: Mapping[str, str]) -> list[Setting]:
    """The columns in parts that fit a page, each with the columns that name a row; the first part
    has the citations, and the others leave out rows of which they say nothing."""
    grid = document.grid
    rows = [
        (replace(row[0], text=titles.get(row[0].text, row[0].text)), *row[1:]) for row in grid.rows
    ]
    names = next((k + 1 for k, header in enumerate(grid.headers) if header in ROW), 1)
    widths = [column_width(h, [r[k] for r in rows]) for k, h in enumerate(grid.headers)]
    parts: list[list[int]] = [[]]
    for k in range(names, len(widths)):
        used = [*range(names), *parts[-1], k]
        if parts[-1] and total(widths[i] for i in used) > TEXT_WIDTH:
            parts.append([])
        parts[-1].append(k)
    settings = []
    for part in parts:
        columns = [*range(names), *part]
        kept = [
            (tuple(row[k] for k in columns), kind)
            for row, kind in zip(rows, grid.kinds, strict=True)
            if part is parts[0] or any(row[k].text not in ("", MISSING) for k in part)
        ]
        settings.append(
            Setting(
                tuple(grid.headers[k] for k in columns),
                tuple(row for row, _ in kept),
                tuple(kind for _, kind in kept),
                tuple(widths[k] for k in columns),
            )
        )
        rows = [(replace(row[0], cite=None), *row[1:]) for row in rows]
    return settings


# -- widths


def total(widths: Iterable[float]) -> float:
    """The width of a table whose columns have these widths."""
    each = list(widths)
    return float(sum(each) + 2 * GAP * (len(each) - 1))


def column_width(header: str, cells: Sequence[Cell]) -> float:
    """The points that a column takes: its longest cell, wrapped where it is no number, and the
    longest word of its header."""
    numbers = any(cell.number for cell in cells)
    wide = max((text_width(c.text, c.bold) + 22 * bool(c.cite) for c in cells), default=0.0)
    words = [header, *(c.text for c in cells if not c.number)]
    word = max(text_width(w) for text in words for w in re.split(r"[\s-]+", text))
    return max(min(wide, WIDEST[numbers]), word) + 1


def text_width(text: str, bold: bool = False) -> float:
    """About the points that a text takes in the table's type; wider rather than narrower."""
    width = sum(2.5 if c in " .,:;[]()|'!ijl" else 6.7 if c in "+-±=<>~≈Δ_mwMWOQ" else 5.8
                if c.isupper() else 4.4 for c in text)  # fmt: skip
    return width * (1.16 if bold else 1.0)


# -- text


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


def label_of(name: str) -> str:
    """A name as part of a label."""
    return re.sub("[^A-Za-z0-9:-]+", "-", name)


def escape(text: str) -> str:
    """`text` as LaTeX sets it unchanged, on one line."""
    return " ".join("".join(SPECIAL.get(c, c) for c in text).split())
