"""The leaderboard's files: each written whole, the same bytes from the same numbers."""

from pathlib import Path

import pandas as pd

from kdbench.records.files import atomic_write
from kdbench.records.store import Store
from kdbench.report.data.collect import gather
from kdbench.report.data.report_data import ReportData
from kdbench.report.figures import draw_figures
from kdbench.report.leaderboard import Leaderboard, leaderboard
from kdbench.report.page import render_page
from kdbench.report.writers.bibtex import bibtex
from kdbench.report.writers.cells import Sheet, sheet
from kdbench.report.writers.latex import latex
from kdbench.report.writers.markdown import markdown
from kdbench.report.writers.methods_section import paragraph

PAGE = "index.html"


def tables(board: Leaderboard, evidence: ReportData) -> dict[str, bytes]:
    """The faces made of text alone, by file name."""
    whole = sheet(board, evidence.digest)
    return {
        "leaderboard.csv": board_csv(board.table, evidence.digest),
        **text_tables(whole),
        "references.bib": bibtex(evidence.plan).encode(),
        "methods.tex": paragraph(board, evidence.plan).encode(),
    }


def write(evidence: ReportData, folder: Path) -> tuple[Leaderboard, tuple[Path, ...]]:
    """Judge the evidence and write all of it: tables, page, figures, BibTeX, the paragraph
    on how it was done, and the numbers beside them. The board, and the files' paths."""
    board = judge(evidence)
    drawn = draw_figures(board, evidence)
    contents: dict[str, bytes] = {
        **tables(board, evidence),
        PAGE: render_page(board, evidence, drawn).encode(),
        **evidence.files(),
        **{f"figures/{name}": content for name, content in drawn.files().items()},
    }
    for name, content in contents.items():
        atomic_write(folder / name, content)
    return board, tuple(folder / name for name in contents)


def judge(evidence: ReportData) -> Leaderboard:
    """The leaderboard of what a report is made from."""
    return leaderboard(evidence.runs, evidence.plan, evidence.cost)


def text_tables(whole: Sheet) -> dict[str, bytes]:
    """A sheet in every form that is text, by file name."""
    return {"leaderboard.md": markdown(whole).encode(), "leaderboard.tex": latex(whole).encode()}


def board_csv(table: pd.DataFrame, digest: str) -> bytes:
    """The table with ten digits, which no rounding of another machine moves, and on every
    line the digest of what it was made from."""
    told = table.assign(**{"made from": digest})
    return told.to_csv(index=False, lineterminator="\n", float_format="%.10g").encode()


def build(store: Store, study: str) -> tuple[Leaderboard, tuple[Path, ...]]:
    """The leaderboard of a study from MLflow, and the files written to its report folder.
    Raises what `gather` raises."""
    return write(gather(store, study), store.report_folder(study))
