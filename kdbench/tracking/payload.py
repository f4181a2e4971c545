"""What a record says in MLflow's words: parameters, tags, points, data set. Pure functions."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from kdbench.records.plan_file import PlannedRun
from kdbench.records.spec import DataSpec, RunSpec
from kdbench.records.store import Record
from kdbench.records.summary import finite, nonfinite

#: Metrics logged once a run start so; every other one is a curve over epochs.
ONCE = ("test.", "test_best.", "cost.")


class Point(NamedTuple):
    """One value of a metric; `timestamp` in milliseconds, `step` the epoch."""

    key: str
    value: float
    timestamp: int
    step: int


def name_of(key: str) -> str:
    """`key` with every character that MLflow refuses in names replaced by `_`."""
    return re.sub(r"[^\w\-. :/]", "_", key)


def text(value: Any) -> str:
    """A parameter's value: strings as they are, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


# -- what it is


def params(spec: RunSpec, result: Mapping[str, Any] | None) -> dict[str, str]:
    """Hyperparameters under their own names, recipe, data, seed, and once known the expanded weights."""
    found: dict[str, Any] = dict(spec.hparams)
    found |= {f"model.{slot}": model for slot, model in spec.models.items()}
    found |= {"model": spec.models.get("student", "")}
    found |= {f"recipe.{name}": value for name, value in vars(spec.recipe).items()}
    found |= {f"data.{name}": value for name, value in vars(spec.data).items()}
    found |= {"seed": spec.seed, "lineage": spec.lineage}
    found |= {f"frozen.{role}": run for role, run in spec.frozen_runs.items()}
    found |= {f"weight.{term}": w for term, w in ((result or {}).get("loss_weights") or {}).items()}
    return {name_of(name): text(value) for name, value in found.items()}


def dataset(spec: DataSpec) -> dict[str, str]:
    """The fields of MLflow's data set entity: a name, a digest and where it comes from."""
    tags = {"mlflow.source.type": "kdbench", "mlflow.source.name": spec.name}
    profile = {"validation": spec.validation, "augment": spec.augment, "train_on": spec.train_on}
    return {
        "name": spec.name,
        "digest": spec.checksum[:36],  # MLflow's limit; the whole checksum is a tag
        "source_type": "code",
        "source": json.dumps({"tags": tags}),
        "profile": json.dumps(profile),
    }


def tags(record: Record, spec: RunSpec, entry: PlannedRun, study: str, word: str) -> dict[str, str]:
    """Every tag the record has something to say for; `word` is the state."""
    result, test, error = record.result or {}, record.test or {}, record.error or {}
    found = {
        "id": record.id,
        "study": study,
        "kind": entry.kind,
        "method": entry.method,
        "label": entry.label,
        "seed": entry.seed,
        "trial": entry.trial,
        "teacher": entry.teacher,
        "state": word,
        "data": spec.data.checksum,
        "commit": result.get("commit"),
        "dirty": result.get("dirty"),
        "device": result.get("device"),
        "hardware": result.get("hardware"),
        "torch": (result.get("versions") or {}).get("torch"),
        "diverged_epoch": result.get("diverged_epoch"),
        "test": test.get("checksum"),
        "error": str(error.get("message", error))[:500] if word == "failed" else None,
        "nonfinite": nonfinite(record.epochs()),
    }
    known = {f"kdbench.{k}": text(v) for k, v in found.items() if v is not None}
    known["mlflow.source.name"] = "kdbench"
    if result.get("commit"):
        known["mlflow.source.git.commit"] = text(result["commit"])
    return known


# -- what it measured


def start_of(record: Record) -> int:
    """When the run was begun, in milliseconds since 1970: the age of its spec."""
    try:
        return int((record.folder / "spec.json").stat().st_mtime * 1000)
    except FileNotFoundError:
        return 0


def end_of(result: Mapping[str, Any] | None) -> int | None:
    """When the run was finished, in milliseconds since 1970, or None."""
    try:
        return int(datetime.fromisoformat((result or {})["finished"]).timestamp() * 1000)
    except (KeyError, ValueError):
        return None


def now() -> int:
    """The time in milliseconds since 1970."""
    return int(time.time() * 1000)


def curve_points(rows: Sequence[Mapping[str, Any]], after: int, start: int) -> list[Point]:
    """The finite values of the epochs later than `after`.

    The timestamp is the run's start and the seconds trained since, not the time of
    logging: a point that is logged again is then the same row to MLflow's database,
    which keeps it once.
    """
    points, clock = [], float(start)
    for row in rows:
        clock += 1000 * float(row.get("seconds") or 0.0)
        if row["epoch"] > after:
            points += [
                Point(name_of(key), float(value), int(clock), row["epoch"])
                for key, value in row.items()
                if key != "epoch" and finite(value)
            ]
    return points


def results(record: Record, classes: Sequence[str] | None) -> dict[str, float]:
    """The metrics that a finished run has once: costs, and test scores where scored."""
    found: dict[str, Any] = {}
    result, test = record.result, record.test
    if result is not None:
        for name in ("parameters", "student_parameters", "macs", "seconds"):
            found[f"cost.{name}"] = result.get(name)
    if test is not None:
        found["test.images"] = test.get("images")
    for prefix, scores in (("test", "last"), ("test_best", "best")):
        for name, value in ((test or {}).get(scores) or {}).items():
            if name != "per_class":
                found[f"{prefix}.{name}"] = value
                continue
            for index, share in enumerate(value):
                label = classes[index] if classes and index < len(classes) else str(index)
                found[name_of(f"{prefix}.accuracy.{label}")] = share
    return {key: float(value) for key, value in found.items() if finite(value)}


def measured_costs(path: Path, label: str) -> dict[str, float]:
    """The measured costs of a label, from the calibration file; empty where there is none."""
    try:
        row = json.loads(path.read_text())["rows"][label]
    except (FileNotFoundError, KeyError):
        return {}
    return {f"cost.{name}": float(value) for name, value in row.items() if finite(value)}
