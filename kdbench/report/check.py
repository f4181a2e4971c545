"""Whether a table still says what its numbers say: every digit, star and bold again."""

import csv
import difflib
import io
import json
import re
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd

from kdbench.errors import KdbenchError
from kdbench.records.files import read_json
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.report.data.report_data import STUDY, ReportData, load
from kdbench.report.data.runs import records_frame
from kdbench.report.figures import draw_figures
from kdbench.report.page import render_page
from kdbench.report.pooled import pool_settings
from kdbench.report.pooled_table import texts as several_texts
from kdbench.report.write import PAGE, leaderboard_of, text_files

MOST = 20
"""Faults named at the most; the rest are counted."""

KEYS = {
    "runs": ["label", "row", "seed"],
    "curves": ["id", "epoch", "metric"],
    "trials": ["label", "number"],
    "confusions": ["label", "row", "against", "expected", "predicted"],
}
"""What names a line in each file of numbers."""

Cells = list[list[str]]


class Uncheckable(KdbenchError):
    """The file is none that `kdbench report` writes."""


def check_report(path: Path) -> list[str]:
    """What a report's file says otherwise than the runs beside it give; empty where all is
    right. `path` is one of its files, or the folder for all of them.

    Raises `NoReportData` where the runs are missing, `Uncheckable` for other files.
    """
    folder = path if path.is_dir() else path.parent
    expected = expected_texts(folder)
    names = list(expected) if path.is_dir() else [path.name]
    faults = []
    for name in names:
        if name not in expected:
            known = ", ".join(expected)
            raise Uncheckable(f"{path}: can check {known} (or the folder), not {name}")
        try:
            said = (folder / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            faults.append(f"{name}: the file is missing")
            continue
        except UnicodeDecodeError:
            faults.append(f"{name}: the file is not UTF-8 text")
            continue
        faults += [f"{name}: {f}" for f in compare(name, said, expected[name]().decode())]
    if len(faults) > MOST:
        faults = [*faults[:MOST], f"... and {len(faults) - MOST} more"]
    return faults


def expected_texts(folder: Path) -> dict[str, Callable[[], bytes]]:
    """What the checkable files of a report's folder should hold, from the numbers kept in
    it: made when called for, since the page takes its figures' time. Raises `NoReportData`."""
    about = read_json(folder / STUDY) or {}
    if "several" in about:
        parts = {name: load(folder / place) for name, place in about["several"].items()}
        made = several_texts(pool_settings(about["name"], parts, about["shared"]))
        return {name: partial(bytes, content) for name, content in made.items()}
    data = load(folder)
    board = leaderboard_of(data)
    found: dict[str, Callable[[], bytes]] = {
        name: partial(bytes, content) for name, content in text_files(board, data).items()
    }
    found[PAGE] = lambda: render_page(board, data, draw_figures(board, data)).encode()
    return found


def compare(name: str, said: str, expected: str) -> list[str]:
    """Differences between a file's text and what it should be, cells by name first."""
    said, expected = _lean(said), _lean(expected)
    if said == expected:
        return []
    read = FACES.get(Path(name).suffix)
    table = read(expected) if read else []
    faults = _cells(read(said), table) if read and table else []
    return faults or _lines(said, expected)


def _cells(said: Cells, expected: Cells) -> list[str]:
    """Cells that differ, named by method, row and column."""
    if [len(row) for row in said] != [len(row) for row in expected]:
        rows = f"{max(len(said) - 1, 0)} rows, {max(len(expected) - 1, 0)} expected"
        return [f"the table has another shape ({rows})"]
    headers = expected[0]
    faults = [
        f"column {number + 1} is headed {ours!r}, it should be {theirs!r}"
        for number, (ours, theirs) in enumerate(zip(said[0], headers, strict=True))
        if ours != theirs
    ]
    named = (
        2 if headers[1] in ("hyperparameters", "row") else 1
    )  # a method's rows are told apart by it
    for found, row in zip(said[1:], expected[1:], strict=True):
        name = _bare(", ".join(row[:named]))
        for header, ours, theirs in zip(headers, found, row, strict=True):
            if ours != theirs:
                place = f"row '{name}', column '{_bare(header)}'"
                faults.append(f"{place}: the file says {ours!r}, the runs give {theirs!r}")
    return faults


def _bare(text: str) -> str:
    """A name without its markup, for saying which cell is meant."""
    return re.sub(r"\*\*|</?strong>|~\\cite\{.*?\}|\\[a-z]+\{|[\\}]", "", text)


def _lines(said: str, expected: str) -> list[str]:
    """The first lines that differ outside the table."""
    ours, theirs = said.splitlines(), expected.splitlines()
    matcher = difflib.SequenceMatcher(None, ours, theirs, autojunk=False)
    faults = []
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag != "equal":
            was, should = " ".join(ours[a:b]), " ".join(theirs[c:d])
            faults.append(f"line {a + 1}: says {_cut(was)!r}, should be {_cut(should)!r}")
    return faults or ["its line ends differ"]


def _cut(text: str, most: int = 300) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def _lean(text: str) -> str:
    """Without drawings: their bytes depend on the fonts and libraries that drew them."""
    return re.sub(r"<svg\b.*?</svg>", "<svg></svg>", text, flags=re.DOTALL)


# -- one reader for each kind of file; the first row are the headers


def _csv(text: str) -> Cells:
    return list(csv.reader(io.StringIO(text)))


def _markdown(text: str) -> Cells:
    rows = [line[2:-2] for line in text.splitlines() if line.startswith("| ")]
    return [re.split(r" (?<!\\)\| ", row) for row in rows]


def _latex(text: str) -> Cells:
    body = text.partition("\\toprule")[2].partition("\\bottomrule")[0]
    rows = [line.removesuffix(r" \\") for line in body.splitlines() if line.endswith(r" \\")]
    return [re.split(r" (?<!\\)& ", row) for row in rows]


class _Table(HTMLParser):
    """The cells of the table with the id `leaderboard`, bold as `<strong>`."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: Cells = []
        self._inside = self._cell = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Tables, rows, cells and bold open."""
        if tag == "table":
            self._inside = dict(attributes).get("id") == "leaderboard"
        elif self._inside and tag == "tr":
            self.rows.append([])
        elif self._inside and tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True
        elif self._cell and tag == "strong":
            self.rows[-1][-1] += "<strong>"

    def handle_endtag(self, tag: str) -> None:
        """Tables and cells close."""
        if tag == "table":
            self._inside = False
        elif tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        """A cell's text."""
        if self._inside and self._cell:
            self.rows[-1][-1] += data.strip()


def _html(text: str) -> Cells:
    table = _Table()
    table.feed(text)
    # Rows that open beneath a method's row are one wide cell each.
    return [row for row in table.rows if len(row) > 1]


FACES: dict[str, Callable[[str], Cells]] = {
    ".csv": _csv,
    ".md": _markdown,
    ".tex": _latex,
    ".html": _html,
}


# -- the runs themselves


def data_differences(kept: ReportData, now: ReportData) -> list[str]:
    """Where the numbers beside a table are not those that MLflow gives now."""
    faults = []
    old, new = (json.loads(json.dumps(each.plan.to_dict(runs=False))) for each in (kept, now))
    if old != new:
        parts = [k for k in {**old, **new} if old.get(k) != new.get(k)]
        faults.append(f"{STUDY}: the study's plan is another now: {', '.join(sorted(parts))}")
    if kept.cost != now.cost:
        faults.append(f"{STUDY}: the measured costs are others now")
    for name, keys in KEYS.items():
        old, new = (getattr(e, name).reset_index(drop=True) for e in (kept, now))
        faults += [f"{name}.csv.gz: {fault}" for fault in _frames(old, new, keys)]
    return faults


def record_differences(now: ReportData, store: Store, plan: PlanFile) -> list[str]:
    """Where MLflow's runs are not those of the records on disk."""
    records = records_frame(store, plan, now.cost)
    return [f"MLflow against the records: {f}" for f in _frames(now.runs, records, KEYS["runs"])]


def _frames(old: pd.DataFrame, new: pd.DataFrame, keys: list[str]) -> list[str]:
    if len(old) != len(new):
        return [f"{len(old)} lines, now {len(new)}"]
    faults = []
    for column in new.columns:
        a, b = old[column].astype(object), new[column].astype(object)
        for line in np.flatnonzero(~((a == b) | (a.isna() & b.isna())).to_numpy(bool)):
            name = ", ".join(f"{k} {new[k].iloc[line]}" for k in keys)
            faults.append(f"{name}: {column} is {a.iloc[line]!r}, now {b.iloc[line]!r}")
    return faults
