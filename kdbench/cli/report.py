"""What the commands on reports do; each gives the exit code."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from kdbench import tracking as track
from kdbench.records.files import read_json
from kdbench.records.store import Store
from kdbench.report import check as checking
from kdbench.report import compare as comparing
from kdbench.report import forecast as detecting
from kdbench.report import pooled as several
from kdbench.report import pooled_table
from kdbench.report import write as files
from kdbench.report.data import external as outside
from kdbench.report.data.collect import Behind, gather, no_plan
from kdbench.report.data.report_data import NoReportData, ReportData, load
from kdbench.report.writers.console import terminal, terminal_sheet


def studies(root: Path, names: Sequence[str], console: Console) -> int:
    """The reports of studies, from MLflow; several are also pooled. A study that never ran in
    this root but has a report in it (a fresh clone) is drawn again from the report's numbers."""
    store = Store(root)
    ran = {name: store.plan_path(name).exists() for name in names}
    found = {name: gather(store, name) if ran[name] else _kept(store, name) for name in names}
    for name, evidence in found.items():
        folder = store.report_folder(name)
        _publish(evidence, folder, console)
        if ran[name]:
            track.attach_report(store, name, track.tracking_uri(root), folder)
        else:
            say(console, "(no runs in this root: from the numbers that the report keeps)")
    if len(found) > 1:
        name = "+".join(found)
        places = {part: f"../{part}" for part in found}
        _pool(name, found, None, store.report_folder(name), places, console)
    return 0


def _kept(store: Store, study: str) -> ReportData:
    try:
        return load(store.report_folder(study))
    except NoReportData:
        raise FileNotFoundError(no_plan(store, study)) from None


def elsewhere(
    root: Path, results: Path, reference: str, margin: float, shared: bool, console: Console
) -> int:
    """The reports of runs made elsewhere: one a setting, and pooled where there are several."""
    name = results.stem
    rows = outside.read_results(results)
    found = outside.settings(rows, results.name, reference, margin)
    home = Store(root).report_folder(name)
    if len(found) == 1:
        _publish(next(iter(found.values())), home, console)
        return 0
    places = _folders(found)
    for setting, evidence in found.items():
        _publish(evidence, home / places[setting], console)
    _pool(name, found, shared, home, places, console)
    return 0


def _folders(names: Iterable[str]) -> dict[str, str]:
    """A folder's name for each setting: no separators, no dots in front, none twice."""
    found: dict[str, str] = {}
    for number, name in enumerate(names):
        folder = re.sub(r"[^\w.-]+", "-", name).lstrip(".") or "setting"
        found[name] = f"{folder}-{number}" if folder in found.values() else folder
    return found


def _publish(evidence: ReportData, folder: Path, console: Console) -> None:
    board, _ = files.write(evidence, folder)
    console.print(terminal(board))
    say(console, f"leaderboard  {folder}")


def _pool(
    name: str,
    found: dict[str, ReportData],
    shared: bool | None,
    folder: Path,
    places: dict[str, str],
    console: Console,
) -> None:
    pooled = several.several(name, found, shared)
    pooled_table.write(pooled, folder, places)
    console.print(terminal_sheet(pooled_table.sheet(pooled), columns=5))
    say(console, f"pooled       {folder}")


def check(path: Path, runs: bool, root: Path, console: Console) -> int:
    """Hold a report's file, or all of its files, to the runs beside it, and with `runs`
    those to MLflow and the records. 1 where anything differs."""
    faults = checking.check(path)
    if runs:
        faults += _check_runs(path if path.is_dir() else path.parent, Store(root), console)
    for fault in faults:
        say(console, fault)
    say(console, "differs from its runs" if faults else "every number is what its runs give")
    return 1 if faults else 0


def _check_runs(folder: Path, store: Store, console: Console) -> list[str]:
    kept = load(folder)
    study = str(kept.plan["study"])
    try:
        now = gather(store, study)
    except Behind as error:
        say(console, f"{error} ... doing that first")
        track.sync(store, study, track.tracking_uri(store.root))
        now = gather(store, study)
    plan = read_json(store.plan_path(study))
    records = checking.against_records(now, store, plan)
    return [*checking.differences(kept, now), *records]


def compare(root: Path, study: str, first: str, second: str, console: Console) -> int:
    """One pair, seed by seed."""
    pair = comparing.compare(load(Store(root).report_folder(study)), first, second)
    console.print(comparing.table(pair))
    for sentence in comparing.sentences(pair):
        say(console, sentence)
    return 0


def power(root: Path, study: str, difference: float, console: Console) -> int:
    """The seeds and hours to detect a difference."""
    if not difference > 0:
        raise detecting.NothingStored("--detect: the difference to detect must be more than 0")
    found = detecting.forecast(load(Store(root).report_folder(study)), difference)
    console.print(detecting.table(found))
    for sentence in detecting.sentences(found):
        say(console, sentence)
    return 0


def say(console: Console, text: str) -> None:
    """A line as it is: nothing in it is markup, and a path stays whole."""
    console.print(Text(text), soft_wrap=True, highlight=False)
