"""The files a final run shows in MLflow: confusion matrix, predictions, spec."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdbench.records.files import link_or_copy
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Record, Store
from kdbench.tracking.client import user
from kdbench.tracking.confusion_picture import draw_confusion_matrix
from kdbench.tracking.experiment import find_experiment, find_or_create
from kdbench.tracking.leaderboard import MethodTable, log_table


def gather(record: Record, folder: Path, selection: str, classes: Sequence[str] | None) -> None:
    """Put a finished run's files into `folder`; those the record lacks are left out.

    Raises `CorruptRecord` where one is damaged, or a link that leads out of the records.
    """
    for name in ("spec.json", "result.json", "test.json", "test.npz"):
        source = record.path(name)
        if source.exists():
            link_or_copy(source, folder / name)
    if record.test is not None and (record.folder / "test.npz").exists():
        arrays = record.predictions()
        logits = arrays.get(selection, arrays["last"])
        draw_confusion_matrix(arrays["labels"], logits, classes, folder / "confusion_matrix.png")


def study_run(client: Any, root: Path, experiment: str, study: str) -> Any:
    """The study's own run, created where missing. It is ended at once, so that nothing has to end
    it where a process is killed. Raises what MLflow raises."""

    def create() -> Any:
        tags = {
            "kdbench.kind": "study",
            "kdbench.study": study,
            "mlflow.user": user(),
            "mlflow.source.name": "kdbench",
        }
        run = client.create_run(experiment, None, tags, study)
        client.set_terminated(run.info.run_id, "FINISHED")
        return run

    return find_or_create(client, root, experiment, "kdbench.kind", "study", create)[0]


def attach_report(
    store: Store,
    study: str,
    uri: str,
    folder: Path,
    answer: str = "",
    table: MethodTable | None = None,
) -> str:
    """Put the files of `folder` under `report` in the study's own run, and the rows of `table` on
    the methods' runs; the id of the study's run in MLflow.

    That run is named after the study and has the tag `kdbench.kind` = `study`. Its description,
    and the experiment's, is the study's question with the report's `answer`. Raises
    `UnknownExperiment`, and what MLflow raises.
    """
    client, experiment = find_experiment(study, uri)
    plan = PlanFile.load(store.plan_path(study))
    note = "\n\n".join(filter(None, (plan.question if plan else "", answer)))
    run_id = study_run(client, store.root, experiment, study).info.run_id
    client.set_tag(run_id, "mlflow.note.content", note)
    client.set_tag(run_id, "kdbench.plan", plan.hash if plan else "")
    client.log_artifacts(run_id, str(folder), "report")
    client.set_experiment_tag(experiment, "mlflow.note.content", note)
    if table is not None:
        log_table(client, experiment, table)
    client.set_terminated(run_id, "FINISHED")
    return str(run_id)
