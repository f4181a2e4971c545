"""A report's files as artifacts of the study's own run in MLflow."""

from pathlib import Path
from typing import Any

from kdbench.records.store import Store, read_json
from kdbench.tracking.experiment import found_or_made
from kdbench.tracking.read import experiment


def attach_report(store: Store, study: str, uri: str, folder: Path) -> str:
    """Put the files of `folder` under `report` in the study's own run; its MLflow id.

    That run is named after the study and has the tag `kdbench.kind` = `study`. Raises
    `LookupError` where there is no such experiment, and what MLflow raises.
    """
    client, where = experiment(study, uri)
    plan = read_json(store.plan_path(study)) or {}
    tags = {
        "kdbench.kind": "study",
        "kdbench.study": study,
        "mlflow.source.name": "kdbench",
        "mlflow.note.content": plan.get("question", ""),
        "kdbench.plan": plan.get("hash", ""),
    }

    def make() -> Any:
        return client.create_run(where, None, tags, study)

    found, made = found_or_made(client, store.root, where, "kdbench.kind", "study", make)
    run = found.info.run_id
    if not made:
        for name, value in tags.items():
            client.set_tag(run, name, value)
    client.log_artifacts(run, str(folder), "report")
    client.set_terminated(run, "FINISHED")
    return str(run)
