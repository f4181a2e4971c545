"""External results, of runs that kdbench did not make, as report data: one CSV file.

    method,setting,seed,score,cost
    kd,resnet8x4,0,73.1,120
    ...

`method` and `setting` are names; `seed` a whole number that pairs the methods of a
setting; `score` in percent (0 to 100, higher is better), empty for a run that failed;
`cost` (optional) a positive number in any unit, the same for all rows.
"""

import csv
import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from kdbench.errors import KdbenchError
from kdbench.records.plan_file import PlanFile, PlanRow
from kdbench.report.data.report_data import CONFUSIONS, CURVES, TRIALS, ReportData
from kdbench.report.data.runs import COLUMNS, typed
from kdbench.stats import MODERATED

REQUIRED = ("method", "setting", "seed", "score")
ALLOWED = (*REQUIRED, "cost")
MOST = 20
"""Wrong rows named at the most; the rest are counted."""


class WrongResults(KdbenchError):
    """A file of results that cannot be read; the message lists its wrong rows."""


def read_results(path: Path) -> pd.DataFrame:
    """The rows of a file of results, checked: `line` and the columns `ALLOWED`.

    Raises `WrongResults` with every wrong row by its line number.
    """
    rows, faults = _read(path)
    faults = [f"  {f}" for f in faults] or [f"  line {n}: {f}" for n, f in _faults(rows)]
    if not rows and not faults:
        faults = ["  it holds no row"]
    if faults:
        more = [f"  ... and {len(faults) - MOST} more"] if len(faults) > MOST else []
        raise WrongResults("\n".join([f"{path}: wrong rows", *faults[:MOST], *more]))
    table = pd.DataFrame(rows, columns=["line", *ALLOWED])
    table["seed"] = table["seed"].astype(int)
    for column in ("score", "cost"):
        table[column] = pd.to_numeric(table[column])
    return table


def _read(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows as texts with their line numbers, and faults of the file as a whole."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="more", restval="", strict=True)
            headers = [str(h).strip() for h in reader.fieldnames or ()]
            faults = [f"line 1: the column {c!r} is missing" for c in REQUIRED if c not in headers]
            faults += [
                f"line 1: the column {c!r} is unknown; there are {', '.join(ALLOWED)}"
                for c in headers
                if c not in ALLOWED
            ]
            reader.fieldnames = headers
            rows = [{"cost": ""} | row | {"line": reader.line_num} for row in reader]
    except FileNotFoundError:
        raise WrongResults(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise WrongResults(f"{path}: not readable as CSV: {reason}") from None
    texts = [{k: v.strip() if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    return [row for row in texts if any(row.get(c) for c in ALLOWED)], faults


def _faults(rows: list[dict[str, Any]]) -> Iterator[tuple[int, str]]:
    seen: dict[tuple[str, str, str], int] = {}
    for row in rows:
        line = row["line"]
        if "more" in row:
            yield line, f"{len(row['more'])} more cells than the header has columns"
        for name in ("method", "setting"):
            if not row[name]:
                yield line, f"the {name} is empty"
        if not row["seed"].isdecimal():
            yield line, f"the seed {row['seed']!r} is no whole number from 0 on"
        if row["score"] and not 0 <= _number(row["score"]) <= 100:
            yield line, f"the score {row['score']!r} is no number from 0 to 100 (percent)"
        if row["cost"] and not 0 < _number(row["cost"]) < math.inf:
            yield line, f"the cost {row['cost']!r} is no positive number"
        key = (row["method"], row["setting"], row["seed"])
        if key in seen:
            yield line, f"{key[0]}, {key[1]}, seed {key[2]} stands in line {seen[key]} already"
        seen.setdefault(key, line)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def split_settings(
    rows: pd.DataFrame, name: str, reference: str, margin: float
) -> dict[str, ReportData]:
    """The report data of each setting, in the file's order. `name` is the report's; an empty
    `reference` is the file's first method.

    Raises `WrongResults` where a setting lacks the reference.
    """
    reference = reference or str(rows["method"].iloc[0])
    settings = {}
    for setting, group in rows.groupby("setting", sort=False):
        if reference not in set(group["method"]):
            methods = ", ".join(dict.fromkeys(group["method"]))
            raise WrongResults(
                f"setting {setting}: no method {reference!r} to compare with; name one of "
                f"{methods} with --reference"
            )
        settings[str(setting)] = _report_data(group, str(setting), name, reference, margin)
    return settings


def _report_data(
    group: pd.DataFrame, setting: str, name: str, reference: str, margin: float
) -> ReportData:
    costs = group.groupby("method")["cost"].mean()
    relative = {str(k): float(v / costs[reference]) for k, v in costs.items()}
    price = {k: {"relative": v} for k, v in relative.items() if not math.isnan(v)}
    lines: list[dict[str, Any]] = []
    rows = []
    for method, runs in group.groupby("method", sort=False):
        seeds = {str(s): f"line {n}" for s, n in zip(runs["seed"], runs["line"], strict=True)}
        rows.append(PlanRow(str(method), "only", str(method), runs=seeds))
        for run in runs.to_dict("records"):
            lines.append(_line(run, relative))
    plan = PlanFile(
        study=setting,
        selection="as given",
        question=f"Results of {name}.",
        hash=_hash(group),
        reference=reference,
        margin=margin,
        test=MODERATED,
        complete=True,
        rows=tuple(rows),
        score="Score",
    )
    runs_frame = typed(pd.DataFrame(lines, columns=list(COLUMNS), dtype=object))
    return ReportData(
        plan,
        {"rows": price},
        runs_frame,
        pd.DataFrame(columns=list(CURVES)),
        pd.DataFrame(columns=list(TRIALS)),
        pd.DataFrame(columns=list(CONFUSIONS)),
    )


def _line(run: dict[Any, Any], relative: dict[str, float]) -> dict[str, Any]:
    failed = math.isnan(run["score"])
    return {
        "label": run["method"], "row": "only", "method": run["method"], "seed": run["seed"],
        "id": f"line {run['line']}", "name": f"{run['method']} seed {run['seed']}",
        "state": "failed" if failed else "done",
        "reason": "no score was given" if failed else None,
        "accuracy": None if failed else run["score"] / 100,
        "measured.relative": relative.get(run["method"]), "hparams": "{}",
    }  # fmt: skip


def _hash(group: pd.DataFrame) -> str:
    kept = group[list(ALLOWED)].to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(kept.encode()).hexdigest()[:12]
