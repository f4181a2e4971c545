"""The files of a report: the same bytes from the same numbers."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from kdbench.records.bounded import inside
from kdbench.records.files import atomic_write
from kdbench.records.plan_file import PlanFile
from kdbench.records.titles import title_of
from kdbench.report.data.formulas import escape_formulas
from kdbench.report.data.report_data import ReportData
from kdbench.report.data.software import Software, software_words
from kdbench.report.deployment import (
    Deployment,
    deployment_of,
    deployment_table,
    outdated_note,
    profile_outdated,
)
from kdbench.report.figures import draw_figures
from kdbench.report.leaderboard import Leaderboard, build_leaderboard
from kdbench.report.page import render_page
from kdbench.report.page.all_reports import write_all_reports
from kdbench.report.text.context import Sentence
from kdbench.report.text.software import software_caption
from kdbench.report.writers.bibtex import to_bibtex
from kdbench.report.writers.cells import grid, leaderboard_document, shown_columns
from kdbench.report.writers.deployment import deployment_document
from kdbench.report.writers.latex import to_latex
from kdbench.report.writers.latex_column import column_table
from kdbench.report.writers.markdown import to_markdown
from kdbench.report.writers.methods_section import NOT_IN_LATEX, paragraph

PAGE = "index.html"
#: The files about what one would deploy.
OF_DEPLOYMENT = (
    "deployment.csv",
    "deployment.md",
    *(
        f"figures/{name}{end}"
        for name in ("latency", "size")
        for end in (".png", ".pdf", "-column.pdf")
    ),
)

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
        "leaderboard.csv": leaderboard_csv(
            with_hparams(board.table, data.plan), data.digest, data.software
        ),
        "leaderboard.md": to_markdown(document).encode(),
        "leaderboard.tex": column.encode(),
        "leaderboard-full.tex": to_latex(full, titles, NOT_IN_LATEX).encode(),
        **deployment_files(deployment_of(board, data), data.digest, data.software),
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
    paths = write_files(contents, folder)
    write_all_reports(folder.parent)
    return board, paths


def write_files(contents: Mapping[str, bytes], folder: Path) -> tuple[Path, ...]:
    """Write the files of a report by name. An earlier report's files about what one would deploy
    are removed where it has none now."""
    for name, content in contents.items():
        atomic_write(folder / name, content)
    for name in OF_DEPLOYMENT:
        if name not in contents:
            (folder / name).unlink(missing_ok=True)
    return tuple(folder / name for name in contents)


def leaderboard_of(data: ReportData) -> Leaderboard:
    """The leaderboard of a report's data."""
    board = build_leaderboard(data.runs, data.plan, data.cost)
    more = (*software_caption(data.software), *((FROM_RECORDS,) if data.from_records else ()))
    notes = (Sentence(outdated_note(board.study), "profile"),) if profile_outdated(data) else ()
    return replace(board, captions=(*board.captions, *more), notes=(*board.notes, *notes))


def deployment_files(
    deployment: Deployment | None, digest: str, software: Software | None = None
) -> dict[str, bytes]:
    """The table of what one would deploy by file name; none where nothing was profiled."""
    if deployment is None:
        return {}
    return {
        "deployment.csv": leaderboard_csv(deployment_table(deployment), digest, software),
        "deployment.md": to_markdown(deployment_document(deployment, digest)).encode(),
    }


def with_hparams(table: pd.DataFrame, plan: PlanFile) -> pd.DataFrame:
    """The table with a column for each hyperparameter, `hparam.temperature`, whose values keep
    all their digits; empty where a row does not have it."""
    values = {(row.label, row.row): row.hparams for row in plan.rows}
    of_rows = [values.get(key, {}) for key in zip(table["method"], table["row"], strict=True)]
    names = sorted({name for row in of_rows for name in row})
    columns = {
        f"hparam.{name}": pd.Series([row.get(name) for row in of_rows], table.index, object)
        for name in names
    }
    return table.assign(**columns)


def leaderboard_csv(table: pd.DataFrame, digest: str, software: Software | None = None) -> bytes:
    """The table with ten digits, which no rounding of another machine moves, and on every
    line the digest of what it was made from and by which software, where that is known; no text
    is a formula for a spreadsheet."""
    words = software_words(software or {})
    with_digest = table.assign(**{"made from": digest, **({"made by": words} if words else {})})
    return (
        escape_formulas(with_digest)
        .to_csv(index=False, lineterminator="\n", float_format="%.10g")
        .encode()
    )
