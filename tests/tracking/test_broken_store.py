"""A store that waiting does not mend: said at once, never in the way of a report, and replaced."""

import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from mlflow.exceptions import MlflowException
from support.mlflow_root import STUDY, MlflowRoot, until

from kdbench.cli.doctor import Finding, examine
from kdbench.execution.signals import StopRequest
from kdbench.records.plan_file import PlanData, PlanRow
from kdbench.records.store import Store
from kdbench.report.data.collect import (
    collect_report_data,
    data_from_mlflow,
)
from kdbench.report.write import FROM_RECORDS, leaderboard_of, text_files
from kdbench.tracking import BackgroundSync, sync_study, tracking_uri
from kdbench.tracking.database import (
    BrokenDatabase,
    check_readable,
    create_database,
    damage,
    sqlite_path,
    sqlite_uri,
)
from kdbench.tracking.experiment import StudyExperiment
from kdbench.tracking.failures import may_pass
from kdbench.tracking.repair import end_dropped_runs


def garbage(path: Path) -> None:
    path.write_bytes(b"not a database at all " * 100)


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:-4096] = bytes(len(content) - 8192)
    path.write_bytes(content)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "mine.txt").write_text("keep me")


def other_schema(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES ('v3.2.0.a')")
        database.execute("CREATE TABLE spans (x INTEGER)")
        database.commit()


def half_schema(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute("DROP TABLE experiments")
        database.execute("DELETE FROM alembic_version")
        database.commit()


BREAKS = (garbage, damaged, folder, other_schema, half_schema)


@pytest.fixture
def finished(root: MlflowRoot) -> MlflowRoot:
    """A root with a leaderboard of two methods on two seeds."""
    teacher = root.teacher()
    labels = {"ce": {}, "kd": {"teacher": teacher.id}}
    runs = {
        label: {str(seed): root.final(seed, label, **entry).id for seed in range(2)}
        for label, entry in labels.items()
    }
    rows = tuple(PlanRow(label, "only", label, runs=runs[label]) for label in labels)
    data = PlanData("digits", "c" * 64, classes=("zero", "one", "two", "three"))
    teachers = {"0": teacher.id}
    root.plan = replace(root.plan, rows=rows, teachers=teachers, reference="ce", data=data)
    replace(root.plan, listing=root.listing).dump(root.store.plan_path(STUDY))
    return root


def mlflow_findings(root: MlflowRoot) -> list[Finding]:
    """What `kdbench doctor` finds wrong with MLflow; the records here have no real weights."""
    return [finding for finding in examine(root.store) if "MLflow" in finding.what]


def synced_copy(root: MlflowRoot, tmp_path: Path, empty_database: bytes) -> Store:
    """The same root beside it, whose MLflow is whole."""
    store = Store(tmp_path / "whole")
    shutil.copytree(root.store.root / "runs", store.root / "runs")
    (store.root / "mlflow.db").write_bytes(empty_database)
    sync_study(store, STUDY, tracking_uri(store.root))
    return store


@pytest.mark.parametrize("spoil", BREAKS)
def test_a_broken_database_is_said_at_once_and_replaced_by_doctor(
    finished: MlflowRoot, spoil: Callable[[Path], None], tmp_path: Path, empty_database: bytes
) -> None:
    root, messages = finished, list[str]()
    path = root.store.root / "mlflow.db"
    spoil(path)
    before = time.monotonic()
    background = BackgroundSync(root.store, STUDY, root.uri, messages.append)
    assert not background.open()
    background.start()
    for run_id in root.listing:
        background.touch(run_id)
    assert background.close(timeout=60) == len(root.listing)
    assert time.monotonic() - before < 10
    (message,) = messages
    assert "`kdbench sync digits` brings MLflow up to date" in message

    # The report is made all the same, with the same bytes but for the caption that says so.
    said: list[str] = []
    data = collect_report_data(root.store, STUDY, said.append)
    assert "cannot be asked" in said[-1]
    assert data.from_records
    whole = data_from_mlflow(synced_copy(root, tmp_path, empty_database), STUDY)
    assert not whole.from_records
    assert replace(data, from_records=False).files() == whole.files()
    board, expected = leaderboard_of(data), leaderboard_of(whole)
    assert board.captions == (*expected.captions, FROM_RECORDS)
    assert text_files(replace(board, captions=expected.captions), data) == text_files(
        expected, whole
    )

    (finding,) = mlflow_findings(root)
    assert path.exists()  # looked at, not touched
    assert finding.repair is not None
    assert "a new one was written from the records" in finding.repair()
    (aside,) = root.store.root.glob("mlflow.db.damaged-*")
    if spoil is folder:
        assert (aside / "mine.txt").read_text() == "keep me"
    assert mlflow_findings(root) == []
    assert data_from_mlflow(root.store, STUDY).files() == whole.files()


def test_a_sound_database_is_left_alone(finished: MlflowRoot) -> None:
    sync_study(finished.store, STUDY, finished.uri)
    assert mlflow_findings(finished) == []


def test_check_and_report_go_on_without_mlflow(
    finished: MlflowRoot, capsys: pytest.CaptureFixture[str]
) -> None:
    from typer.testing import CliRunner

    from kdbench.cli import app

    garbage(finished.store.root / "mlflow.db")
    place = ["--root", str(finished.store.root)]
    made = CliRunner().invoke(app, ["report", STUDY, *place])
    assert made.exit_code == 0, made.output
    folder = finished.store.report_folder(STUDY)
    assert str(FROM_RECORDS) in (folder / "leaderboard.md").read_text()
    checked = CliRunner().invoke(app, ["check", str(folder), "--runs", *place])
    assert checked.exit_code == 0, checked.output
    assert "every number is what its runs give" in checked.output


def test_what_mlflow_lacks_is_added_before_a_report(finished: MlflowRoot) -> None:
    said: list[str] = []
    data = collect_report_data(finished.store, STUDY, said.append)
    assert not data.from_records
    assert ["doing that first" in text for text in said] == [True]


@pytest.mark.parametrize("content", ["[1, 2]", "null", "3", '{"a": [1]}', "{", ""])
def test_a_damaged_mapping_of_one_record_is_made_again(root: MlflowRoot, content: str) -> None:
    record = root.final()
    root.sync(record)
    before = root.content()
    (record.folder / "mlflow.json").write_text(content)
    root.sync(record)
    assert root.content() == before  # MLflow itself says what it holds
    assert sync_study(root.store, STUDY, root.uri)["up to date"] == 1


@pytest.mark.parametrize("content", ["[]", "{", "null", '{"rows": []}', '{"rows": {"kd": 3}}'])
def test_damaged_costs_do_not_stop_logging(root: MlflowRoot, content: str) -> None:
    path = root.store.costs_path(STUDY)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    assert root.sync(root.final())


def test_one_run_that_cannot_be_logged_does_not_keep_the_others(root: MlflowRoot) -> None:
    stuck, others = root.final(0), [root.final(seed) for seed in range(1, 6)]
    (stuck.folder / "mlflow.json").mkdir()
    messages: list[str] = []
    background = BackgroundSync(root.store, STUDY, root.uri, messages.append)
    background.start()
    for record in (stuck, *others):
        background.touch(record.id)
    before = time.monotonic()
    assert background.close(timeout=60) == 1
    assert time.monotonic() - before < 20
    assert "mlflow.json" in messages[0]


# -- waiting


def test_waiting_is_counted_and_can_be_cut_short(root: MlflowRoot) -> None:
    record = root.final()
    holding = threading.Event()
    background = BackgroundSync(root.store, STUDY, root.uri)
    background._sync_run = lambda *_: holding.wait(60)
    background.start()
    background.touch(record.id)
    waited: list[tuple[int, float]] = []

    def on_wait(left: int, seconds: float) -> None:
        waited.append((left, seconds))
        if len(waited) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        background.close(timeout=60, on_wait=on_wait)
    assert [left for left, _ in waited] == [1, 1, 1]
    assert waited[0][1] < waited[1][1] < waited[2][1] < 10
    holding.set()


def test_opening_can_be_cut_short(root: MlflowRoot) -> None:
    background = BackgroundSync(root.store, STUDY, root.uri)
    holding = threading.Event()
    background.experiment.open = lambda: holding.wait(60)
    before = time.monotonic()
    assert not background.open(timeout=60, stopped=lambda: time.monotonic() - before > 0.2)
    assert time.monotonic() - before < 10
    holding.set()


def chained(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def sqlite_error(path: Path, statement: str) -> sqlite3.Error:
    with closing(sqlite3.connect(path)) as database, pytest.raises(sqlite3.Error) as caught:
        database.execute(statement)
    return caught.value


def test_which_errors_may_pass(tmp_path: Path) -> None:
    garbage(tmp_path / "x.db")
    broken = sqlite_error(tmp_path / "x.db", "SELECT * FROM sqlite_master")
    refused = "API request to http://h/api failed with exception HTTPConnectionPool(host='h'): Max "
    passing = [
        TimeoutError("no answer within 60 s"),
        ConnectionRefusedError(111, "Connection refused"),
        OSError(28, "No space left on device"),
        requests.exceptions.ConnectTimeout("timed out"),
        MlflowException(refused + "retries exceeded (Connection refused)"),
        MlflowException("API request to endpoint /x failed with error code 503 != 200"),
        chained(ValueError("x"), ConnectionResetError(104, "reset")),
    ]
    staying = [
        broken,
        chained(MlflowException("(sqlite3.DatabaseError) file is not a database"), broken),
        MlflowException("Detected out-of-date database schema (found version x, but expected y)"),
        MlflowException("API request to endpoint /x failed with error code 401 != 200"),
        MlflowException(refused + "retries exceeded (Name or service not known)"),
        MlflowException("Model registry functionality is unavailable; got unsupported URI 'ftp:'"),
        BrokenDatabase(tmp_path / "x.db", "file is not a database"),
        IsADirectoryError(21, "Is a directory"),
        TypeError("list indices must be integers"),
    ]
    assert [error for error in passing if not may_pass(error)] == []
    assert [error for error in staying if may_pass(error)] == []


# -- the file of the database


@pytest.mark.parametrize("name", ["a%20b", "a?b", "100%", "a#b c'd", "plain"])
def test_a_root_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = MlflowRoot(tmp_path / name)
    root.uri = tracking_uri(root.store.root)
    assert sqlite_path(root.uri) == root.store.root / "mlflow.db"
    record = root.final()
    assert sync_study(root.store, STUDY, root.uri)["updated"] == 1
    assert "confusion_matrix.png" in root.content()["kd seed 0"][4]
    assert (root.store.root / "mlflow.db").stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert record.result is not None


@pytest.mark.parametrize("name", ["x", "a%20b", "a?b"])
def test_addresses_are_read_back(name: str) -> None:
    path = Path("/somewhere") / name / "mlflow.db"
    assert sqlite_path(sqlite_uri(path)) == path
    assert sqlite_path("http://host/mlflow.db") is None


KILLED = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")  # so that pages are written before the commit
database.execute("BEGIN")
database.execute("CREATE TABLE half (x)")
database.executemany("INSERT INTO half VALUES (?)", [("x" * 999,)] * 999)
os._exit(9)
"""


def test_what_a_killed_process_left_half_written_is_no_damage(root: MlflowRoot) -> None:
    path = root.store.root / "mlflow.db"
    for look in (check_readable, damage):
        subprocess.run([sys.executable, "-c", KILLED, str(path)])
        assert path.with_name("mlflow.db-journal").stat().st_size > 0
        assert look(path) is None
    root.final()
    sync_study(root.store, STUDY, root.uri)
    assert mlflow_findings(root) == []


OPEN = """
import resource, sys
from pathlib import Path
from kdbench.records.store import Store
from kdbench.tracking import tracking_uri
from kdbench.tracking.experiment import StudyExperiment
limit = int(sys.argv[2])
if limit:
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
root = Path(sys.argv[1])
StudyExperiment(Store(root), "digits", tracking_uri(root)).open()
"""


@pytest.mark.long
def test_no_room_for_a_new_database_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for limit in (5_000, 200_000, 400_000):
        small = subprocess.run(
            [sys.executable, "-c", OPEN, str(tmp_path), str(limit)], capture_output=True, text=True
        )
        assert small.returncode != 0
        assert list(tmp_path.glob("*mlflow.db*")) == []
    assert subprocess.run([sys.executable, "-c", OPEN, str(tmp_path), "0"]).returncode == 0
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_new_database_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"

    def half(uri: str) -> None:
        new = sqlite_path(uri)
        assert new is not None
        assert new.parent == tmp_path
        new.write_bytes(b"half")
        new.with_name(new.name + "-journal").write_bytes(b"rest")
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(sqlite3.OperationalError):
        create_database(path, half)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".mlflow.db.0123abcd.new").write_bytes(b"of a killed process")
    create_database(path, lambda uri: sqlite_path(uri).write_bytes(b"whole"))
    assert [p.name for p in tmp_path.iterdir()] == ["mlflow.db"]
    assert path.read_bytes() == b"whole"


# -- runs that an edit has dropped


def test_a_start_ends_the_runs_that_the_study_has_dropped(root: MlflowRoot) -> None:
    dropped, trained = root.begin(seed=1), root.begin(seed=2)
    for record in (dropped, trained):
        root.epochs(record, 1, 1)
        root.sync(record, live=True)
        del root.listing[record.id]
    kept = root.final(3)
    background = BackgroundSync(root.store, STUDY, root.uri)
    background.open()
    background.start()
    with trained.writing():
        background.touch(kept.id)
        until(lambda: root.run(dropped).info.status == "KILLED")  # not only at the end
        assert background.close() == 0
        assert root.run(dropped).data.tags["kdbench.state"] == "interrupted"
        assert root.run(trained).info.status == "RUNNING"
    experiment = StudyExperiment(root.store, STUDY, root.uri)
    experiment.open()
    end_dropped_runs(experiment)
    assert root.run(trained).info.status == "KILLED"


# -- signals


def test_a_second_signal_is_not_waited_for() -> None:
    stop = StopRequest()
    with pytest.raises(KeyboardInterrupt):
        interrupt_twice(stop)
    assert stop.requested


def interrupt_twice(stop: StopRequest) -> None:
    with stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        signal.raise_signal(signal.SIGINT)
