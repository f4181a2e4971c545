"""The Optuna studies of the tunings: written from the plans, by several processes, and no
reason to stop a study."""

import multiprocessing
import os
import socket
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import optuna
import pytest
from support.mlflow_root import MlflowRoot
from support.optuna_studies import RANGES, optuna_study, optuna_trials, trials, write_plan
from typer.testing import CliRunner

from kdbench.cli import app
from kdbench.records.plan_file import PlanRow
from kdbench.records.store import Store
from kdbench.tracking.optuna_log import STORAGE, OptunaLog
from kdbench.tracking.payload import end_of


@pytest.fixture(autouse=True)
def _no_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STORAGE, raising=False)


def test_the_trials_of_a_tuning_that_has_ended(tmp_path: Path) -> None:
    wanted = trials()
    write_plan(tmp_path, wanted)
    assert OptunaLog(tmp_path).write("digits")
    found = optuna_trials(tmp_path)
    assert [t[0] for t in found] == [0, 1, 2, 3]
    assert found[2][1:] == ("FAIL", None, wanted[2].hparams, {"number": 2, "runs": ["run2"]})
    assert found[3][1:] == (
        "COMPLETE", wanted[3].accuracy, wanted[3].hparams,
        {"number": 3, "runs": ["run3"], "val.nll": 0.4, "chosen": True},
    )  # fmt: skip
    study = optuna_study(tmp_path)
    assert study.best_trial.number == 3
    assert study.metric_names == ["validation accuracy"]
    assert study.best_trial.distributions["temperature"].log


def test_the_chosen_trial_is_marked_with_the_rule(tmp_path: Path) -> None:
    first = trials(2)
    equal = replace(first[1], accuracy=first[0].accuracy, nll=0.1)
    write_plan(tmp_path, (first[0], equal))
    assert OptunaLog(tmp_path).write("digits")
    study = optuna_study(tmp_path)
    assert [t.user_attrs.get("chosen") for t in study.trials] == [None, True]
    assert study.user_attrs["chosen trial"] == 1
    # As optuna-dashboard's `save_note` does.
    system = study._storage.get_study_system_attrs(study._study_id)
    note = system["dashboard:note_str:0"]
    assert note.startswith("Trial **1** was chosen")
    assert "then lower validation NLL; then lower number" in note
    assert system["dashboard:note_ver"] == 1


def test_a_trial_has_its_curve_its_times_and_its_run(
    tmp_path: Path, empty_database: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(empty_database)
    root = MlflowRoot(tmp_path)
    record = root.begin("trial", trial=0)
    root.epochs(record, 1, 3)
    root.finish(record)
    os.utime(record.folder / "spec.json", (1_700_000_000, 1_700_000_000))
    tuned = PlanRow(
        "kd", "tuned", "kd", searched=tuple(RANGES), best_trial=0, ranges=RANGES,
        trials=(replace(trials(1)[0], runs=(record.id,)),),
    )  # fmt: skip
    replace(root.plan, listing=root.listing, rows=(tuned,)).dump(root.store.plan_path("digits"))
    log = OptunaLog(tmp_path)
    assert log.write("digits")
    assert "mlflow" not in optuna_study(tmp_path).trials[0].user_attrs
    root.sync(record)
    assert log.write("digits")
    (trial,) = optuna_study(tmp_path).trials
    assert trial.intermediate_values == {
        row["epoch"]: row["val.accuracy"] for row in record.epochs()
    }
    assert trial.datetime_start.timestamp() == 1_700_000_000
    assert trial.datetime_complete.timestamp() * 1000 == end_of(record.result)
    (link,) = trial.user_attrs["mlflow"]
    assert link.endswith(
        f"#/experiments/{root.experiment().id}/runs/{root.run(record).info.run_id}"
    )


def test_a_tuning_that_has_not_ended_is_left_out(tmp_path: Path) -> None:
    write_plan(tmp_path, trials(), ended=False)
    assert OptunaLog(tmp_path).write("digits")
    with pytest.raises(KeyError):
        optuna_study(tmp_path)


def test_an_edited_study_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    log = OptunaLog(tmp_path)
    write_plan(tmp_path, trials(6), study="mnist")
    write_plan(tmp_path, trials(6), labels=("kd", "dkd"))
    assert log.write("digits")
    edited = (replace(trials(1)[0], runs=("other",)), *trials(4)[1:])
    write_plan(tmp_path, edited)
    assert log.write("digits")
    assert [t[4]["runs"] for t in optuna_trials(tmp_path)] == [list(t.runs) for t in edited]
    assert len(optuna_trials(tmp_path, "mnist/kd")) == 6
    with pytest.raises(KeyError):
        optuna_study(tmp_path, "digits/dkd")


def test_a_value_outside_of_its_range(tmp_path: Path) -> None:
    outside = {"temperature": 0.0, "alpha": 2.0}
    write_plan(tmp_path, [replace(trials(1)[0], hparams=outside)])
    assert OptunaLog(tmp_path).write("digits")
    assert optuna_trials(tmp_path)[0][3] == outside


def test_damaged_files_are_no_trouble(tmp_path: Path) -> None:
    messages: list[str] = []
    write_plan(tmp_path, trials())
    Store(tmp_path).plan_path("torn").write_text('{"study": ')
    (tmp_path / "optuna.journal").write_bytes(b"\x00" * 5000)
    assert OptunaLog(tmp_path, messages.append).write("digits")
    assert len(optuna_trials(tmp_path)) == 4
    assert not messages


def test_the_sync_command_writes_it_again(tmp_path: Path, empty_database: bytes) -> None:
    write_plan(tmp_path, trials())
    (tmp_path / "mlflow.db").write_bytes(empty_database)
    result = CliRunner().invoke(app, ["sync", "digits", "--root", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert len(optuna_trials(tmp_path)) == 4


def test_optuna_dashboard_opens_the_journal(tmp_path: Path) -> None:
    dashboard = pytest.importorskip("optuna_dashboard")
    write_plan(tmp_path, trials())
    OptunaLog(tmp_path).write("digits")

    class Silent(WSGIRequestHandler):
        def log_message(self, *args) -> None: ...

    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna.journal"))
    application = dashboard.wsgi(optuna.storages.JournalStorage(backend))
    server = make_server("127.0.0.1", 0, application, handler_class=Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/api/studies"
        with urllib.request.urlopen(address, timeout=20) as answer:
            assert b'"digits/kd"' in answer.read()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# -- several processes, and trouble


def write_several_times(barrier, root: Path, study: str) -> None:
    log = OptunaLog(root, on_trouble=print)
    barrier.wait()
    for count in range(1, 9):
        write_plan(root, trials(count), study=study)
        assert log.write(study)


def test_processes_that_write_at_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(2)
    processes = [
        spawn.Process(target=write_several_times, args=(barrier, tmp_path, study))
        for study in ("digits", "mnist")
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    for name in ("digits/kd", "mnist/kd"):
        assert [t[4]["number"] for t in optuna_trials(tmp_path, name)] == list(range(8))


def test_a_full_disk_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    log = OptunaLog(tmp_path, messages.append)
    write_plan(tmp_path, trials(1))
    assert log.write("digits")
    write_plan(tmp_path, trials(3))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
        assert not log.write("digits")
        assert not log.write("digits")
    assert len(messages) == 1
    assert "no room for" in messages[0]
    assert "kdbench sync digits" in messages[0]
    assert len(optuna_trials(tmp_path)) == 1
    assert log.write("digits")
    assert len(optuna_trials(tmp_path)) == 3


def test_trials_in_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    monkeypatch.setenv(STORAGE, url)
    for count in (2, 4, 4):
        write_plan(tmp_path, trials(count))
        assert OptunaLog(tmp_path).write("digits")
    assert not (tmp_path / "optuna.journal").exists()
    study = optuna.load_study(study_name="digits/kd", storage=url)
    assert [t.user_attrs["number"] for t in study.trials] == [0, 1, 2, 3]


def test_optuna_does_not_go_into_the_database_of_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://a:s3cret@host/db")
    monkeypatch.setenv(STORAGE, "postgresql+psycopg2://b:s3cret@host/db")
    messages: list[str] = []
    write_plan(tmp_path, trials(2))
    assert OptunaLog(tmp_path, messages.append).write("digits")
    assert len(messages) == 1
    assert "one of its own" in messages[0]
    assert "s3cret" not in messages[0]
    assert len(optuna_trials(tmp_path)) == 2
    monkeypatch.setenv(STORAGE, "postgresql+psycopg2://b:s3cret@host/db2")
    assert OptunaLog(tmp_path).where() == "postgresql+psycopg2://***@host/db2"


def test_a_storage_that_is_away_stops_nothing_and_no_secret_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("psycopg2")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv(STORAGE, f"postgresql+psycopg2://me:tops3cret@127.0.0.1:{port}/none")
    messages: list[str] = []
    write_plan(tmp_path, trials(2))
    assert not OptunaLog(tmp_path, messages.append).write("digits")
    assert len(messages) == 1
    assert "***@127.0.0.1" in messages[0]
    printed = capfd.readouterr()
    assert not any("tops3cret" in text for text in (*messages, printed.out, printed.err))
