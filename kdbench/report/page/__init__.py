"""`index.html`: the report as one self-contained web page: no network, no server.

The details of each row stand below the table, so that a browser without JavaScript shows
them too; `table.js` moves them into the table, sorts and filters it, `charts.js` and `curves.js`
draw what is in the page's numbers, `pairs.js` sets two rows side by side, and `mlflow.js` links the
runs to MLflow.
"""

import base64
import hashlib
import html

from markupsafe import Markup

from kdbench.records.titles import title_of
from kdbench.report.data.report_data import ReportData
from kdbench.report.deployment import deployment_of
from kdbench.report.figures.render import Drawn
from kdbench.report.figures.style import marks_of, short
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.page.classes import class_table
from kdbench.report.page.details import accuracy_shown, row_details, run_curves
from kdbench.report.page.gallery import pictures_of
from kdbench.report.page.marks import mark_svg
from kdbench.report.page.pairs import pair_numbers, pairs_of
from kdbench.report.page.run_pages import run_pages_address
from kdbench.report.page.templates import environment, file_text
from kdbench.report.writers.cells import filled, grid, leaderboard_document, shown_columns
from kdbench.report.writers.deployment import deployment_document

TEMPLATE = "index.html.jinja"
SCRIPTS = ("charts.js", "curves.js", "mlflow.js", "pairs.js", "table.js")
FILES = {
    "leaderboard.csv": "the table with all digits and columns",
    "leaderboard.md": "the table in Markdown",
    "leaderboard.tex": "the table in LaTeX, one column of a paper wide",
    "leaderboard-full.tex": "all its columns in LaTeX, for an appendix",
    "references.bib": "the papers of the methods, for BibTeX",
    "methods.tex": "a paragraph on methods for a paper, in LaTeX",
    "runs.csv.gz": "every run",
    "curves.csv.gz": "every metric of a run after every epoch",
    "trials.csv.gz": "the tuning trials",
    "confusions.csv.gz": "the confusion matrices",
    "study.json": "the settings of the study and the measured cost of its methods",
}
"""The files that a report has beside this page, and what each contains."""
DEPLOYMENT_FILES = {
    "deployment.csv": "what you would deploy, with all digits",
    "deployment.md": "the same in Markdown",
}
"""Those that it has as well where the study was profiled."""
PAGE_ORDER = ("phone", "desk", "all")
"""Columns that every window shows come first, then those of wide ones, then the rest."""


def render_page(board: Leaderboard, data: ReportData, drawn: Drawn) -> str:
    """The text of `index.html`: the table, the details of each row, the figures, the
    captions and notes. Equal input gives equal text."""
    script = Markup("").join(map(file_text, SCRIPTS))
    details = row_details(board, data)
    deployment = deployment_of(board, data)
    # The row and the label stand beside the method's display name.
    columns = sorted(
        (c for c in shown_columns(board) if c.name != "row"),
        key=lambda c: PAGE_ORDER.index(c.page),
    )
    template = environment().get_template(TEMPLATE)
    return template.render(
        document=leaderboard_document(board, data.digest),
        table=grid(board, columns=columns),
        columns=columns,
        filled=lambda text: filled(text, board),
        row_details=details,
        titles={label: title_of(data.plan, label) for label in map(str, board.table["method"])},
        marks={label: mark_svg(mark) for label, mark in marks_of(board).items()},
        pairs=pairs_of(board, data),
        pair_numbers=pair_numbers(board, data, [row.name for row in details]),
        classes=class_table(board, data),
        pictures=pictures_of(data),
        deployment=deployment and deployment_document(deployment, data.digest),
        measure=accuracy_shown(data.curves),
        curves=run_curves(data.curves),
        figures=[(name, Markup(svg), drawn.titles[name]) for name, svg in drawn.svg.items()],
        drawn_in=lambda label: figures_with(label, drawn),
        pdfs=set(drawn.pdf),
        files=FILES | DEPLOYMENT_FILES if deployment else FILES,
        run_pages=run_pages_address(data.plan.study),
        style=file_text("style.css"),
        script=script,
        # The only script that a browser may run here, whatever a label contains.
        allowed=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def figures_with(label: str, drawn: Drawn) -> list[str]:
    """The figures that name a method, alone or with a remark behind it."""
    name = html.escape(short(label), quote=False)
    return [
        figure for figure, svg in drawn.svg.items() if f">{name}<" in svg or f">{name} (" in svg
    ]
