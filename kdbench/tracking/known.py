"""What MLflow is known to hold of each run."""

from typing import Any

from mlflow.entities import Run

from kdbench.records.files import read_json
from kdbench.records.store import Record

#: What is remembered of a run; see `new_state`.
KNOWN = ("run", "start", "status", "epochs", "params", "tags", "once", "inputs", "files")


Known = dict[str, Any]


def read_state(record: Record) -> dict[str, Any]:
    """The record's mlflow.json; {} where it is missing or cannot be read, as MLflow knows."""
    try:
        return read_json(record.folder / "mlflow.json") or {}
    except ValueError:
        return {}


def new_state(run: "Run") -> Known:
    """What is known of a run that holds nothing but its tags."""
    return {
        "run": run.info.run_id,
        "start": run.info.start_time,
        "status": run.info.status,
        "epochs": 0,
        "params": [],
        "tags": dict(run.data.tags),
        "once": {},
        "inputs": False,
        "files": False,
    }
