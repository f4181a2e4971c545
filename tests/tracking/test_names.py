"""What a person finds in MLflow: names in sections, rows, descriptions; and stores from before
they had them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.mlflow_root import STUDY, MlflowRoot

from kdbench.records.files import write_json
from kdbench.records.plan_file import PlanRow
from kdbench.records.store import Record
from kdbench.tracking import BackgroundSync, curves, payload, sync_study
from kdbench.tracking.known import _key

KEYS = st.one_of(
    st.sampled_from(["lr", "seconds", "train.loss", "train.loss.soft", "val.nll", "test.f1"]),
    st.from_regex(r"(train|val)\.[a-z/_.]{1,20}", fullmatch=True),
)


@given(KEYS)
def test_a_name_in_mlflow_is_one_in_the_records(key: str) -> None:
    assert payload.record_name(payload.section_name(key)) == key
    assert payload.record_name("train.loss") == "train.loss"  # of a store made before sections


def test_a_run_tells_its_row_its_user_and_what_it_is(
    root: MlflowRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "somebody")
    teacher, alone, shared = root.teacher(), root.final(1), root.final(2)
    trial = root.begin("trial", trial=7)
    rows = (
        PlanRow("kd", "tuned", "kd", runs={"1": alone.id, "2": shared.id}),
        PlanRow("kd", "default", "kd", runs={"2": shared.id}),
    )
    replace(root.plan, listing=root.listing, rows=rows).dump(root.store.plan_path(STUDY))
    sync_study(root.store, STUDY, root.uri)
    rows_of = {r.id: root.run(r).data.tags.get("kdbench.row") for r in (teacher, alone, shared)}
    assert rows_of == {teacher.id: None, alone.id: "tuned", shared.id: "default, tuned"}
    experiment = root.experiment()
    for run in experiment.client.search_runs([experiment.id]):
        assert run.data.tags["mlflow.user"] == "somebody"
        assert run.data.tags["mlflow.note.content"].endswith(
            (STUDY + ".", "alpha=0.9, temperature=4.0")
        )
    note = root.run(trial).data.tags["mlflow.note.content"]
    assert note.startswith("Trial 7 of `kd`, scored on validation data only, in the study digits.")


def test_the_question_is_shown_from_the_first_start_on(root: MlflowRoot) -> None:
    tracker = BackgroundSync(root.store, STUDY, root.uri, question="Does it help?")
    assert tracker.open()
    experiment = tracker.experiment.client.get_experiment(tracker.experiment.id)
    assert experiment.tags["mlflow.note.content"] == "Does it help?"
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def write_as_before(root: MlflowRoot, record: Record) -> None:
    """What MLflow and mlflow.json held of a record before metrics were in sections."""
    experiment = root.experiment()
    run = experiment.client.create_run(experiment.id, 1, {"kdbench.id": record.id}).info.run_id
    for row in record.epochs():
        for key in row.keys() - {"epoch"}:
            experiment.client.log_metric(run, key, row[key], step=row["epoch"])
    experiment.client.log_metric(run, "test.accuracy", 0.9)
    experiment.client.set_terminated(run)
    known = {"run": run, "start": 1, "status": "FINISHED", "epochs": 3, "params": [], "tags": {}}
    known |= {"scalars": {"test.accuracy": 0.9}, "dataset": True, "files": True}
    write_json(record.folder / "mlflow.json", {_key(root.uri, STUDY): known})


def test_a_store_from_before_is_brought_up_to_date(root: MlflowRoot) -> None:
    records = [root.final(seed) for seed in range(2)]
    sync_study(root.store, STUDY, root.uri)
    wanted = root.content()
    for record in records:
        experiment = root.experiment()
        experiment.client.delete_run(root.run(record).info.run_id)
        (record.folder / "mlflow.json").unlink()
        write_as_before(root, record)
    assert sync_study(root.store, STUDY, root.uri)["updated"] == 2
    assert root.content() == wanted
    assert sync_study(root.store, STUDY, root.uri)["updated"] == 0
    assert set(curves(STUDY, root.uri)["metric"]) == set(records[0].epochs()[0]) - {"epoch"}
