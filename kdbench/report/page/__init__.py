"""The leaderboard as one web page that needs nothing else: no network, no server.

What opens beneath a row is written out below the table, so that a browser without
JavaScript shows it too; `table.js` moves it into the table and sorts, `curves.js` draws.
"""

import base64
import hashlib
from importlib import resources
from typing import TYPE_CHECKING

from kdbench.report.data.report_data import ReportData
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.page.details import abouts, lines, measure
from kdbench.report.writers.cells import sheet

if TYPE_CHECKING:
    from kdbench.report.figures import Drawn

TEMPLATE = "index.html.jinja"
BESIDE = {
    "leaderboard.csv": "the table with all its digits and columns",
    "leaderboard.md": "the table in Markdown",
    "leaderboard.tex": "the table in LaTeX",
    "references.bib": "the papers of its methods, for BibTeX",
    "methods.tex": "how it was done, a paragraph for a paper",
    "runs.csv.gz": "every run",
    "curves.csv.gz": "every metric of a run after every epoch",
    "trials.csv.gz": "the trials of tuning",
    "confusions.csv.gz": "the confusion matrices",
    "study.json": "what the study declared, and what its methods cost",
}
"""The files that a report writes next to this page."""


def page(board: Leaderboard, evidence: ReportData, drawn: "Drawn") -> str:
    """`index.html`: the table, what is behind each row, the figures, how it was made."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FunctionLoader(_part),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":")}
    script = _part("curves.js") + _part("table.js")
    return environment.get_template(TEMPLATE).render(
        sheet=sheet(board, evidence.digest),
        abouts=abouts(board, evidence),
        score=board.score,
        measure=measure(evidence.curves),
        lines=lines(evidence.curves),
        figures=[(name, Markup(svg), drawn.titles[name]) for name, svg in drawn.svg.items()],
        pdfs=set(drawn.pdf),
        beside=BESIDE,
        style=Markup(_part("style.css")),
        script=Markup(script),
        # The one script that a browser may run here, whatever a label holds.
        allowed=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _part(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
