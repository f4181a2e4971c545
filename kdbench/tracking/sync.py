"""Bring a study's experiment in MLflow up to date with the records. Errors are raised here.

`sync_run` compares what the record says with what MLflow is known to hold, and logs the
difference; calling it again changes nothing.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

from kdbench.errors import KdbenchError
from kdbench.records import summary
from kdbench.records.plan_file import PlannedRun
from kdbench.records.spec import RunSpec
from kdbench.records.store import Record, RecordBusy, Store
from kdbench.tracking import artifacts, payload
from kdbench.tracking.experiment import LOCK_TIMEOUT, StudyExperiment, record_lock
from kdbench.tracking.known import KnownRun, invalidate, known_state, read_state, write_state
from kdbench.tracking.models import NetworkFile, log_weights
from kdbench.tracking.payload import Point

#: MLflow takes so many metrics, and so many parameters or tags, in one request.
METRICS, NAMES = 1000, 100

#: The file of a run's weights.
WEIGHTS = "weights.safetensors"

#: Kinds of runs whose files are kept in MLflow.
WITH_FILES = ("final", "teacher")


class UnknownStudy(KdbenchError, LookupError):
    """The study has never been run in this root."""


def sync_study(
    store: Store,
    study: str,
    uri: str,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Bring the study's experiment up to date with the records of its plan.

    What mlflow.json says is used only where MLflow agrees, so a lost database is rebuilt.
    Returns how many runs were `up to date` already, were `updated`, and have `not begun`, and
    where there are any, how many are `duplicated`: `stale_runs` names them. `progress` gets
    (runs done, runs in all). Raises `UnknownStudy` where the study has no plan, `SyncBusy`
    where another process holds a record for minutes, and what MLflow raises.
    """
    experiment = StudyExperiment(store, study, uri, patience=LOCK_TIMEOUT)
    if not experiment.plan:
        raise UnknownStudy(f"study {study!r} has no plan in {store.root}: it was never run there")
    experiment.open()
    listing = experiment.plan.listing
    counts: Counter[str] = Counter({"up to date": 0, "updated": 0, "not begun": 0})
    if experiment.duplicated:
        counts["duplicated"] = len(experiment.duplicated)
    for done, (run_id, planned) in enumerate(listing.items(), 1):
        record = store.record(run_id)
        if record.spec() is None:
            counts["not begun"] += 1
        else:
            invalidate(experiment, record)
            changed = sync_run(experiment, run_id, planned, live=is_busy(record))
            counts["updated" if changed else "up to date"] += 1
        if progress:
            progress(done, len(listing))
    experiment.end_group_runs()
    return dict(counts)


def sync_run(
    experiment: StudyExperiment, run_id: str, planned: PlannedRun, live: bool = False
) -> bool:
    """Bring MLflow up to date with one record; whether anything was logged.

    `live`: the run is being trained now; otherwise an unfinished one counts as interrupted. A
    record that has not been begun is left out. Raises `SyncBusy` where another process does
    this for the same record, and what MLflow raises.
    """
    record = experiment.store.record(run_id)
    spec = record.spec()
    if spec is None:
        return False
    # The record is read under the lock, so that what is logged is never older than what
    # another process has logged before.
    with record_lock(record, experiment.patience):
        try:
            return _sync(experiment, record, spec, planned, live)
        except Exception:
            # The run may have been deleted: look it up again next time.
            experiment.runs.pop(run_id, None)
            raise


def is_busy(record: Record) -> bool:
    """Whether the record is unfinished and another process is writing it just now."""
    # Asking takes the lock for a moment, and makes the folder where there is none.
    if record.result is not None or not (record.folder / "spec.json").exists():
        return False
    with suppress(RecordBusy), record.writing():
        return False
    return True


def _sync(
    experiment: StudyExperiment, record: Record, spec: RunSpec, planned: PlannedRun, live: bool
) -> bool:
    state, status = summary.state(record, live)
    result, epochs = record.result, record.epochs()
    row = experiment.row_of(record.id)
    tags = payload.tags(record, spec, planned, experiment.study, state, row)
    tags["mlflow.parentRunId"] = experiment.group_run(planned.group)
    tags["mlflow.runName"] = planned.name
    known = known_state(experiment, record, tags, payload.start_of(record))
    before = deepcopy(known)

    params = payload.params(spec, result)
    scalars = _missing_scalars(experiment, record, planned, known)
    points = payload.curve_points(epochs, known.epochs, known.start)
    points += _scalar_points(experiment, record, scalars, known, len(epochs))
    _log_batches(
        experiment,
        known.run,
        points,
        {k: v for k, v in params.items() if k not in known.params},
        {k: v for k, v in tags.items() if known.tags.get(k) != v},
    )
    known.epochs = max([known.epochs, *(row["epoch"] for row in epochs)])
    known.params = sorted({*known.params, *params})
    known.tags |= tags
    known.scalars |= scalars
    used = payload.datasets(spec, record.test)
    if missing := [use for use in used if use not in known.datasets]:
        _log_datasets(experiment, known.run, {use: used[use] for use in missing})
        known.datasets = sorted(used)
    if result is not None and not known.files and planned.kind in WITH_FILES:
        # A final is scored after it is finished: its files wait for that score.
        known.files = _log_files(experiment, known.run, record)
    if known.files and not known.model and record.path(WEIGHTS).exists():
        known.model = _log_model(experiment, known.run, record, spec, planned)
    _set_status(experiment, known, status, payload.end_of(result))
    if known != before or read_state(experiment, record) != known:
        write_state(experiment, record, known)
    return known != before


def _missing_scalars(
    experiment: StudyExperiment, record: Record, planned: PlannedRun, known: KnownRun
) -> dict[str, float]:
    """The metrics that are no curves and that MLflow lacks or has with another value."""
    scalars = payload.scalars(record, experiment.classes, experiment.selection)
    if planned.kind == "final" and record.result is not None:
        path = experiment.store.costs_path(experiment.study)
        scalars |= payload.measured_costs(path, planned.label)
        if planned.teacher and record.test and "test/kl" not in known.scalars:
            teacher = experiment.store.record(planned.teacher)
            scalars |= summary.fidelity(record, teacher, experiment.selection) or {}
    measure = experiment.measure
    if f"test/{measure.column}.{summary.LARGEST_STEP}" not in known.scalars:
        scalars |= summary.class_scores(record, measure)
    named = {payload.section_name(key): value for key, value in scalars.items()}
    return {key: value for key, value in named.items() if known.scalars.get(key) != value}


def _scalar_points(
    experiment: StudyExperiment,
    record: Record,
    scalars: Mapping[str, float],
    known: KnownRun,
    step: int,
) -> list[Point]:
    """`scalars` as points: at the end of the run, or after the one that is replaced."""
    end = payload.end_of(record.result) or known.start
    points = []
    for key, value in scalars.items():
        if key not in known.scalars:
            points.append(Point(key, value, end, step))
            continue
        # MLflow shows the latest point of the highest step as the value. Its time is computed
        # from the points that are there and not from a clock, which may have been set back;
        # and a point may hold this value already, where only the answer was lost.
        history = experiment.client.get_metric_history(known.run, key)
        last = max(history, key=lambda p: (p.step, p.timestamp))
        if last.value != value:
            points.append(Point(key, value, last.timestamp + 1, max(step, last.step)))
    return points


def _log_batches(
    experiment: StudyExperiment,
    run: str,
    points: list[Point],
    params: Mapping[str, str],
    tags: Mapping[str, str],
) -> None:
    """Log all of these in as few requests as MLflow's limits allow."""
    from mlflow.entities import Metric, Param, RunTag

    metrics = [Metric(p.key, p.value, p.timestamp, p.step) for p in points]
    names = [Param(k, v) for k, v in params.items()]
    labels = [RunTag(k, v) for k, v in tags.items()]
    while metrics or names or labels:
        room = METRICS - len(names[:NAMES]) - len(labels[:NAMES])
        experiment.client.log_batch(run, metrics[:room], names[:NAMES], labels[:NAMES])
        metrics, names, labels = metrics[room:], names[NAMES:], labels[NAMES:]


def _log_datasets(
    experiment: StudyExperiment, run: str, used: Mapping[str, Mapping[str, str]]
) -> None:
    """Log what the run was trained and tested on, as MLflow's data set inputs."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(Dataset(**data), [InputTag("mlflow.data.context", use)])
        for use, data in used.items()
    ]
    experiment.client.log_inputs(run, inputs)


def _log_files(experiment: StudyExperiment, run: str, record: Record) -> bool:
    """Copy a run's files into MLflow; False where they are not all there yet."""
    if record.test is None and record.result["state"] == "done":  # type: ignore[index]
        return False
    for leftover in record.folder.glob(".mlflow.*"):  # of a process that was killed here
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=record.folder, prefix=".mlflow.") as folder:
        artifacts.gather(record, Path(folder), experiment.selection, experiment.classes)
        experiment.client.log_artifacts(run, folder)
    return True


def _log_model(
    experiment: StudyExperiment, run: str, record: Record, spec: RunSpec, planned: PlannedRun
) -> str:
    """Log a run's weights as its model; the model's id, or nothing where its plan does not say what
    goes in."""
    data = experiment.plan.data if experiment.plan else None
    if data is None or not data.shape or record.test is None:
        return ""
    classes = record.predictions()["last"].shape[1]
    details = {
        "prefix": f"{experiment.selection}/",
        "model": spec.models["student"],
        "class_names": list(experiment.classes or ()),
    }
    network = NetworkFile(WEIGHTS, "safetensors", data.shape, classes, details)
    name = f"{planned.label} seed {planned.seed}"
    return log_weights(experiment.client, experiment.id, run, name, record, network)


def _set_status(experiment: StudyExperiment, known: KnownRun, status: str, end: int | None) -> None:
    """End the run, or open it again."""
    if known.status == status:
        return
    if status == "RUNNING":
        experiment.client.update_run(known.run, status=status)
    else:
        experiment.client.set_terminated(known.run, status, end)
    known.status = status
