"""What is logged of a record: parameters, tags, points, data sets. Pure functions."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from kdbench.records.costs import CorruptCosts, read_costs
from kdbench.records.plan_file import PlannedRun
from kdbench.records.spec import RunSpec
from kdbench.records.store import Record
from kdbench.records.summary import finite, nonfinite

#: Metrics of a run that are single values start so; every other one is a curve over epochs.
SCALARS = ("test/", "test_best/", "cost/")

#: The section of values that are of no other: the learning rate, the seconds of an epoch.
EPOCH = "epoch"


class Point(NamedTuple):
    """One value of a metric; `timestamp` in milliseconds, `step` the epoch."""

    key: str
    value: float
    timestamp: int
    step: int


def metric_name(key: str) -> str:
    """`key` with every character that MLflow refuses in names replaced by `_`."""
    return re.sub(r"[^\w\-. :/]", "_", key)


def section_name(key: str) -> str:
    """The name in MLflow of a value that the records call `key`: MLflow's charts are in sections,
    named by what stands before the slash (`train/loss.soft`)."""
    section, separator, rest = metric_name(key).partition(".")
    return f"{section}/{rest}" if separator else f"{EPOCH}/{section}"


def record_name(name: str) -> str:
    """What the records call a metric of MLflow; one without a section is older than they are."""
    section, slash, rest = name.partition("/")
    if not slash:
        return name
    return rest if section == EPOCH else f"{section}.{rest}"


def _text(value: Any) -> str:
    """A parameter's value: strings as they are, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


# -- what was trained


def params(spec: RunSpec, result: Mapping[str, Any] | None) -> dict[str, str]:
    """The hyperparameters, models, recipe, data and seed, and the loss weights once known."""
    values: dict[str, Any] = dict(spec.hparams)
    models = {f"model.{slot}": model for slot, model in spec.models.items() if slot != "student"}
    values |= {"model": spec.models.get("student", ""), **models}
    values |= {f"recipe.{name}": value for name, value in vars(spec.recipe).items()}
    values |= {f"data.{name}": value for name, value in vars(spec.data).items()}
    values |= {"seed": spec.seed, "lineage": spec.lineage}
    values |= {f"frozen.{role}": run for role, run in spec.frozen_runs.items()}
    weights = (result or {}).get("loss_weights") or {}
    values |= {f"weight.{term}": weight for term, weight in weights.items()}
    return {metric_name(name): _text(value) for name, value in values.items()}


def datasets(spec: RunSpec, test: Mapping[str, Any] | None) -> dict[str, dict[str, str]]:
    """What the run was trained and, once it is scored, tested on, by MLflow's word for the use:
    the fields of its data set entity, a name, a digest and where it comes from."""
    data = spec.data
    profile = {"validation": data.validation, "augment": data.augment, "train_on": data.train_on}
    used = {"training": (data.name, data.checksum, profile)}
    if test is not None:
        used["testing"] = (f"{data.name} test", test["checksum"], {"images": test["images"]})
    tags = {"mlflow.source.type": "kdbench", "mlflow.source.name": data.name}
    return {
        use: {
            "name": name,
            "digest": checksum[:36],  # MLflow's limit; the whole checksum is a tag
            "source_type": "code",
            "source": json.dumps({"tags": tags}),
            "profile": json.dumps(profile),
        }
        for use, (name, checksum, profile) in used.items()
    }


def tags(
    record: Record, spec: RunSpec, planned: PlannedRun, study: str, state: str, row: str
) -> dict[str, str]:
    """Every tag that the record has a value for. `row` is the row of the leaderboard that the run
    is of, by commas where there are two."""
    result, test, error = record.result or {}, record.test or {}, record.error or {}
    values = {
        "id": record.id,
        "study": study,
        "kind": planned.kind,
        "method": planned.method,
        "label": planned.label,
        "row": row or None,
        "seed": planned.seed,
        "trial": planned.trial,
        "teacher": planned.teacher,
        "state": state,
        "data": spec.data.checksum,
        "dirty": result.get("dirty"),
        "device": result.get("device"),
        "hardware": result.get("hardware"),
        "torch": (result.get("versions") or {}).get("torch"),
        "diverged_epoch": result.get("diverged_epoch"),
        "test": test.get("checksum"),
        "error": str(error.get("message", error))[:500] if state == "failed" else None,
        "nonfinite": nonfinite(record.epochs()),
    }
    tags = {f"kdbench.{k}": _text(v) for k, v in values.items() if v is not None}
    tags["mlflow.note.content"] = describe(spec, planned, study, row)
    tags["mlflow.source.name"] = "kdbench"
    if result.get("commit"):
        tags["mlflow.source.git.commit"] = _text(result["commit"])
    return tags


def describe(spec: RunSpec, planned: PlannedRun, study: str, row: str) -> str:
    """The description of a run: a sentence, and its hyperparameters."""
    hparams = ", ".join(f"{name}={_text(value)}" for name, value in sorted(spec.hparams.items()))
    if planned.kind == "final":
        what = f"`{planned.label}`{f' ({row})' if row else ''} with seed {planned.seed}"
    elif planned.kind == "trial":
        what = f"Trial {planned.trial} of `{planned.label}`, scored on validation data only"
    elif planned.group == planned.label:
        what = f"A network that `{planned.label}` needs first"
    else:
        what = "A teacher"
    return f"{what}, in the study {study}.{f' {hparams}' if hparams else ''}"


# -- what was measured


def start_of(record: Record) -> int:
    """When the run was begun, in milliseconds since 1970: the time of its spec file."""
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
                Point(section_name(key), float(value), int(clock), row["epoch"])
                for key, value in row.items()
                if key != "epoch" and finite(value)
            ]
    return points


def scalars(record: Record, classes: Sequence[str] | None, selection: str) -> dict[str, float]:
    """The metrics of a finished run that are single values: costs, and test scores if scored;
    those of single classes for the weights of `selection` (`last` or `best`)."""
    values: dict[str, Any] = {}
    result, test = record.result, record.test
    if result is not None:
        for name in ("parameters", "student_parameters", "macs", "seconds"):
            values[f"cost.{name}"] = result.get(name)
    if test is not None:
        values["test.images"] = test.get("images")
    for prefix, scores in (("test", "last"), ("test_best", "best")):
        for name, value in ((test or {}).get(scores) or {}).items():
            if name != "per_class":
                values[f"{prefix}.{name}"] = value
                continue
            for index, share in enumerate(value if scores == selection else ()):
                label = classes[index] if classes and index < len(classes) else str(index)
                values[f"{prefix}.class/{label}"] = share
    return {key: float(value) for key, value in values.items() if finite(value)}


def measured_costs(path: Path, label: str) -> dict[str, float]:
    """The measured costs of a label, from their file; empty where there is none, or where it
    is damaged: `kdbench doctor` says so, and the next start measures again."""
    try:
        row = read_costs(path).get("rows", {}).get(label, {})
    except CorruptCosts:
        return {}
    return {f"cost.{name}": float(value) for name, value in row.items() if finite(value)}
