"""What the commands on reports do; each prints to `console` and returns what `--json` prints."""

import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from kdbench import tracking
from kdbench.cli.app import UsageError
from kdbench.cli.progress import print_line
from kdbench.cli.shell import shown_path
from kdbench.records.bounded import printable
from kdbench.records.check import check_record
from kdbench.records.checksummed import damaged_files
from kdbench.records.layout import require_layout
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.records.students import pooled_studies, studies_of
from kdbench.report.check import check_report, data_differences, record_differences
from kdbench.report.compare import compare_rows, comparison_sentences, comparison_table
from kdbench.report.data import external
from kdbench.report.data.collect import collect_report_data, no_plan
from kdbench.report.data.report_data import NoReportData, ReportData, load
from kdbench.report.forecast import (
    effects_table,
    forecast_seeds,
    forecast_sentences,
    forecast_table,
)
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.method_table import method_table
from kdbench.report.page.all_reports import write_all_reports
from kdbench.report.page.run_pages import write_run_pages
from kdbench.report.pooled import PooledTable, pool_settings
from kdbench.report.pooled_table import pooled_document, pooled_frame, write_pooled
from kdbench.report.write import PAGE, write_report
from kdbench.report.writers.console import TerminalTable, terminal_document

Content = dict[str, Any]


def report_studies(
    root: Path, names: Sequence[str], console: Console, columns: tuple[str, ...] = ()
) -> list[Content]:
    """Write the reports of studies; two or more are also pooled. The name of a file with several
    students stands for its studies. `columns` are chosen for the tables in a paper.

    A study that never ran in this root but has a report in it (as in a fresh clone) is drawn
    again from the report's numbers.
    """
    require_layout(root)
    store = Store(root)
    say = partial(print_line, console)
    studies = [study for name in names for study in studies_of(store, name)]
    has_run = {study: store.plan_path(study).exists() for study in studies}
    reports = {
        study: collect_report_data(store, study, say) if has_run[study] else _kept(store, study)
        for study in studies
    }
    contents = []
    for name, data in reports.items():
        folder = store.report_folder(name)
        board = _publish(_with(columns, data), folder, console)
        contents.append(leaderboard_content(board, folder))
        if has_run[name] and not data.from_records:
            uri = tracking.tracking_uri(root)
            table = method_table(board)
            tracking.attach_report(store, name, uri, folder, board.answer, table)
            write_run_pages(store, data)
        elif not has_run[name]:
            print_line(console, "(no runs in this root: from the numbers that the report keeps)")
    if len(reports) > 1:
        name = "+".join(dict.fromkeys(names))
        places = {part: f"../{part}" for part in reports}
        pooled, home = pool_settings(name, reports), store.report_folder(name)
        contents.append(_publish_pooled(pooled, home, places, console))
    return contents


def _kept(store: Store, study: str) -> ReportData:
    """The numbers that a committed report keeps. Raises `FileNotFoundError`."""
    try:
        return load(store.report_folder(study))
    except NoReportData:
        raise FileNotFoundError(no_plan(store, study)) from None


@dataclass(frozen=True)
class ResultsFile:
    """A file of results, and how it is to be read: as `external.read_results` takes it."""

    path: Path
    columns: Mapping[str, str]
    setting: str
    fractions: bool | None


def report_results(
    root: Path,
    source: ResultsFile,
    reference: str,
    margin: float,
    shared: bool,
    console: Console,
    columns: tuple[str, ...] = (),
) -> list[Content]:
    """Write the reports of external results: one a setting, and a pooled one of two or more.

    `shared`: whether a seed means the same random streams in all settings. Raises `UsageError`
    unless the margin is above 0.
    """
    if not margin > 0:
        raise UsageError("--margin: the points that are practically equal must be more than 0")
    name = printable(source.path.stem)
    rows = external.read_results(source.path, source.columns, source.setting, source.fractions)
    for warning in external.lookalikes(rows):
        print(printable(warning), file=sys.stderr)
    split = external.split_settings(rows, printable(source.path.name), reference, margin)
    settings = {setting: _with(columns, data) for setting, data in split.items()}
    store = Store(root)
    home = store.report_folder(name)
    if len(settings) == 1:
        board = _publish(next(iter(settings.values())), home, console)
        return [leaderboard_content(board, home)]
    pooled = pool_settings(name, settings, shared)  # before any file is written
    places = _folders(settings)
    folders = {setting: store.report_folder(name, place) for setting, place in places.items()}
    contents = [
        leaderboard_content(_publish(data, folders[setting], console), folders[setting])
        for setting, data in settings.items()
    ]
    write_all_reports(home.parent)  # that of `home` was written with its reports
    return [*contents, _publish_pooled(pooled, home, places, console)]


def _folders(settings: Iterable[str]) -> dict[str, str]:
    """A folder's name for each setting: no separators, no leading dots, no two alike."""
    folders: dict[str, str] = {}
    for number, setting in enumerate(settings):
        folder = re.sub(r"[^\w.-]+", "-", setting).lstrip(".") or "setting"
        folders[setting] = f"{folder}-{number}" if folder in folders.values() else folder
    return folders


def _with(columns: tuple[str, ...], data: ReportData) -> ReportData:
    return replace(data, columns=columns) if columns else data


def _publish(data: ReportData, folder: Path, console: Console) -> Leaderboard:
    board, _ = write_report(data, folder)
    console.print(TerminalTable(board))
    print_line(console, f"leaderboard  {shown_path(folder / PAGE)}")
    return board


def _publish_pooled(
    table: PooledTable, folder: Path, places: dict[str, str], console: Console
) -> Content:
    write_pooled(table, folder, places)
    show_pooled(table, folder, console)
    return pooled_content(table, folder)


def show_pooled(table: PooledTable, folder: Path, console: Console) -> None:
    """Print a pooled table, and where its files are."""
    console.print(terminal_document(pooled_document(table), columns=5))
    print_line(console, f"pooled       {shown_path(folder)}")


def leaderboard_content(board: Leaderboard, folder: Path) -> Content:
    """A leaderboard for `--json`: its answer, rows, captions and notes, and where its files are."""
    return {
        "study": board.study,
        "question": board.question,
        "reference": board.reference,
        "selection": board.selection,
        "complete": not board.incomplete,
        "folder": folder,
        "rows": board.table,
        "answer": board.answer,
        "captions": board.captions,
        "notes": board.notes,
    }


def pooled_content(table: PooledTable, folder: Path) -> Content:
    """A pooled table for `--json`."""
    return {
        "pooled": table.name,
        "settings": list(table.digests),
        "reference": table.reference,
        "folder": folder,
        "rows": pooled_frame(table),
    }


def check(path: Path, runs: bool, root: Path, console: Console) -> Content:
    """Compare a report's file, or all of its files, with the runs beside it, and with `runs`
    those with MLflow and the records; of a folder of pooled studies those of each study too. `ok`
    is False where anything differs."""
    store = Store(root)
    differences = check_report(path)
    parts = pooled_studies(path) if path.is_dir() else ()
    for part in parts:
        differences += [f"{part}: {line}" for line in check_report(path.parent / part)]
    if runs:
        folder = path if path.is_dir() else path.parent
        for place in [folder.parent / part for part in parts] or [folder]:
            differences += _check_runs(place, store, console)
    for difference in differences:
        print_line(console, difference)
    verdict = "differs from its runs" if differences else "every number is what its runs give"
    print_line(console, verdict)
    return {"path": path, "ok": not differences, "differences": differences}


def _check_runs(folder: Path, store: Store, console: Console) -> list[str]:
    kept = load(folder)
    study = kept.plan.study
    require_layout(store.root)
    plan = PlanFile.load(store.plan_path(study))
    if plan and (damage := _damage(store, plan)):
        return damage  # and so nothing that could be compared
    now = collect_report_data(store, study, partial(print_line, console))
    assert plan is not None, "the report was made from it a moment ago"
    return [*data_differences(kept, now), *record_differences(now, store, plan)]


def _damage(store: Store, plan: PlanFile) -> list[str]:
    """What is damaged of a plan's records and of the root's cached outputs. Reads all of them."""
    records = store.records(plan.listing)
    damage = [f"{record.folder}/{fault}" for record in records for fault in check_record(record)]
    damage += [f"{path}: its checksum differs" for path in damaged_files(store.output_cache)]
    return [f"{line} (`kdbench doctor` moves what is damaged)" for line in damage]


def of_each(root: Path, name: str, content: Callable[[Path], Content]) -> Content | list[Content]:
    """What `content` gives for a study's report folder; a list of them for the name of a file
    with several students."""
    store = Store(root)
    contents = [content(store.report_folder(study)) for study in studies_of(store, name)]
    return contents if len(contents) > 1 else contents[0]


def compare(folder: Path, first: str, second: str, console: Console) -> Content:
    """Compare one pair of rows of the report in `folder`, seed by seed."""
    pair = compare_rows(load(folder), first, second)
    console.print(comparison_table(pair))
    sentences = list(comparison_sentences(pair))
    for sentence in sentences:
        print_line(console, sentence)
    return {
        "study": pair.study,
        "first": pair.first,
        "second": pair.second,
        "scores": {"first": pair.scores[0], "second": pair.scores[1]},
        "verdict": pair.verdict,
        "sentences": sentences,
    }


def power(folder: Path, difference: float, console: Console) -> Content:
    """The seeds and hours to detect a difference in the report in `folder`. Raises `UsageError`
    unless it is above 0 and finite."""
    if not 0 < difference < math.inf:
        raise UsageError("--detect: the difference to detect must be more than 0, and finite")
    result = forecast_seeds(load(folder), difference)
    console.print(forecast_table(result))
    console.print(effects_table(result))
    sentences = list(forecast_sentences(result))
    for sentence in sentences:
        print_line(console, sentence)
    return {
        "study": result.study,
        "difference": result.difference,
        "comparisons": result.comparisons,
        "test": result.analysis.test,
        "typical_seeds": result.typical.seeds,
        "hours": result.hours(result.typical.seeds),
        "needs": result.needs,
        "effects": result.effects,
        "sentences": sentences,
    }
