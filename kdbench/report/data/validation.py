"""Reading the files of a report, which may come from somebody else: bounded, then checked.

What is read from them is written into pages, LaTeX and terminals, and sizes what is computed,
so the types are those that were declared, texts hold no control characters, and no number asks
for a table that no study has.
"""

import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from kdbench.errors import KdbenchError
from kdbench.records.bounded import MOST_TEXT, gunzip, read_bounded, refuse_control
from kdbench.records.galleries import Gallery
from kdbench.records.measures import MEASURES
from kdbench.records.plan_file import PlanFile
from kdbench.records.profiles import Profile
from kdbench.records.summary import LARGEST_STEP
from kdbench.registry import KEY, Paper
from kdbench.report.data.formulas import unescape_formulas

#: Bytes of a table of the report: the curves of a thousand runs of 240 epochs are 100 MB.
MOST_TABLE = 256 << 20
#: Rows of a leaderboard.
MOST_ROWS = 1000
#: Cells of all confusion matrices: 60 rows and 1,000 classes.
MOST_CELLS = 1 << 26
#: Numbers of all curves, with their gaps.
MOST_POINTS = 1 << 24


class UnreadableReport(KdbenchError):
    """The files of a report cannot be read, or are of another format."""


def parse_json(path: Path, folder: Path) -> Any:
    """The JSON of a file in a report's folder. Raises `ValueError`, and `OSError` where the file
    cannot be read or leads out of the folder."""
    value = json.loads(read_bounded(path, folder, MOST_TEXT))
    refuse_control(value)
    return value


# -- the plan


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def checked_plan(raw: Any) -> PlanFile:
    """The plan with every part of its declared type. Raises `ValueError`."""
    try:
        plan: PlanFile = _adapter(PlanFile).validate_python(PlanFile.from_dict(raw).to_dict())
    except (AttributeError, TypeError, KeyError, ValueError, RecursionError) as error:
        raise ValueError(f"its plan is none of kdbench's: {reason(error)}") from error
    if plan.measure not in MEASURES:
        raise ValueError(f"its measure {plan.measure!r:.60} is none of {', '.join(MEASURES)}")
    if not 0 <= plan.margin < float("inf"):
        raise ValueError(f"its margin is {plan.margin}")
    if len(plan.rows) > MOST_ROWS:
        raise ValueError(f"it has {len(plan.rows):,} rows, more than the {MOST_ROWS:,} allowed")
    for key, fields in plan.references.items():
        try:
            _adapter(Paper).validate_python({"key": key, **fields})
        except (TypeError, ValueError) as error:
            raise ValueError(f"its reference {key!r} is none: {reason(error)}") from error
    for number in plan.published:
        _adapter(Mapping[str, str | float | None]).validate_python(dict(number))
        if not isinstance(number.get("label"), str) or not _is_number(number.get("accuracy")):
            raise ValueError(f"a published number of it is none: {dict(number)!r:.200}")
    for cite in (*(r.cite for r in plan.rows), *(n.get("cite") for n in plan.published)):
        if cite is not None and not (isinstance(cite, str) and KEY.fullmatch(cite)):
            raise ValueError(f"{cite!r:.60} is no citation key")
    return plan


def checked_cost(raw: Any) -> Mapping[str, Any]:
    """The measured costs: texts, and numbers by row. Raises `ValueError`."""
    numbers = Mapping[str, float | None]
    cost: Mapping[str, Any] = _adapter(Mapping[str, str | Mapping[str, numbers]]).validate_python(
        raw
    )
    if not isinstance(cost.get("rows", {}), Mapping):
        raise ValueError("its costs have no rows")
    return cost


def checked_profile(raw: Any) -> Profile | None:
    """What was measured of the networks, if it was. Raises `ValueError`."""
    try:
        return None if raw is None else Profile.from_dict(raw)
    except ValueError as error:
        raise ValueError(f"its profile is none of kdbench's: {reason(error)}") from error


def checked_gallery(raw: Any, plan: PlanFile) -> Gallery | None:
    """The test images that it shows, if it does. Raises `ValueError`."""
    try:
        gallery = None if raw is None else Gallery.from_dict(raw)
        if gallery:
            gallery.check_classes(len(plan.data.classes) if plan.data else 0)
        return gallery
    except ValueError as error:
        raise ValueError(f"its test images are none of kdbench's: {reason(error)}") from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def reason(error: Exception) -> str:
    """What an error says, on one line: of pydantic's the first, and where; of an `OSError`
    without the path."""
    if errors := getattr(error, "errors", None):
        first = errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


# -- the tables


def read_table(path: Path, folder: Path, columns: Sequence[str], dtypes: Any) -> pd.DataFrame:
    """A table of a report, whose file is compressed CSV. Raises `ValueError` where it has other
    columns or cannot be read, and `OSError` as `read_bounded` does."""
    content = gunzip(path, read_bounded(path, folder, MOST_TABLE), MOST_TABLE)
    header, _, _ = content.partition(b"\n")
    if header.decode().rstrip("\r") != ",".join(columns):
        raise ValueError(f"{path.name} has other columns")
    # Only an empty cell is none: a method may be called NA.
    table = pd.read_csv(
        io.BytesIO(content), dtype=dtypes, index_col=False, keep_default_na=False, na_values=[""]
    )
    for name in table.columns:
        if pd.api.types.is_string_dtype(table[name]) or table[name].dtype == object:
            for text in table[name].dropna().unique():
                refuse_control(str(text))
    return unescape_formulas(table)


def check_tables(
    plan: PlanFile, curves: pd.DataFrame, trials: pd.DataFrame, confusions: pd.DataFrame
) -> None:
    """Raise `ValueError` where the tables ask for more than a study can have."""
    classes = len(plan.data.classes) if plan.data else 0
    if len(plan.rows) * classes**2 > MOST_CELLS:
        raise ValueError(f"its {len(plan.rows)} rows have {classes:,} classes, more than allowed")
    for name in ("expected", "predicted"):
        _in_range(confusions[name], "confusions", classes - 1)
    _in_range(confusions["count"], "confusions", 2**40)
    _in_range(curves["epoch"], "curves", MOST_POINTS)
    _numbers(curves["value"], "curves")
    points = curves.groupby(["id", "metric"])["epoch"].max().sum()
    if points > MOST_POINTS:
        raise ValueError(f"its curves have {points:,} epochs, more than allowed")
    _in_range(trials["number"], "trials", 2**40)
    _numbers(trials["accuracy"], "trials")
    for name in trials.columns.intersection(["nll", "confirmed"]):
        _numbers(trials[name], "trials")
    hparams = [json.loads(text) for text in trials["hparams"]]
    if not all(isinstance(values, dict) for values in hparams):
        raise ValueError("a trial has no hyperparameters")
    names = {name for values in hparams for name in values}
    if len(hparams) * len(names) > MOST_POINTS:
        raise ValueError(f"its trials have {len(names):,} hyperparameters, more than allowed")


def check_runs(runs: pd.DataFrame) -> None:
    """Raise `ValueError` where a score of a run, or what an image counts, is none."""
    for name in (*(measure.column for measure in MEASURES.values()), LARGEST_STEP):
        if name in runs and not runs[name].dropna().between(0, 1).all():
            raise ValueError(f"a run's {name} is not between 0 and 1")


def _numbers(column: pd.Series, table: str) -> None:
    if len(column) and not pd.api.types.is_numeric_dtype(column):
        raise ValueError(f"{column.name} in its {table} is not a number everywhere")


def _in_range(column: pd.Series, table: str, high: int) -> None:
    if len(column) and not (
        pd.api.types.is_integer_dtype(column) and column.between(0, high).all()
    ):
        raise ValueError(f"{column.name} in its {table} is not a whole number from 0 to {high}")
