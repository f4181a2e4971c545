"""The leaderboard in MLflow: each method's row on the run above its runs, and saved views of them.

MLflow keeps a saved view in a tag of the experiment, in a form of its own that is not documented:
a version that does not know it shows the plain list of runs.
"""

import base64
import json
import math
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdbench.tracking.experiment import preference
from kdbench.tracking.payload import metric_name

#: What the metrics of a row begin with, and its tags.
SECTION, TAG = "leaderboard/", "leaderboard."

#: A tag of the experiment that begins so holds a saved view; its name there is in the link.
VIEW = "mlflow.sharedViewState."

#: The names of the views, and their titles.
LEADERBOARD, FINALS = "leaderboard", "finals"
TITLES = {LEADERBOARD: "Leaderboard", FINALS: "All final runs"}


@dataclass(frozen=True)
class MethodRow:
    """What the leaderboard says of a method: its numbers and its texts, by column."""

    label: str
    numbers: Mapping[str, float]
    texts: Mapping[str, str]


@dataclass(frozen=True)
class MethodTable:
    """The rows that stand for the methods, best first. `shown` names the columns of the first
    view, `score` the one that it is sorted by, and `finals` the metrics of the second, the first
    of which it is sorted by."""

    rows: Sequence[MethodRow]
    shown: Sequence[str]
    score: str
    finals: Sequence[str]


def log_table(client: Any, experiment: str, table: MethodTable) -> None:
    """Log each row on its method's run, and save the views. What a row has no more is logged as
    NaN, as MLflow removes no metric. Raises what MLflow raises."""
    found = client.search_runs([experiment], "tags.`kdbench.kind` = 'method'", max_results=10_000)
    runs = {
        run.data.tags.get("kdbench.group"): run
        for run in sorted(found, key=preference, reverse=True)
    }
    for rank, row in enumerate(table.rows, 1):
        if run := runs.get(row.label):  # rows taken from a report have no runs here
            _log_row(client, run, rank, row)
    for name, state in views(table).items():
        _save_view(client, experiment, name, state)


def _log_row(client: Any, run: Any, rank: int, row: MethodRow) -> None:
    from mlflow.entities import Metric, RunTag

    numbers = {metric_name(SECTION + name): value for name, value in row.numbers.items()}
    numbers[f"{SECTION}rank"] = float(rank)
    before = {k: v for k, v in run.data.metrics.items() if k.startswith(SECTION)}
    after = dict.fromkeys(before, math.nan) | numbers
    changed = {k: v for k, v in after.items() if not _same(before.get(k), v)}
    texts = {metric_name(TAG + name): text for name, text in row.texts.items()}
    now = int(time.time() * 1000)
    client.log_batch(
        run.info.run_id,
        [Metric(name, value, now, 0) for name, value in changed.items()],
        (),
        [RunTag(name, text) for name, text in texts.items() if run.data.tags.get(name) != text],
    )
    for name in run.data.tags:
        if name.startswith(TAG) and name not in texts:
            client.delete_tag(run.info.run_id, name)


def _same(before: float | None, after: float) -> bool:
    return before is not None and (before == after or (math.isnan(before) and math.isnan(after)))


def views(table: MethodTable) -> dict[str, dict[str, Any]]:
    """The state of MLflow's page of runs in each view, by name: which runs, in which order and
    with which columns."""
    texts = {name for row in table.rows for name in row.texts}
    shown = [
        f"tags.`{metric_name(TAG + name)}`"
        if name in texts
        else f"metrics.`{metric_name(SECTION + name)}`"
        for name in table.shown
    ]
    finals = [f"metrics.`{name}`" for name in table.finals]
    tags = [f"tags.`kdbench.{name}`" for name in ("label", "row", "seed", "state")]
    return {
        LEADERBOARD: _view(
            f"metrics.`{SECTION}rank` > 0", f"metrics.`{metric_name(SECTION + table.score)}`", shown
        ),
        FINALS: _view("tags.`kdbench.kind` = 'final'", finals[0], [*finals, *tags]),
    }


def _view(which: str, order: str, columns: Sequence[str]) -> dict[str, Any]:
    return {
        "searchFilter": which,
        "orderByKey": order,
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
    }


def _save_view(client: Any, experiment: str, name: str, state: Mapping[str, Any]) -> None:
    """Save a view unless it is there as it is; `createdAt` is in milliseconds since 1970."""
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    value: dict[str, Any] = {"name": TITLES[name], "state": f"deflate;{packed}"}
    before = json.loads(client.get_experiment(experiment).tags.get(VIEW + name, "{}"))
    if {key: before.get(key) for key in value} != value:
        now = int(time.time() * 1000)
        value |= {"createdAt": before.get("createdAt", now), "updatedAt": now}
        client.set_experiment_tag(experiment, VIEW + name, json.dumps(value))
