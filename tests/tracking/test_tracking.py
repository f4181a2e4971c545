"""MLflow is up to date with the records, whatever happens to either."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.mlflow_root import STUDY, MlflowRoot, until

from kdbench.masking import mask, remember, safe_uri
from kdbench.records.fidelity import agreement, kl
from kdbench.records.files import write_json
from kdbench.tracking import (
    BackgroundSync,
    curves,
    links,
    payload,
    search,
    sync_study,
    tracking_uri,
    ui_command,
)
from kdbench.tracking.client import artifact_location
from kdbench.tracking.experiment import StudyExperiment
from kdbench.tracking.sync import sync_run

# -- what a run looks like


def test_a_final_run_has_its_names(root: MlflowRoot) -> None:
    teacher = root.teacher()
    record = root.final(3, teacher=teacher.id)
    write_json(
        root.store.costs_path(STUDY),
        {"machine": "m", "rows": {"kd": {"relative": 1.03, "peak_mb": 80.0}}},
    )
    root.sync(record)
    run = root.run(record)
    assert run.info.run_name == "kd seed 3"
    assert run.info.status == "FINISHED"
    tags, params, metrics = run.data.tags, run.data.params, run.data.metrics
    assert {k: v for k, v in tags.items() if k.startswith("kdbench.")} == {
        "kdbench.id": record.id, "kdbench.kind": "final", "kdbench.method": "kd",
        "kdbench.label": "kd", "kdbench.seed": "3", "kdbench.teacher": teacher.id,
        "kdbench.dirty": "false", "kdbench.data": "c" * 64,
        "kdbench.state": "done", "kdbench.device": "cpu", "kdbench.hardware": "a machine",
        "kdbench.torch": "2.11", "kdbench.study": STUDY, "kdbench.test": "t" * 64,
    }  # fmt: skip
    expected = {
        "temperature": "4.0", "alpha": "0.9", "weight.task": "0.1", "weight.soft": "14.4",
        "model": "lightnn", "recipe.epochs": "2", "recipe.milestones": "[0.5, 0.75]",
        "data.name": "digits", "seed": "3", "lineage": "0", "frozen.teacher": teacher.id,
    }  # fmt: skip
    assert expected.items() <= params.items()
    assert tags["mlflow.source.git.commit"] == "f00d"
    assert not {"model.student", "kdbench.commit"} & {*params, *tags}
    expected_metrics = {
        "train/loss", "train/loss.kl", "train/accuracy", "val/accuracy", "val/nll", "epoch/lr",
        "epoch/seconds", "test/accuracy", "test/nll", "test/ece", "test/f1", "test/class/0",
        "test/class/1", "test/class/2", "test/images", "test/agreement", "test/kl",
        "cost/parameters", "cost/student_parameters", "cost/macs", "cost/seconds",
        "cost/relative", "cost/peak_mb",
    }  # fmt: skip
    assert set(metrics) == expected_metrics
    assert metrics["cost/relative"] == 1.03
    parent = root.experiment().client.get_run(tags["mlflow.parentRunId"])
    assert parent.info.run_name == "kd"
    assert parent.data.tags["kdbench.kind"] == "method"
    used = {u.tags[0].value: (u.dataset.name, u.dataset.digest) for u in run.inputs.dataset_inputs}
    assert used == {"training": ("digits", "c" * 36), "testing": ("digits test", "t" * 36)}
    history = root.experiment().client.get_metric_history(run.info.run_id, "val/accuracy")
    expected_history = [(row["epoch"], row["val.accuracy"]) for row in record.epochs()]
    assert [(p.step, p.value) for p in history] == expected_history


def test_fidelity_is_to_the_studys_teacher_also_without_one_in_training(
    root: MlflowRoot,
) -> None:
    teacher = root.teacher()
    record = root.final(1, method="ce", teacher=teacher.id)
    root.sync(record)
    metrics = root.run(record).data.metrics
    own, taught = record.predictions()["last"], teacher.predictions()["last"]
    assert metrics["test/agreement"] == agreement(taught, own)
    assert metrics["test/kl"] == kl(taught, own)


def test_files_of_a_final_run(root: MlflowRoot) -> None:
    record = root.final()
    root.sync(record)
    run = root.run(record)
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    assert folder.is_relative_to(root.store.root / "mlartifacts" / STUDY)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "confusion_matrix.png", "result.json", "spec.json", "test.json", "test.npz",
    }  # fmt: skip
    assert (folder / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")
    assert not list(record.folder.glob(".mlflow.*"))


def test_a_trial_has_no_files_and_no_test(root: MlflowRoot) -> None:
    record = root.begin("trial", trial=7, name="kd trial 7")
    root.epochs(record, 1, 2)
    root.finish(record, epochs=2)
    root.sync(record)
    run = root.run(record)
    assert run.info.run_name == "kd trial 7"
    assert run.data.tags["kdbench.trial"] == "7"
    assert not any(key.startswith("test") for key in run.data.metrics)
    assert not root.experiment().client.list_artifacts(run.info.run_id)


def test_a_diverged_run_is_failed_and_says_where(root: MlflowRoot) -> None:
    record = root.begin()
    root.epochs(record, 1, 1)
    row = {"epoch": 2, "seconds": 0.5, "train.loss": float("nan"), "lr": 1.0}
    record.add_epochs([row], b"")
    root.finish(record, "diverged", 2)
    root.sync(record)
    run = root.run(record)
    assert run.info.status == "FAILED"
    assert run.data.tags["kdbench.state"] == "diverged"
    assert run.data.tags["kdbench.nonfinite"] == "train.loss at epoch 2"
    assert run.data.metrics["train/loss"] == 1.0
    assert not root.sync(record)


def test_a_failed_run_shows_its_error_and_opens_again(root: MlflowRoot) -> None:
    record = root.begin()
    record.fail({"message": "no room on the disk"})
    root.sync(record, live=True)
    run = root.run(record)
    assert run.info.status == "FAILED"
    assert run.data.tags["kdbench.error"] == "no room on the disk"
    time.sleep(0.01)
    root.epochs(record, 1, 1)
    root.sync(record, live=True)
    run = root.run(record)
    assert (run.info.status, run.data.tags["kdbench.state"]) == ("RUNNING", "running")


# -- up to date, whatever was lost


def test_a_second_sync_changes_nothing(root: MlflowRoot) -> None:
    teacher = root.teacher()
    record = root.final(teacher=teacher.id)
    assert root.sync(record)
    before = root.content()
    assert not root.sync(record)
    assert root.content() == before


def test_a_resumed_run_reopens_and_adds_only_new_epochs(root: MlflowRoot) -> None:
    record = root.begin()
    root.epochs(record, 1, 1)
    root.sync(record)
    assert root.run(record).info.status == "KILLED"
    root.epochs(record, 2, 2)
    root.sync(record, live=True)
    assert root.run(record).info.status == "RUNNING"
    root.epochs(record, 3, 3)
    root.finish(record)
    root.sync(record)
    (held,) = [v for name, v in root.content().items() if name == "kd seed 0"]
    assert held[0] == "FINISHED"
    assert [step for step, _ in held[3]["train/loss"]] == [1, 2, 3]


@pytest.mark.parametrize("loss", ["gone", "another run's"])
def test_an_mlflow_json_that_is_lost_or_wrong_is_written_again(root: MlflowRoot, loss: str) -> None:
    record = root.final()
    root.sync(record)
    before = root.content()
    path = record.folder / "mlflow.json"
    if loss == "gone":
        path.unlink()
    else:
        (key,) = json.loads(path.read_text())
        write_json(path, {key: json.loads(path.read_text())[key] | {"run": "0" * 32}})
    root.sync(record)
    assert root.content() == before
    assert len(search(STUDY, root.uri)) == 2  # the run and its group


def test_a_crash_between_logging_and_remembering_repeats_no_point(
    root: MlflowRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = root.begin()
    root.epochs(record, 1, 1)
    root.sync(record, live=True)
    remembered = (record.folder / "mlflow.json").read_text()
    root.epochs(record, 2, 3)
    root.finish(record)
    root.score(record)
    root.sync(record)
    before = root.content()
    (record.folder / "mlflow.json").write_text(remembered)
    root.sync(record)
    assert root.content() == before


def test_a_lost_database_is_rebuilt_by_sync(root: MlflowRoot, empty_database: bytes) -> None:
    teacher = root.teacher()
    for seed in range(2):
        root.final(seed, teacher=teacher.id)
    root.listing["0" * 12] = replace(root.listing[teacher.id], name="not begun")
    root.begin("trial", trial=0)
    assert sync_study(root.store, STUDY, root.uri) == {
        "up to date": 0,
        "updated": 4,
        "not begun": 1,
    }
    before = root.content()
    assert sync_study(root.store, STUDY, root.uri) == {
        "up to date": 4,
        "updated": 0,
        "not begun": 1,
    }
    (root.store.root / "mlflow.db").write_bytes(empty_database)
    seen: list[tuple[int, int]] = []
    counts = sync_study(root.store, STUDY, root.uri, lambda done, of: seen.append((done, of)))
    assert counts == {"up to date": 0, "updated": 4, "not begun": 1}
    assert seen[-1] == (5, 5)
    assert root.content() == before


def test_sync_repairs_what_was_changed_in_mlflow(root: MlflowRoot) -> None:
    records = [root.final(seed) for seed in range(3)]
    sync_study(root.store, STUDY, root.uri)
    before = root.content()
    client = root.experiment().client
    client.set_tag(root.run(records[0]).info.run_id, "kdbench.method", "mine")
    client.delete_run(root.run(records[1]).info.run_id)
    assert sync_study(root.store, STUDY, root.uri) == {
        "up to date": 1,
        "updated": 2,
        "not begun": 0,
    }
    assert root.content() == before


def test_sync_replaces_a_run_whose_curve_is_not_the_records(root: MlflowRoot) -> None:
    record = root.final()
    root.sync(record)
    rows = record.epochs()
    rows[2]["train.loss"] = 0.25
    record.add_epochs(rows[2:], None)
    root.finish(record)
    assert sync_study(root.store, STUDY, root.uri)["updated"] == 1
    assert root.run(record).data.metrics["train/loss"] == 0.25
    (held,) = [v for name, v in root.content().items() if name == "kd seed 0"]
    assert [step for step, _ in held[3]["train/loss"]] == [1, 2, 3]
    assert sync_study(root.store, STUDY, root.uri)["updated"] == 0


def test_one_record_in_two_studies(root: MlflowRoot) -> None:
    record = root.final()
    root.sync(record)
    other = StudyExperiment(root.store, "other", root.uri)
    other.open()
    assert sync_run(other, record.id, root.listing[record.id])
    assert len(json.loads((record.folder / "mlflow.json").read_text())) == 2
    assert not root.sync(record)
    assert len(search("other", root.uri)) == 2


def test_costs_measured_again_replace_the_old(root: MlflowRoot) -> None:
    record = root.final()
    path = root.store.costs_path(STUDY)
    for value in (1.5, 1.2):
        write_json(path, {"machine": "m", "rows": {"kd": {"relative": value}}})
        root.sync(record)
        assert root.run(record).data.metrics["cost/relative"] == value


def test_many_metrics_go_in_several_requests(root: MlflowRoot) -> None:
    record = root.begin()
    root.epochs(record, 1, 1)
    row = record.epochs()[0] | {f"train.loss.term{i}": float(i) for i in range(2500)}
    record.add_epochs([row], b"")
    root.sync(record)
    assert len(root.run(record).data.metrics) == 2507


# -- the thread


def test_the_background_thread_follows_a_run(root: MlflowRoot) -> None:
    teacher = root.teacher()
    record = root.begin(teacher=teacher.id)
    background = BackgroundSync(root.store, STUDY, root.uri)
    assert background.open()
    background.start()
    root.epochs(record, 1, 1)
    background.touch(record.id, root.listing[record.id])
    until(lambda: background.out_of_date() == 0)
    assert root.run(record).info.status == "RUNNING"
    root.epochs(record, 2, 3)
    root.finish(record)
    root.score(record)
    for _ in range(50):
        background.touch(record.id)
    assert background.close() == 0
    run = root.run(record)
    assert run.info.status == "FINISHED"
    assert "test/kl" in run.data.metrics
    parent = root.experiment().client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.status == "FINISHED"


def test_closing_shows_unfinished_runs_as_interrupted(root: MlflowRoot) -> None:
    record = root.begin()
    root.epochs(record, 1, 1)
    background = BackgroundSync(root.store, STUDY, root.uri)
    background.open()
    background.start()
    background.touch(record.id)
    until(lambda: background.out_of_date() == 0)
    assert root.run(record).info.status == "RUNNING"
    background.close()
    assert root.run(record).info.status == "KILLED"
    assert root.run(record).data.tags["kdbench.state"] == "interrupted"


def test_finals_get_what_is_known_only_later(root: MlflowRoot) -> None:
    teacher = root.begin("teacher", "ce", 77)
    record = root.final(teacher=teacher.id)
    background = BackgroundSync(root.store, STUDY, root.uri)
    background.open()
    background.start()
    background.touch(record.id)
    until(lambda: background.out_of_date() == 0)
    assert "test/kl" not in root.run(record).data.metrics
    root.finish(teacher)
    root.score(teacher, 77)
    assert background.close() == 0
    assert "test/kl" in root.run(record).data.metrics


@pytest.mark.parametrize("call", ["create_run", "log_batch", "log_artifacts", "set_terminated"])
def test_what_mlflow_raises_is_reported_once_and_repaired(
    root: MlflowRoot, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setattr("kdbench.tracking.background.FIRST_WAIT", 0.02)
    works = threading.Event()
    real = getattr(MlflowClient, call)

    def flaky(*args, **kwargs):
        if not works.is_set():
            raise ConnectionError(f"no way to {root.uri}")
        return real(*args, **kwargs)

    records = [root.final(seed) for seed in range(3)]
    messages: list[str] = []
    background = BackgroundSync(root.store, STUDY, root.uri, messages.append)
    assert background.open()
    monkeypatch.setattr(MlflowClient, call, flaky)
    background.start()
    for record in records:
        background.touch(record.id)
    until(lambda: bool(messages))
    assert background.out_of_date() == 3
    works.set()
    until(lambda: background.out_of_date() == 0)
    assert background.close() == 0
    assert len(messages) == 1
    assert "kdbench sync digits" in messages[0]
    before = root.content()
    assert len(before) == 4
    assert sync_study(root.store, STUDY, root.uri)["updated"] == 0
    assert root.content() == before


def test_no_store_at_all_stops_nothing(root: MlflowRoot, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    messages: list[str] = []
    uri = f"sqlite:///{tmp_path}/file/no.db"
    background = BackgroundSync(root.store, STUDY, uri, messages.append)
    record = root.final()
    assert not background.open(timeout=0.05)
    background.start()
    background.touch(record.id)
    assert background.close(timeout=0.2) == 1
    assert not background.attach_report(tmp_path)
    assert len(messages) == 1


def test_many_runs_are_waited_for_as_long_as_one_after_the_other_is_logged(
    root: MlflowRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, begun = [root.begin(seed=seed) for seed in range(12)], threading.Event()

    def slow(*_: object) -> None:
        begun.set()
        time.sleep(0.1)

    monkeypatch.setattr("kdbench.tracking.background.sync_run", slow)
    background = BackgroundSync(root.store, STUDY, root.uri)
    assert background.open()
    for record in records:
        background.touch(record.id, root.listing[record.id])
    background.start()
    assert begun.wait(10)
    assert background.close(timeout=0.5) == 0


def test_a_bad_record_does_not_hold_up_the_others(root: MlflowRoot) -> None:
    bad, good = root.final(0), root.final(1)
    (bad.folder / "spec.json").write_text("{not json")
    messages: list[str] = []
    background = BackgroundSync(root.store, STUDY, root.uri, messages.append)
    background.open()
    background.start()
    background.touch(bad.id)
    background.touch(good.id)
    assert background.close(timeout=3) == 1
    assert root.run(good).info.status == "FINISHED"
    assert len(messages) == 1


def test_a_report_is_attached_to_the_study(root: MlflowRoot, tmp_path: Path) -> None:
    folder = tmp_path / "reports" / STUDY
    folder.mkdir(parents=True)
    (folder / "leaderboard.md").write_text("| a |")
    root.begin()
    background = BackgroundSync(root.store, STUDY, root.uri)
    for _ in range(2):
        assert background.attach_report(folder)
    frame = search(STUDY, root.uri)
    (run,) = frame.loc[frame["tags.kdbench.kind"] == "study", "run_id"]
    client = root.experiment().client
    assert client.get_run(run).info.run_name == STUDY
    assert [f.path for f in client.list_artifacts(run, "report")] == ["report/leaderboard.md"]


# -- reading


def test_trials_are_left_out_where_nobody_asks_for_them(root: MlflowRoot) -> None:
    final = root.final()
    root.begin("trial", seed=100, trial=0)
    sync_study(root.store, STUDY, root.uri)
    ids = search(STUDY, root.uri, trials=False)["tags.kdbench.id"].dropna()
    assert list(ids) == [final.id]
    assert len(search(STUDY, root.uri)["tags.kdbench.id"].dropna()) == 2


def test_search_equals_the_records(root: MlflowRoot) -> None:
    records = [root.final(seed) for seed in range(3)]
    sync_study(root.store, STUDY, root.uri)
    frame = search(STUDY, root.uri).set_index("tags.kdbench.id")
    for record in records:
        assert frame.loc[record.id, "metrics.test/accuracy"] == record.test["last"]["accuracy"]
        assert frame.loc[record.id, "params.seed"] == str(record.spec().seed)


def test_search_gives_a_duplicate_once(root: MlflowRoot) -> None:
    record = root.final()
    root.sync(record)
    experiment = root.experiment()
    experiment.client.create_run(experiment.id, 1, {"kdbench.id": record.id})
    frame = search(STUDY, root.uri)
    assert list(frame.loc[frame["tags.kdbench.id"] == record.id, "status"]) == ["FINISHED"]


@pytest.mark.parametrize("bulk", [True, False])
def test_curves_equal_the_records(
    root: MlflowRoot, bulk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [root.final(seed) for seed in range(3)]
    sync_study(root.store, STUDY, root.uri)
    if not bulk:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        monkeypatch.setattr(SqlAlchemyStore, "get_metric_history_bulk", None)
    frame = curves(STUDY, root.uri, [record.id for record in records[:2]])
    expected = pd.DataFrame(
        [
            (record.id, row["epoch"], key, value)
            for record in records[:2]
            for row in record.epochs()
            for key, value in row.items()
            if key != "epoch"
        ],
        columns=["id", "epoch", "metric", "value"],
    ).sort_values(["id", "epoch", "metric"], ignore_index=True)
    pd.testing.assert_frame_equal(frame, expected)
    assert set(curves(STUDY, root.uri)["id"]) == {record.id for record in records}


def test_reading_leaves_the_environment_and_creates_nothing(
    root: MlflowRoot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    root.experiment()
    search(STUDY, root.uri)
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://elsewhere"
    with pytest.raises(LookupError, match="kdbench study"):
        search("never", root.uri)
    with pytest.raises(LookupError, match="kdbench sync"):
        curves(STUDY, f"sqlite:///{tmp_path / 'other.db'}")
    assert not (tmp_path / "other.db").exists()
    with pytest.raises(LookupError, match="no plan"):
        sync_study(root.store, "never", root.uri)


# -- addresses, speech


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    command = ui_command(tmp_path, 5001)
    assert command[1:4] == ["-m", "mlflow", "ui"]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert artifact_location(tmp_path, "s", "http://host") is None
    assert artifact_location(tmp_path, "s", "postgresql+psycopg2://host/db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host/path?token=secret")
    assert tracking_uri(tmp_path) == "https://me:secret@host/path?token=secret"
    assert links.server(tracking_uri(tmp_path)) == "https://host/path"
    assert links.server("databricks") is None


@pytest.mark.parametrize(
    "uri", ["https://u:pa@host:5000/x", "postgresql://u:pa@host/db", "http://host/x?key=pa"]
)
def test_secrets_are_never_printed(uri: str) -> None:
    assert "pa" not in safe_uri(uri).removesuffix("/path")
    assert "host" in safe_uri(uri)
    remember(uri)
    assert "pa" not in mask(f"cannot reach {uri} or postgresql+x://u:pa@host/db")


def test_mlflow_is_quiet_and_tells_nobody(tmp_path: Path) -> None:
    code = (
        "import sys, os; from pathlib import Path; from kdbench.records.store import Store\n"
        "from kdbench.tracking import BackgroundSync\n"
        "assert not {'mlflow', 'torch', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "root = Path(sys.argv[1])\n"
        "m = BackgroundSync(Store(root), 's', f'sqlite:///{root}/mlflow.db', print)\n"
        "assert m.open(), 'not open'\n"
        "m.start(); assert m.close() == 0\n"
        "assert os.environ['MLFLOW_DISABLE_TELEMETRY'] == 'true'\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_sync_imports_no_torch(root: MlflowRoot) -> None:
    teacher = root.teacher()
    root.final(teacher=teacher.id)
    code = (
        "import sys; from pathlib import Path; from kdbench.records.store import Store\n"
        "from kdbench.tracking import curves, search, sync_study\n"
        "root, uri = Path(sys.argv[1]), sys.argv[2]\n"
        f"assert sync_study(Store(root), {STUDY!r}, uri)['updated'] == 2\n"
        f"assert len(search({STUDY!r}, uri)) == 4 and len(curves({STUDY!r}, uri))\n"
        "assert 'torch' not in sys.modules\n"
        "assert 'PIL.ImageDraw' in sys.modules\n"
    )
    arguments = [sys.executable, "-c", code, str(root.store.root), root.uri]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_loggers_do_not_write_into_the_terminal(root: MlflowRoot) -> None:
    root.experiment()
    assert not logging.getLogger("alembic").isEnabledFor(logging.INFO)
    assert not logging.getLogger("mlflow.store.db.utils").isEnabledFor(logging.ERROR)


# -- fidelity

LOGITS = arrays(np.float64, (5, 3), elements=st.floats(-20, 20))


@given(LOGITS, LOGITS)
def test_kl_is_its_definition(teacher: np.ndarray, student: np.ndarray) -> None:
    def probabilities(z: np.ndarray) -> np.ndarray:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    p, q = probabilities(teacher), probabilities(student)
    defined = (p * np.log(p / q)).sum(axis=1).mean()
    assert kl(teacher, student) == pytest.approx(defined, rel=1e-9, abs=1e-9)
    assert kl(teacher, teacher + 3.0) == pytest.approx(0.0, abs=1e-9)


@given(LOGITS, LOGITS)
def test_agreement_is_its_definition(teacher: np.ndarray, student: np.ndarray) -> None:
    same = sum(int(a.argmax()) == int(b.argmax()) for a, b in zip(teacher, student, strict=True))
    assert agreement(teacher, student) == same / 5
    assert agreement(teacher, 2 * teacher) == 1.0


def test_fidelity_by_hand() -> None:
    teacher = np.log(np.array([[0.5, 0.5], [0.9, 0.1]]))
    student = np.log(np.array([[0.25, 0.75], [0.9, 0.1]]))
    assert kl(teacher, student) == pytest.approx(0.5 * (0.5 * np.log(2) + 0.5 * np.log(2 / 3)))
    assert agreement(teacher, student) == 0.5  # a tie goes to the first class
    assert np.isnan(kl(teacher, np.full((2, 2), np.nan)))
    with pytest.raises(ValueError, match="alike"):
        kl(teacher, student[:1])


def test_points_need_no_clock() -> None:
    rows = [{"epoch": e, "seconds": 0.5, "x": float(e)} for e in (1, 2, 3)]
    points = payload.curve_points(rows, 1, 1000)
    assert [p for p in points if p.key == "epoch/x"] == [
        payload.Point("epoch/x", 2.0, 2000, 2),
        payload.Point("epoch/x", 3.0, 2500, 3),
    ]
    assert payload.curve_points(rows, 1, 1000) == points
