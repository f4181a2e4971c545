"""External results, of runs that kdbench did not make, as report data: one CSV file.

    method,setting,seed,score,cost
    kd,resnet8x4,0,73.1,120
    ...

`method` and `setting` are names; `seed` a whole number that pairs the methods of a
setting; `score` in percent (0 to 100, higher is better), empty for a run that failed;
`cost` (optional) a positive number in any unit, the same for all rows.

Scores of a setting that all lie between 0 and 1 are refused until the user says what they are:
taken for percent they would be judged against a margin a hundred times too wide, and taken for
fractions a true 0.5 % would become 50 %. Neither mistake shows in the table.
"""

import hashlib
import math
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from kdbench import __version__
from kdbench.records.bounded import CONTROL
from kdbench.records.plan_file import PlanFile, PlanRow
from kdbench.report.data.delimited import ALLOWED, Row, Rows, WrongResults, listing, read_rows
from kdbench.report.data.formulas import unescape_formula
from kdbench.report.data.report_data import CONFUSIONS, CURVES, TRIALS, ReportData
from kdbench.report.data.runs import COLUMNS, typed
from kdbench.stats import MODERATED

#: Numbers in ASCII: Python's `float` also reads `7_3.4` and digits of other scripts.
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
#: A seed, also as pandas writes it in a column that lacks one somewhere.
SEED = re.compile(r"(\d{1,25})(\.0*)?", re.ASCII)
MOST_SEED = 2**63 - 1


def read_results(
    path: Path,
    columns: Mapping[str, str] | None = None,
    setting: str = "",
    fractions: bool | None = None,
) -> pd.DataFrame:
    """The rows of a file of results, checked: `line` and the columns `ALLOWED`.

    `columns` and `setting` are as `read_rows` takes them. `fractions`: whether scores go from
    0 to 1 instead of to 100; None: to 100, and a setting without a score above 1 is refused.

    Raises `WrongResults` with every wrong row by its line number.
    """
    read = read_rows(path, columns or {}, setting)
    most = 1 if fractions else 100
    rows, faults = [], []
    decimal = _decimal(read)
    seen: dict[tuple[str, str, int | str], int] = {}
    for row in read.rows:
        values, wrong = _values(row, decimal, most)
        key = (values["method"], values["setting"], values["seed"])
        if key in seen:
            wrong.append(f"{key[0]}, {key[1]}, seed {key[2]} stands in line {seen[key]} already")
        seen.setdefault(key, row.line)
        faults += [f"line {row.line}: {fault}" for fault in wrong]
        rows.append({"line": row.line, **values})
    if faults or not rows:
        raise WrongResults(listing(path, faults or ["it holds no row"]))
    table = pd.DataFrame(rows, columns=["line", *ALLOWED])
    for column in ("score", "cost"):
        table[column] = pd.to_numeric(table[column])
    if fractions is None:
        _refuse_fractions(path, table)
    return table.assign(score=table["score"] * (100 / most))


def _decimal(read: Rows) -> str:
    """The decimal sign of the file: a comma where scores have one, commas do not separate cells,
    and no number has a point. (A cost alone may have commas between its thousands.)"""
    scores = "".join(row.cells["score"] for row in read.rows)
    costs = "".join(row.cells.get("cost", "") for row in read.rows)
    return "," if read.separator != "," and "," in scores and "." not in scores + costs else "."


def _values(row: Row, decimal: str, most: int) -> tuple[dict[str, Any], list[str]]:
    """The values of a row, and what is wrong with them."""
    values: dict[str, Any] = {}
    faults = [row.wrong] if row.wrong else []
    for name in ("method", "setting"):
        values[name] = unescape_formula(row.cells[name])
        if not values[name]:
            faults.append(f"the {name} is empty")
        if CONTROL.search(values[name]):
            faults.append(f"the {name} {values[name]!a} holds a control character")
    seed = SEED.fullmatch(row.cells["seed"])
    values["seed"] = int(seed[1]) if seed else row.cells["seed"]
    if not seed or values["seed"] > MOST_SEED:
        faults.append(f"the seed {row.cells['seed']!r} is no whole number from 0 to {MOST_SEED}")
    score, cost = row.cells["score"], row.cells.get("cost", "")
    values["score"] = _number(score, decimal) if score else None
    values["cost"] = _number(cost, decimal) if cost else None
    if score and not 0 <= values["score"] <= most:
        unit = "a fraction" if most == 1 else "percent"
        faults.append(f"the score {score!r} is no number from 0 to {most} ({unit}){_hint(score)}")
    if cost and not 0 < values["cost"] < math.inf:
        faults.append(f"the cost {cost!r} is no positive number{_hint(cost)}")
    return values, faults


def _number(text: str, decimal: str) -> float:
    if decimal == ",":
        text = text.replace(",", ".")
    return float(text) if NUMBER.fullmatch(text) else math.nan


def _hint(text: str) -> str:
    return "; write decimals with a point in all rows" if "," in text else ""


def _refuse_fractions(path: Path, table: pd.DataFrame) -> None:
    for setting, scores in table.dropna(subset="score").groupby("setting", sort=False):
        if scores["score"].max() <= 1:
            line, score = scores["line"].iloc[0], scores["score"].iloc[0]
            raise WrongResults(
                f"{path}: line {line}: the score {score:g}, and no score of setting {setting!r} is "
                "above 1. Say what they are: --fractions (0.73 is 73 %) or --no-fractions (0.73 "
                "is 0.73 %)"
            )


def lookalikes(rows: pd.DataFrame) -> list[str]:
    """A warning for methods, and settings, whose names differ only in capitals, spaces or
    width: they are judged as different."""
    warnings = []
    for column in ("method", "setting"):
        alike: dict[str, list[str]] = {}
        for name in rows[column].unique():
            folded = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
            alike.setdefault(folded, []).append(name)
        warnings += [
            f"warning: {' and '.join(map(repr, names))} count as {len(names)} {column}s"
            for names in alike.values()
            if len(names) > 1
        ]
    return warnings


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
    price = {k: {"training": v} for k, v in relative.items() if not math.isnan(v)}
    lines: list[dict[str, Any]] = []
    rows = []
    for method, runs in group.groupby("method", sort=False):
        seeds = {str(s): f"line {n}" for s, n in zip(runs["seed"], runs["line"], strict=True)}
        rows.append(PlanRow(str(method), "only", str(method), runs=seeds))
        for run in runs.to_dict("records"):
            lines.append(_line(run))
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
        software={"kdbench": (__version__,)},
    )


def _line(run: dict[Any, Any]) -> dict[str, Any]:
    failed = math.isnan(run["score"])
    return {
        "label": run["method"], "row": "only", "method": run["method"], "seed": run["seed"],
        "id": f"line {run['line']}", "name": f"{run['method']} seed {run['seed']}",
        "state": "failed" if failed else "done",
        "reason": "no score was given" if failed else None,
        "accuracy": None if failed else run["score"] / 100,
        "hparams": "{}",
    }  # fmt: skip


def _hash(group: pd.DataFrame) -> str:
    kept = group[list(ALLOWED)].to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(kept.encode()).hexdigest()[:12]
