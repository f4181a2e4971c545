"""What a study's experiment holds, as pandas frames; reports read all numbers this way."""

import gc
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kdbench.tracking.experiment import find_experiment
from kdbench.tracking.payload import record_name

if TYPE_CHECKING:
    import pandas as pd

#: Metrics that are no curves, by what the records call them.
SINGLE = ("test.", "test_best.", "cost.")

#: SQLite takes a limited number of values in one query.
CHUNK = 500


@contextmanager
def without_collections() -> Iterator[None]:
    """Let Python's garbage collector rest. MLflow makes a hundred objects a run, all of which
    stay, and going through them again and again takes as long as reading them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@without_collections()
def search(study: str, uri: str, trials: bool = True) -> "pd.DataFrame":
    """The experiment's runs, oldest first, from `mlflow.search_runs`: one row a run, those
    of tuning left out unless `trials`.

    Columns are MLflow's: `run_id`, `status`, `params.*` (text), `metrics.*`, `tags.*`.
    The groups' and the study's own runs are rows too, told apart by
    `tags.kdbench.kind`; of two runs with one `kdbench.id` the finished or older one is
    given. Raises `UnknownExperiment`.
    """
    find_experiment(study, uri)
    import mlflow

    with tracking_at(uri):
        frame = mlflow.search_runs(
            experiment_names=[study],
            filter_string="" if trials else "tags.`kdbench.kind` != 'trial'",
            max_results=1_000_000,
            order_by=["attributes.start_time ASC"],
        )
    if "tags.kdbench.id" not in frame:
        return frame
    ids, unfinished = frame["tags.kdbench.id"], frame["status"] != "FINISHED"
    order = unfinished.sort_values(kind="stable").index
    duplicate = ids.notna() & ids.loc[order].duplicated().reindex(frame.index)
    return frame[~duplicate].reset_index(drop=True)


def curves(
    study: str, uri: str, ids: Iterable[str] | None = None, frame: "pd.DataFrame | None" = None
) -> "pd.DataFrame":
    """The metrics over epochs of the runs in `ids` (all by default), one row a value.

    `frame` is the result of `search`, where the caller has it. Columns: `id`, `epoch`,
    `metric` as the records call it, `value`, sorted by the first three. Raises
    `UnknownExperiment`.
    """
    import pandas as pd

    client, _ = find_experiment(study, uri)
    listed = search(study, uri) if frame is None else frame
    if "tags.kdbench.id" not in listed:
        return pd.DataFrame([], columns=["id", "epoch", "metric", "value"])
    wanted = listed["tags.kdbench.id"].notna()
    if ids is not None:
        wanted &= listed["tags.kdbench.id"].isin(set(ids))
    listed = listed[wanted].dropna(axis=1, how="all")
    runs = dict(zip(listed["run_id"], listed["tags.kdbench.id"], strict=True))
    columns = [str(c) for c in listed]
    metrics = [c.removeprefix("metrics.") for c in columns if c.startswith("metrics.")]
    rows = [
        (runs[run], step, record_name(key), value)
        for key in sorted(m for m in metrics if not record_name(m).startswith(SINGLE))
        for run, step, value in histories(client, list(runs), key)
    ]
    values = pd.DataFrame(rows, columns=["id", "epoch", "metric", "value"])
    values = values.drop_duplicates(["id", "epoch", "metric"], keep="last")
    return values.sort_values(["id", "epoch", "metric"], ignore_index=True)


def histories(client: Any, runs: Sequence[str], key: str) -> Iterator[tuple[str, int, float]]:
    """(run, step, value) of one metric over many runs, as few queries as the store allows."""
    # MLflow's client has no call for many runs. Its database store has, and for 300 runs
    # that is seconds against minutes; where it is missing, every run is asked.
    store = getattr(getattr(client, "_tracking_client", None), "store", None)
    bulk = getattr(store, "get_metric_history_bulk", None)
    if bulk is None:
        with ThreadPoolExecutor(8) as pool:
            for run, points in zip(
                runs, pool.map(lambda r: client.get_metric_history(r, key), runs), strict=True
            ):
                yield from ((run, point.step, point.value) for point in points)
        return
    for first in range(0, len(runs), CHUNK):
        points = bulk(runs[first : first + CHUNK], key, 10_000_000)
        yield from ((point.run_id, point.step, point.value) for point in points)


@contextmanager
def tracking_at(uri: str) -> Iterator[None]:
    """Let MLflow's module-level functions use `uri`, and restore the settings afterwards."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    old = mlflow.get_tracking_uri()
    was_set = mlflow.is_tracking_uri_set()
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(old if was_set else None)  # type: ignore[arg-type]
        # MLflow writes its settings into the environment, where `tracking_uri` and
        # worker processes would find it.
        if before is None:
            os.environ.pop("MLFLOW_TRACKING_URI", None)
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before
