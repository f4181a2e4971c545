"""The leaderboard as one self-contained web page: no network, no server.

The details of each row stand below the table, so that a browser without JavaScript shows
them too; `table.js` moves them into the table and sorts it, `curves.js` draws the curves.
"""

import base64
import hashlib
from importlib import resources

from kdbench.report.data.report_data import ReportData
from kdbench.report.figures.render import Drawn
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.page.details import accuracy_shown, row_details, run_curves
from kdbench.report.writers.cells import leaderboard_document

TEMPLATE = "index.html.jinja"
FILES = {
    "leaderboard.csv": "the table with all digits and columns",
    "leaderboard.md": "the table in Markdown",
    "leaderboard.tex": "the table in LaTeX",
    "references.bib": "the papers of the methods, for BibTeX",
    "methods.tex": "a paragraph on methods for a paper, in LaTeX",
    "runs.csv.gz": "every run",
    "curves.csv.gz": "every metric of a run after every epoch",
    "trials.csv.gz": "the tuning trials",
    "confusions.csv.gz": "the confusion matrices",
    "study.json": "the settings of the study and the measured cost of its methods",
}
"""The files that a report has beside this page, and what each contains."""


def render_page(board: Leaderboard, data: ReportData, drawn: Drawn) -> str:
    """The text of `index.html`: the table, the details of each row, the figures, the
    captions and notes. Equal input gives equal text."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FunctionLoader(_file),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":")}
    script = _file("curves.js") + _file("table.js")
    return environment.get_template(TEMPLATE).render(
        document=leaderboard_document(board, data.digest),
        row_details=row_details(board, data),
        measure=accuracy_shown(data.curves),
        curves=run_curves(data.curves),
        figures=[(name, Markup(svg), drawn.titles[name]) for name, svg in drawn.svg.items()],
        pdfs=set(drawn.pdf),
        files=FILES,
        style=Markup(_file("style.css")),
        script=Markup(script),
        # The only script that a browser may run here, whatever a label contains.
        allowed=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _file(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
