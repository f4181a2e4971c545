"""What MLflow is known to hold of each record: kept in the record's mlflow.json, and read from
MLflow itself where that file is missing or wrong."""

import hashlib
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from kdbench.masking import safe_uri
from kdbench.records import summary
from kdbench.records.files import read_json, write_json
from kdbench.records.store import Record
from kdbench.tracking import payload
from kdbench.tracking.experiment import StudyExperiment, record_lock

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass
class KnownRun:
    """What an MLflow run holds.

    `run` is its id, `start` its time in ms since 1970, `epochs` the last epoch whose metrics
    it has, `params` the names of its parameters, `scalars` its metrics that are no curves,
    `datasets` the uses of its data sets, `files` whether the files have been logged, `model` the
    id of its logged model.
    """

    run: str
    start: int
    status: str
    epochs: int = 0
    params: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    scalars: dict[str, float] = field(default_factory=dict)
    datasets: list[str] = field(default_factory=list)
    files: bool = False
    model: str = ""


def new_state(run: "Run") -> KnownRun:
    """The state of an MLflow run that holds nothing but its tags."""
    info = run.info
    return KnownRun(info.run_id, info.start_time, info.status, tags=dict(run.data.tags))


def read_state(experiment: StudyExperiment, record: Record) -> KnownRun | None:
    """What the record's mlflow.json says of this store and experiment, or None."""
    known = _read_file(record).get(_key(experiment.uri, experiment.study))
    names = [part.name for part in fields(KnownRun)]
    if not (isinstance(known, dict) and set(names) <= set(known)):
        return None
    return KnownRun(**{name: known[name] for name in names})


def mlflow_run(record: Record, study: str, uri: str) -> tuple[str, str] | None:
    """The ids of the experiment and of the run that show a record, as mlflow.json says, or None."""
    known = _read_file(record).get(_key(uri, study))
    found = known if isinstance(known, dict) else {}
    place = str(found.get("experiment_id") or ""), str(found.get("run") or "")
    return place if all(place) else None


def write_state(experiment: StudyExperiment, record: Record, known: KnownRun) -> None:
    """Write what MLflow holds into the record's mlflow.json."""
    where = {"store": safe_uri(experiment.uri), "experiment": experiment.study}
    where["experiment_id"] = experiment.id
    others = _read_file(record)
    write_json(
        record.folder / "mlflow.json",
        others | {_key(experiment.uri, experiment.study): asdict(known) | where},
    )


def known_state(
    experiment: StudyExperiment, record: Record, tags: dict[str, str], start: int
) -> KnownRun:
    """What MLflow holds of a record; its run is created with `tags` where there is none."""
    remembered = read_state(experiment, record)
    run = experiment.runs.get(record.id)
    if run is not None and remembered and remembered.run == run.info.run_id:
        return remembered
    while True:
        run, created = experiment.run_of(record.id, tags, start)
        if created:
            known = new_state(run)
            write_state(experiment, record, known)
            return known
        if remembered and remembered.run == run.info.run_id:
            return remembered
        if recovered := recover(experiment, run, record):
            return recovered


def recover(experiment: StudyExperiment, run: "Run", record: Record) -> KnownRun | None:
    """Read from MLflow what it holds of a record.

    Deletes the run and returns None where its curves are not the record's: MLflow can add
    points but not remove them.
    """
    client = experiment.client
    run_id = run.info.run_id
    run = client.get_run(run_id)  # what was listed may be older
    data = run.data
    recorded = {
        (payload.section_name(key), row["epoch"]): value
        for row in record.epochs()
        for key, value in row.items()
    }
    last = 0
    for key in data.metrics:
        if key.startswith(payload.SCALARS):
            continue
        points = client.get_metric_history(run_id, key)
        steps = [point.step for point in points]
        differs = any(recorded.get((key, p.step)) != p.value for p in points)
        if differs or len(set(steps)) < len(steps):
            client.delete_run(run_id)
            del experiment.runs[record.id]
            return None
        # All metrics of an epoch are logged together, so the latest of any metric is the
        # latest of all; others may have stopped being finite.
        last = max([last, *steps])
    return replace(
        new_state(run),
        epochs=last,
        params=sorted(data.params),
        tags={k: v for k, v in data.tags.items() if k.startswith(("kdbench.", "mlflow."))},
        scalars={k: v for k, v in data.metrics.items() if k.startswith(payload.SCALARS)},
        datasets=_datasets(run),
        model=_model(run),
    )


def invalidate(experiment: StudyExperiment, record: Record) -> None:
    """Delete what mlflow.json says of this experiment where MLflow holds something else."""
    with record_lock(record, experiment.patience):
        known, run = read_state(experiment, record), experiment.runs.get(record.id)
        if known is None or (run is not None and _agrees(known, run, record)):
            return
        key = _key(experiment.uri, experiment.study)
        others = {other: state for other, state in _read_file(record).items() if other != key}
        write_json(record.folder / "mlflow.json", others)


def _agrees(known: KnownRun, run: "Run", record: Record) -> bool:
    """Whether MLflow's run, as it was listed, holds what is known: costs no request."""
    latest = dict(known.scalars)
    for row in record.epochs()[known.epochs - 1 : known.epochs]:
        curves = {k: v for k, v in row.items() if k != "epoch" and summary.finite(v)}
        latest |= {payload.section_name(k): v for k, v in curves.items()}
    metrics = run.data.metrics
    return (
        known.run == run.info.run_id
        and known.status == run.info.status
        and all(metrics.get(key) == value for key, value in latest.items())
        and all(run.data.tags.get(key) == value for key, value in known.tags.items())
        and set(known.params) <= set(run.data.params)
        and known.datasets == _datasets(run)
    )


def _model(run: "Run") -> str:
    """The id of the first model that an MLflow run has logged, or nothing."""
    models = run.outputs.model_outputs if run.outputs else ()
    return models[0].model_id if models else ""


def _datasets(run: "Run") -> list[str]:
    """For what the data sets of an MLflow run were used."""
    inputs = run.inputs.dataset_inputs if run.inputs else ()
    return sorted(tag.value for used in inputs for tag in used.tags)


def _key(uri: str, study: str) -> str:
    """The key of a store and a study's experiment in mlflow.json."""
    # Without the address's secrets: a short hash of a weak one could be guessed.
    name = f"{safe_uri(uri)}\n{study}"
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def _read_file(record: Record) -> dict[str, Any]:
    """The record's mlflow.json; {} where it is missing or cannot be read, as MLflow knows."""
    try:
        content = read_json(record.folder / "mlflow.json")
    except (ValueError, IsADirectoryError):
        return {}
    return content if isinstance(content, dict) else {}
