"""Whether a report's files still say what its runs give: written again, and compared."""

import csv
import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdbench.errors import KdbenchError
from kdbench.records.bounded import MOST_TEXT, Refused, inside, read_bounded
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.report.data.report_data import (
    STUDY,
    ReportData,
    UnreadableReport,
    load,
    read_study,
)
from kdbench.report.data.runs import records_frame
from kdbench.report.figures import draw_figures
from kdbench.report.page import render_page
from kdbench.report.pooled import pool_settings
from kdbench.report.pooled_table import pooled_files
from kdbench.report.write import PAGE, leaderboard_of, text_files

MOST = 20
"""Differences named at the most; the rest are counted."""

KEYS = {
    "runs": ["label", "row", "seed"],
    "curves": ["id", "epoch", "metric"],
    "trials": ["label", "number"],
    "confusions": ["label", "row", "against", "expected", "predicted"],
}
"""The columns that name a line in each file of a report's data."""


class Uncheckable(KdbenchError):
    """The file is none that `kdbench report` writes."""


def check_report(path: Path) -> list[str]:
    """Compare a report's files with what the data beside them give.

    `path` is one of the files, or the folder for all of them. Returns the differences, each
    with its file, line and, in a table, cell; an empty list if there are none. Raises
    `NoReportData` and `UnreadableReport` as `load` does, `Uncheckable` for other files.
    """
    folder = path if path.is_dir() else path.parent
    if not path.exists() and not (folder / STUDY).exists():
        raise Uncheckable(f"{path}: no such file or folder")
    expected = expected_files(folder)
    names = list(expected) if path.is_dir() else [path.name]
    differences = []
    for name in names:
        if name not in expected:
            checkable = ", ".join(expected)
            raise Uncheckable(f"{path}: can check {checkable} (or the folder), not {name}")
        try:
            text = read_bounded(folder / name, folder, MOST_TEXT).decode()
        except FileNotFoundError:
            differences.append(f"{name}: the file is missing")
        except Refused as error:
            differences.append(f"{name}: {error.why}")
        except OSError as error:
            differences.append(f"{name}: it cannot be read ({error.strerror})")
        except UnicodeDecodeError:
            differences.append(f"{name}: the file is not UTF-8 text")
        else:
            expected_text = expected[name]().decode()
            format_ = Path(name).suffix
            differences += [f"{name}: {d}" for d in text_differences(text, expected_text, format_)]
    if len(differences) > MOST:
        return [*differences[:MOST], f"... and {len(differences) - MOST} more"]
    return differences


def expected_files(folder: Path) -> dict[str, Callable[[], bytes]]:
    """The checkable files of a report, as its data give them. Each is written when its function
    is called, since the figures of the page take seconds. Raises as `load` does."""
    study = read_study(folder)
    if "pooled" in study:
        settings = {name: load(place) for name, place in pooled_places(study, folder).items()}
        contents = pooled_files(pool_settings(study["name"], settings, study["shared"]))
        return {name: partial(bytes, content) for name, content in contents.items()}
    data = load(folder)
    board = leaderboard_of(data)

    def page() -> bytes:
        return render_page(board, data, draw_figures(board, data)).encode()

    contents = text_files(board, data)
    return {**{name: partial(bytes, content) for name, content in contents.items()}, PAGE: page}


def pooled_places(study: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """The folders of the reports that were pooled. Raises `UnreadableReport` where one leads
    out of the folder that holds this one, or the pooled report is not described whole."""
    path, pooled = folder / STUDY, study["pooled"]
    if not isinstance(pooled, dict) or not all(isinstance(v, str) for v in pooled.values()):
        raise UnreadableReport(f"{path} cannot be read: it does not say what was pooled")
    if not isinstance(study.get("name"), str) or "shared" not in study or len(pooled) < 2:
        raise UnreadableReport(f"{path} cannot be read: it lacks its name, seeds or settings")
    try:
        for place in pooled.values():
            inside(folder / place, folder.absolute().parent)
    except Refused as error:
        raise UnreadableReport(f"{path} cannot be read: {place}: {error.why}") from error
    return {name: folder / place for name, place in pooled.items()}


# -- the text of a file


def text_differences(text: str, expected: str, format_: str) -> list[str]:
    """Where a file's text differs from the expected one, by line and, in a table, by cell.
    `format_` is the suffix of its name, such as `.md`."""
    numbers, lines = zip(*numbered_lines(text), strict=True)
    _, expected_lines = zip(*numbered_lines(expected), strict=True)
    if lines == expected_lines:
        return []
    matcher = difflib.SequenceMatcher(None, lines, expected_lines, autojunk=False)
    differences = []
    for kind, start, stop, expected_start, expected_stop in matcher.get_opcodes():
        if kind == "equal":
            continue
        if stop - start == expected_stop - expected_start:
            for index, expected_index in enumerate(range(expected_start, expected_stop), start):
                of_line = line_differences(lines[index], expected_lines, expected_index, format_)
                differences += [f"line {numbers[index]}{difference}" for difference in of_line]
            continue
        place = f"line {numbers[min(start, len(numbers) - 1)]}"
        part = _shown("\n".join(lines[start:stop]))
        expected_part = _shown("\n".join(expected_lines[expected_start:expected_stop]))
        if kind == "insert":
            differences.append(f"{place}: {expected_part} is missing before it")
        elif kind == "delete":
            differences.append(f"{place}: {part} should not be there")
        else:
            differences.append(f"{place}: {part}, should be {expected_part}")
    return differences


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text with their numbers, without drawings: their bytes depend on the
    fonts and libraries that drew them. A row of the page's table takes several lines and is
    given as one."""
    # A line break within a drawing or row becomes a null character, which is counted.
    text = re.sub(
        r"<svg\b.*?</svg>", lambda m: "<svg/>" + "\0" * m[0].count("\n"), text, flags=re.DOTALL
    )
    text = re.sub(r"<tr\b.*?</tr>", lambda m: m[0].replace("\n", "\0"), text, flags=re.DOTALL)
    number = 1
    for line in text.split("\n"):
        yield number, line.replace("\0", "")
        number += 1 + line.count("\0")


def line_differences(
    line: str, expected_lines: tuple[str, ...], index: int, format_: str
) -> Iterator[str]:
    """Where a line differs from the expected one at `index`: its cells by row and column, or
    the line as a whole where it is no row of a table."""
    cells, expected = cells_of(line, format_), cells_of(expected_lines[index], format_)
    headers = _headers(expected_lines[: index + 1], len(expected), format_)
    if not len(headers) == len(cells) == len(expected) > 1 or cells == expected:
        other = expected_lines[index]
        equal = (a == b for a, b in zip(line, other, strict=False))
        first = next((k for k, same in enumerate(equal) if not same), min(len(line), len(other)))
        yield f": {_shown(line, first)}, should be {_shown(other, first)}"
        return
    # A method's rows are told apart by the second column.
    name = ", ".join(
        map(_bare, expected[: 2 if headers[1] in ("hyperparameters", "hparams", "row") else 1])
    )
    for header, cell, expected_cell in zip(headers, cells, expected, strict=True):
        if cell != expected_cell:
            place = f", row '{name}', column '{_bare(header)}'"
            yield f"{place}: {_shown(cell)}, should be {_shown(expected_cell)}"


def cells_of(line: str, format_: str) -> list[str]:
    """The cells of a line if it is a row of a table."""
    match format_:
        case ".csv":
            return next(csv.reader([line]), [])
        case ".md":
            return line.removeprefix("| ").removesuffix(" |").split(" | ")
        case ".tex":
            return line.removesuffix(r" \\").split(" & ")
        case ".html":
            return re.split(r"</?t[dh]\b[^>]*>", line)[1::2]
    return []


def _headers(lines: tuple[str, ...], columns: int, format_: str) -> list[str]:
    """The headers of the table whose row is the last of `lines`. The page and LaTeX files may
    have several tables, each of the other files one."""
    rows = [line for line in lines if len(cells_of(line, format_)) == columns]
    if format_ == ".tex":  # a table's head stands beneath its upper rule
        rows = [line for before, line in pairwise(lines) if before == r"\toprule"][-1:]
    if format_ == ".html":
        rows = [row for row in rows if 'scope="col"' in row][-1:]
    return cells_of(rows[0], format_) if rows else []


def _bare(text: str) -> str:
    """A cell without markup, as the name of a row or column."""
    return re.sub(r"\*\*|<[^>]*>|~\\cite\{.*?\}|\\[a-z]+\{|[\\}]", "", text)


def _shown(text: str, position: int = 0, most: int = 300) -> str:
    """`text` quoted, and where it is long, what stands around a `position`."""
    start = max(position - 100, 0) if len(text) > most else 0
    part = text[start : start + most]
    return repr(f"{'...' * (start > 0)}{part}{'...' * (start + most < len(text))}")


# -- the data of a report


def data_differences(kept: ReportData, now: ReportData) -> list[str]:
    """Where the data kept in a report are not those that MLflow gives now."""
    differences = []
    kept_plan, plan = (
        json.loads(json.dumps(data.plan.to_dict(runs=False))) for data in (kept, now)
    )
    if kept_plan != plan:
        parts = [k for k in {**kept_plan, **plan} if kept_plan.get(k) != plan.get(k)]
        differences.append(f"{STUDY}: the study's plan is another now: {', '.join(sorted(parts))}")
    if kept.cost != now.cost:
        differences.append(f"{STUDY}: the measured costs are others now")
    if kept.profile != now.profile:
        differences.append(f"{STUDY}: the profile of the networks is another now")
    if kept.gallery != now.gallery:
        differences.append(f"{STUDY}: the test images that are shown are others now")
    for name, keys in KEYS.items():
        old, new = (getattr(data, name).reset_index(drop=True) for data in (kept, now))
        differences += [f"{name}.csv.gz: {d}" for d in _frame_differences(old, new, keys)]
    return differences


def record_differences(now: ReportData, store: Store, plan: PlanFile) -> list[str]:
    """Where MLflow's runs are not those of the records on disk."""
    runs, records = now.runs, records_frame(store, plan, now.cost)
    if plan.taken:  # neither MLflow nor the records have what was taken
        labels = [row.label for row in plan.rows]
        runs, records = (
            frame[frame["label"].isin(labels)].reset_index(drop=True) for frame in (runs, records)
        )
    differences = _frame_differences(runs, records, KEYS["runs"])
    return [f"MLflow against the records: {d}" for d in differences]


def _frame_differences(old: pd.DataFrame, new: pd.DataFrame, keys: list[str]) -> list[str]:
    differences = [
        *(f"the column '{c}' was there, and is not now" for c in old if c not in new),
        *(f"the column '{c}' is there now, and was not" for c in new if c not in old),
    ]
    if len(old) != len(new):
        return [*differences, f"{len(old)} lines, now {len(new)}"]
    for column in old.columns.intersection(new.columns, sort=False):
        a, b = old[column].astype(object), new[column].astype(object)
        for line in np.flatnonzero(~((a == b) | (a.isna() & b.isna())).to_numpy(bool)):
            name = ", ".join(f"{k} {new[k].iloc[line]}" for k in keys)
            differences.append(f"{name}: {column} is {a.iloc[line]!r}, now {b.iloc[line]!r}")
    return differences
