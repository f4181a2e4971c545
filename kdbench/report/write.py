"""The files of a report: the same bytes from the same numbers."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from kdbench.records.bounded import inside
from kdbench.records.files import atomic_write
from kdbench.records.titles import title_of
from kdbench.report.data.formulas import escape_formulas
from kdbench.report.data.report_data import ReportData
from kdbench.report.deployment import Deployment, deployment_of, deployment_table
from kdbench.report.figures import draw_figures
from kdbench.report.leaderboard import Leaderboard, build_leaderboard
from kdbench.report.page import render_page
from kdbench.report.page.all_reports import write_all_reports
from kdbench.report.text.context import Sentence
from kdbench.report.writers.bibtex import to_bibtex
from kdbench.report.writers.cells import grid, leaderboard_document, shown_columns
from kdbench.report.writers.deployment import deployment_document
from kdbench.report.writers.latex import to_latex
from kdbench.report.writers.latex_column import column_table
from kdbench.report.writers.markdown import to_markdown
from kdbench.report.writers.methods_section import NOT_IN_LATEX, paragraph

PAGE = "index.html"

FROM_RECORDS = Sentence(
    "The numbers were read from the records of the runs, since MLflow could not be asked.",
    "source",
)


def text_files(board: Leaderboard, data: ReportData) -> dict[str, bytes]:
    """The formats that are text without drawings, by file name."""
    document = leaderboard_document(board, data.digest)
    titles = {label: title_of(data.plan, label) for label in map(str, board.table["method"])}
    column = column_table(board, document, titles, data.columns)
    width = f"± is half the width of the {100 * board.family.analysis.level:g} % CI."
    full = replace(
        document,
        grid=grid(board, narrow=True, columns=shown_columns(board)),
        captions=(width, *document.captions),
    )
    return {
        "leaderboard.csv": leaderboard_csv(board.table, data.digest),
        "leaderboard.md": to_markdown(document).encode(),
        "leaderboard.tex": column.encode(),
        "leaderboard-full.tex": to_latex(full, titles, NOT_IN_LATEX).encode(),
        **deployment_files(deployment_of(board, data), data.digest),
        "references.bib": to_bibtex(data.plan).encode(),
        "methods.tex": paragraph(board, data.plan).encode(),
    }


def write_report(data: ReportData, folder: Path) -> tuple[Leaderboard, tuple[Path, ...]]:
    """Write all files of a report: tables, page, figures, BibTeX, the paragraph on methods,
    and the data beside them; and the page over all reports beside the folder. Returns the
    leaderboard and the report's paths. Raises `Refused` where a link leads out of the folder."""
    board = leaderboard_of(data)
    drawn = draw_figures(board, data)
    contents: dict[str, bytes] = {
        **text_files(board, data),
        PAGE: render_page(board, data, drawn).encode(),
        **data.files(),
        **{f"figures/{name}": content for name, content in drawn.files().items()},
    }
    inside(folder / "figures", folder)
    for name, content in contents.items():
        atomic_write(folder / name, content)
    write_all_reports(folder.parent)
    return board, tuple(folder / name for name in contents)


def leaderboard_of(data: ReportData) -> Leaderboard:
    """The leaderboard of a report's data."""
    board = build_leaderboard(data.runs, data.plan, data.cost)
    return replace(board, captions=(*board.captions, FROM_RECORDS)) if data.from_records else board


def deployment_files(deployment: Deployment | None, digest: str) -> dict[str, bytes]:
    """The table of what one would deploy by file name; none where nothing was profiled."""
    if deployment is None:
        return {}
    return {
        "deployment.csv": leaderboard_csv(deployment_table(deployment), digest),
        "deployment.md": to_markdown(deployment_document(deployment, digest)).encode(),
    }


def leaderboard_csv(table: pd.DataFrame, digest: str) -> bytes:
    """The table with ten digits, which no rounding of another machine moves, and on every
    line the digest of what it was made from; no text is a formula for a spreadsheet."""
    with_digest = table.assign(**{"made from": digest})
    return (
        escape_formulas(with_digest)
        .to_csv(index=False, lineterminator="\n", float_format="%.10g")
        .encode()
    )
