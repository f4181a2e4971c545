"""MLflow when things go wrong: many processes, kills, servers that are away."""

import http.server
import json
import multiprocessing
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.mlflow_root import STUDY, MlflowRoot, until

from kdbench.masking import mask, remember, safe_uri
from kdbench.records.store import Store
from kdbench.tracking import (
    BackgroundSync,
    attach_report,
    repair_stale,
    search,
    stale_runs,
    sync_study,
)
from kdbench.tracking.experiment import StudyExperiment, record_lock
from kdbench.tracking.sync import sync_run

SPAWN = multiprocessing.get_context("spawn")


def together(work: Callable, count: int, *arguments) -> None:
    """Have `count` processes do the same at once; none may fail."""
    barrier = SPAWN.Barrier(count)
    group = [SPAWN.Process(target=work, args=(barrier, *arguments)) for _ in range(count)]
    for process in group:
        process.start()
    for process in group:
        process.join(120)
    assert [process.exitcode for process in group] == [0] * count


def steps_once(root: MlflowRoot) -> int:
    """How many points MLflow holds; fails where a run has a step of a metric twice."""
    client, count = root.experiment().client, 0
    for run in client.search_runs([root.experiment().id]):
        for key in run.data.metrics:
            steps = [p.step for p in client.get_metric_history(run.info.run_id, key)]
            assert len(set(steps)) == len(steps), (run.info.run_name, key, steps)
            count += len(steps)
    return count


# -- several processes


def sync_all(barrier, root: Path, uri: str, listing: dict, report: Path) -> None:
    """What one `kdbench study` process does to MLflow, in short."""
    messages: list[str] = []
    background = BackgroundSync(Store(root), STUDY, uri, messages.append)
    assert background.open(), messages
    barrier.wait()
    background.start()
    for run_id, entry in listing.items():
        background.touch(run_id, entry)
    assert background.attach_report(report), messages
    assert background.close() == 0, messages
    assert not messages


def test_two_processes_make_one_experiment(tmp_path: Path) -> None:
    root = MlflowRoot(tmp_path)  # with no database yet
    teacher = root.teacher()
    records = [teacher, *(root.final(seed, teacher=teacher.id) for seed in range(3))]
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "page.html").write_text("x")
    together(sync_all, 2, tmp_path, root.uri, root.listing, tmp_path / "report")
    experiment = root.experiment()
    runs = experiment.client.search_runs([experiment.id])
    ids = [r.data.tags["kdbench.id"] for r in runs if "kdbench.id" in r.data.tags]
    assert sorted(ids) == sorted(record.id for record in records)
    assert sorted(r.info.run_name for r in runs if "kdbench.id" not in r.data.tags) == [
        "digits", "kd", "teachers",
    ]  # fmt: skip
    assert steps_once(root)
    assert sync_study(root.store, STUDY, root.uri) == {
        "up to date": 4,
        "updated": 0,
        "not begun": 0,
    }
    assert stale_runs(root.store, STUDY, root.uri) == []


def test_two_that_know_nothing_of_each_other_take_the_same_run(root: MlflowRoot) -> None:
    record = root.begin()
    first, second = root.experiment(), root.experiment()
    for epoch, experiment in enumerate((first, second, first, second), 1):
        root.epochs(record, epoch, epoch)
        assert sync_run(experiment, record.id, root.listing[record.id], live=True)
    root.finish(record, epochs=4)
    sync_run(second, record.id, root.listing[record.id])
    assert not sync_run(first, record.id, root.listing[record.id])
    assert len(search(STUDY, root.uri)) == 2
    assert root.run(record).info.status == "FINISHED"
    assert steps_once(root)


def test_a_record_that_another_process_syncs_is_no_trouble(root: MlflowRoot) -> None:
    records = [root.final(seed) for seed in range(2)]
    messages: list[str] = []
    background = BackgroundSync(root.store, STUDY, root.uri, messages.append)
    background.experiment.patience = 0.05
    background.open()
    background.start()
    with record_lock(records[0], 1):
        for record in records:
            background.touch(record.id)
        until(lambda: background.out_of_date() == 1)
    assert background.close() == 0
    assert messages == []


def test_closing_leaves_what_another_process_trains(root: MlflowRoot) -> None:
    record = root.begin()
    root.epochs(record, 1, 1)
    background = BackgroundSync(root.store, STUDY, root.uri)
    background.start()
    background.touch(record.id)
    with record.writing():
        assert background.close() == 0
        assert root.run(record).info.status == "RUNNING"
        assert stale_runs(root.store, STUDY, root.uri) == []


def test_a_run_deleted_meanwhile_is_created_again(root: MlflowRoot) -> None:
    record = root.begin()
    root.epochs(record, 1, 2)
    background = BackgroundSync(root.store, STUDY, root.uri)
    background.start()
    background.touch(record.id)
    until(lambda: background.out_of_date() == 0)
    root.experiment().client.delete_run(root.run(record).info.run_id)
    root.epochs(record, 3, 3)
    background.touch(record.id)
    assert background.close() == 0
    assert len(root.content()["kd seed 0"][3]["train/loss"]) == 3


# -- what killed processes leave


def killed_study(root: MlflowRoot) -> dict[str, str]:
    """An experiment with one of each trouble; MLflow's run ids by what is wrong."""
    done, cut, gone = root.final(0), root.begin(seed=1), root.begin(seed=2)
    root.epochs(cut, 1, 2)
    experiment = root.experiment()
    for record in (done, cut, gone):
        sync_run(experiment, record.id, root.listing[record.id], live=True)
    client, where = experiment.client, experiment.id
    study = client.create_run(where, None, {"kdbench.kind": "study"}, STUDY)
    duplicate = client.create_run(where, 1, {"kdbench.id": done.id}, "duplicate")
    foreign = client.create_run(where, 1, {}, "made by hand")
    ids = {"interrupted": experiment.runs[cut.id].info.run_id, "duplicate": duplicate.info.run_id}
    ids |= {"orphan": experiment.runs[gone.id].info.run_id, "study": study.info.run_id}
    ids |= {"group": experiment._groups["kd"][0], "foreign": foreign.info.run_id, "cut": cut.id}
    for path in gone.folder.iterdir():
        path.unlink()
    gone.folder.rmdir()
    return ids


def test_stale_runs_are_listed_and_repaired(root: MlflowRoot) -> None:
    ids = killed_study(root)
    before = root.content()
    assert sync_study(root.store, STUDY, root.uri)["duplicated"] == 1
    root.experiment().client.update_run(ids["group"], "RUNNING")
    root.experiment().client.update_run(ids["interrupted"], "RUNNING")
    with root.store.record(ids["cut"]).writing():
        busy = {(s.trouble, s.run) for s in stale_runs(root.store, STUDY, root.uri)}
    found = stale_runs(root.store, STUDY, root.uri)
    wanted = {("duplicate", ids["duplicate"]), ("open", ids["study"]), ("orphan", ids["orphan"])}
    assert busy == wanted
    wanted |= {("interrupted", ids["interrupted"]), ("open", ids["group"])}
    assert {(s.trouble, s.run) for s in found} == wanted
    assert set(root.content()) == set(before)  # looked at, not touched
    assert not (root.store.root / "runs" / str(next(
        s.id for s in found if s.trouble == "orphan"))).exists()  # fmt: skip
    repaired = repair_stale(root.store, STUDY, root.uri, found)
    assert {s.trouble for s in repaired} == {"duplicate", "open", "interrupted"}
    client = root.experiment().client
    run = client.get_run(ids["interrupted"])
    assert (run.info.status, run.data.tags["kdbench.state"]) == ("KILLED", "interrupted")
    assert client.get_run(ids["duplicate"]).info.lifecycle_stage == "deleted"
    assert client.get_run(ids["group"]).info.status == "FINISHED"
    assert client.get_run(ids["foreign"]).info.status == "RUNNING"
    assert [s.trouble for s in stale_runs(root.store, STUDY, root.uri)] == ["orphan"]
    assert repair_stale(root.store, STUDY, root.uri, found) == []


def test_an_interrupted_run_that_left_the_plan_is_closed(root: MlflowRoot) -> None:
    record = root.begin()
    root.sync(record, live=True)
    del root.listing[record.id]
    root.final(5)
    found = [s for s in stale_runs(root.store, STUDY, root.uri) if s.id == record.id]
    assert repair_stale(root.store, STUDY, root.uri, found) == found
    assert root.run(record).info.status == "KILLED"


# -- servers


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A real MLflow server on loopback that can be stopped and started again."""

    def __init__(self, root: Path, database: bytes) -> None:
        self.root, self.port = root, port()
        self.uri = f"http://127.0.0.1:{self.port}"
        (root / "server.db").write_bytes(database)
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.root / 'server.db'}"]
        command += ["--artifacts-destination", str(self.root / "artifacts")]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        log = (self.root / "server.log").open("ab")
        self.process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        until(self.answers, 90)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    empty_database: bytes,
) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), empty_database)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("kdbench.tracking.background.FIRST_WAIT", 0.1)


def touched(background: BackgroundSync, run_id: str) -> None:
    """Touch, which must return at once whatever MLflow does."""
    before = time.monotonic()
    background.touch(run_id)
    assert time.monotonic() - before < 0.5


@pytest.mark.usefixtures("impatient")
def test_a_server_that_goes_and_comes(root: MlflowRoot, server: Server) -> None:
    root.uri = server.uri
    record, finished = root.begin(), root.final(1)
    messages: list[str] = []
    background = BackgroundSync(root.store, STUDY, server.uri, messages.append)
    assert background.open()
    background.start()
    root.epochs(record, 1, 2)
    touched(background, record.id)
    until(lambda: background.out_of_date() == 0)
    server.stop()
    root.epochs(record, 3, 4)
    touched(background, record.id)
    touched(background, finished.id)
    until(lambda: bool(messages))
    assert background.close(timeout=1) == 2
    assert len(messages) == 1
    assert "kdbench sync digits" in messages[0]
    server.start()
    # It comes back while another background is at work, and that one needs no sync.
    root.epochs(record, 5, 5)
    root.finish(record, epochs=5)
    root.score(record)
    again = BackgroundSync(root.store, STUDY, server.uri, messages.append)
    again.start()
    touched(again, record.id)
    assert again.close() == 0
    assert sync_study(root.store, STUDY, server.uri) == {
        "up to date": 1,
        "updated": 1,
        "not begun": 0,
    }
    assert sync_study(root.store, STUDY, server.uri) == {
        "up to date": 2,
        "updated": 0,
        "not begun": 0,
    }
    assert steps_once(root)
    held = root.content()["kd seed 0"]
    assert [step for step, _ in held[3]["train/loss"]] == [1, 2, 3, 4, 5]
    assert "confusion_matrix.png" in held[4]


def test_an_answer_that_is_lost_doubles_nothing(
    root: MlflowRoot,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every kind of request does its work once and loses the answer."""
    from mlflow import MlflowClient

    root.uri = server.uri
    root.store.root.joinpath("calibration").mkdir()
    other = StudyExperiment(root.store, "lost", server.uri)
    other.open()
    record = root.final(3)
    for call in ("create_run", "log_batch", "log_inputs", "log_artifacts", "set_terminated"):
        real = getattr(MlflowClient, call)

        def lossy(*args, real=real, call=call, **kwargs):
            real(*args, **kwargs)
            monkeypatch.undo()
            raise ConnectionError(call)

        monkeypatch.setattr(MlflowClient, call, lossy)
        with pytest.raises(ConnectionError, match=call):
            sync_run(other, record.id, root.listing[record.id])
    assert sync_run(other, record.id, root.listing[record.id])
    runs = other.client.search_runs([other.id], f"tags.`kdbench.id` = '{record.id}'")
    (run,) = runs
    assert run.info.status == "FINISHED"
    for key in run.data.metrics:
        steps = [p.step for p in other.client.get_metric_history(run.info.run_id, key)]
        assert len(set(steps)) == len(steps)


@contextmanager
def stub(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server that treats every request alike; its host and port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

        def log_message(self, *args) -> None: ...

    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.daemon_threads = True
    found.block_on_close = False
    thread = threading.Thread(target=found.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{found.server_port}"
    finally:
        found.shutdown()
        found.server_close()
        thread.join()


def refuse(request: http.server.BaseHTTPRequestHandler) -> None:
    """HTTP 500, with the address and its secret thrown back, as proxies do."""
    text = b"cannot reach http://user:tops3cret@host for user and tops3cret"
    request.send_response(500)
    request.send_header("Content-Length", str(len(text)))
    request.end_headers()
    request.wfile.write(text)


def dawdle(request: http.server.BaseHTTPRequestHandler) -> None:
    time.sleep(4)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("answer", [refuse, dawdle])
def test_a_server_of_no_use(
    root: MlflowRoot,
    answer: Callable,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    record = root.final()
    messages: list[str] = []
    with stub(answer) as place:
        background = BackgroundSync(
            root.store, STUDY, f"http://user:tops3cret@{place}", messages.append
        )
        before = time.monotonic()
        assert not background.open(timeout=0.3)
        background.start()
        touched(background, record.id)
        assert background.close(timeout=0.5) == 1
        assert time.monotonic() - before < 3
        until(lambda: bool(messages))
    printed = capfd.readouterr()
    everything = [*messages, caplog.text, printed.out, printed.err]
    everything += [p.read_text(errors="replace") for p in record.folder.rglob("*") if p.is_file()]
    assert len(messages) == 1
    assert not any("tops3cret" in text for text in everything)
    # What was not messages here is in the records, and goes to another store.
    assert sync_study(root.store, STUDY, root.uri)["updated"] == 1
    assert steps_once(root)


def synced_at(root: MlflowRoot, uri: str, record) -> bool:
    experiment = StudyExperiment(root.store, STUDY, uri)
    experiment.open()
    return sync_run(experiment, record.id, root.listing[record.id])


def test_secrets_are_in_no_mapping_and_no_message(root: MlflowRoot, server: Server) -> None:
    record = root.final(4)
    messages: list[str] = []
    uri = server.uri.replace("//", "//user:tops3cret@")
    background = BackgroundSync(root.store, STUDY, uri, messages.append)
    assert background.sync_run(record.id, root.listing[record.id]), messages
    mapping = (record.folder / "mlflow.json").read_text()
    assert "tops3cret" not in mapping
    (known,) = json.loads(mapping).values()
    assert known["store"] == server.uri.replace("//", "//***@")
    # With another password it is the same store, and nothing is logged again.
    assert not synced_at(root, uri.replace("tops3cret", "changed"), record)
    assert not messages


@pytest.mark.parametrize(
    ("uri", "secrets"),
    [
        ("http://u:p%40ss3/x@h", ("p%40ss3/x", "p@ss3/x")),
        ("http://u:a@b3c@h/y", ("a@b3c",)),
        ("http://h/?token=s3same", ("s3same",)),
        ("postgresql+psycopg2://u:pw3@h/db?sslpassword=q4", ("pw3", "q4")),
    ],
)
def test_odd_secrets_are_cut_out_too(uri: str, secrets: tuple[str, ...]) -> None:
    remember(uri)
    text = mask(f"no way to {uri}, {uri}/api or {' '.join(secrets)}") + safe_uri(uri)
    assert "//" in text
    assert "h" in safe_uri(uri)
    assert not any(secret in text for secret in secrets)


# -- the store, the clock


def test_a_database_that_another_has_locked(root: MlflowRoot) -> None:
    record = root.begin()
    messages: list[str] = []
    background = BackgroundSync(root.store, STUDY, root.uri, messages.append)
    background.open()
    background.start()
    connection = sqlite3.connect(root.store.root / "mlflow.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    for epoch in range(1, 4):
        root.epochs(record, epoch, epoch)
        touched(background, record.id)
        time.sleep(0.3)
    assert background.out_of_date() == 1
    connection.execute("ROLLBACK")
    connection.close()
    assert background.close() == 0
    assert messages == []
    assert [step for step, _ in root.content()["kd seed 0"][3]["train/loss"]] == [1, 2, 3]


def test_sync_into_another_store(root: MlflowRoot, tmp_path: Path, empty_database: bytes) -> None:
    teacher = root.teacher()
    root.final(teacher=teacher.id)
    sync_study(root.store, STUDY, root.uri)
    before, first = root.content(), root.uri
    (tmp_path / "other.db").write_bytes(empty_database)
    root.uri = f"sqlite:///{tmp_path / 'other.db'}"
    assert sync_study(root.store, STUDY, root.uri)["updated"] == 2
    assert root.content() == before
    for uri in (first, root.uri):
        assert sync_study(root.store, STUDY, uri) == {"up to date": 2, "updated": 0, "not begun": 0}


def test_a_clock_that_is_set_back(root: MlflowRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    record = root.begin()
    later = time.time() + 86_400
    os.utime(record.folder / "spec.json", (later, later))
    root.epochs(record, 1, 1)
    root.sync(record, live=True)
    os.utime(record.folder / "spec.json", (later - 172_800,) * 2)
    root.epochs(record, 2, 3)
    root.finish(record)
    root.score(record)
    path = root.store.costs_path(STUDY)
    path.parent.mkdir(parents=True, exist_ok=True)
    for value in (1.5, 1.2, 1.3):
        path.write_text(json.dumps({"machine": "m", "rows": {"kd": {"relative": value}}}))
        (record.folder / "mlflow.json").unlink()
        root.sync(record)
        assert root.run(record).data.metrics["cost/relative"] == value
        assert sync_study(root.store, STUDY, root.uri)["updated"] == 0
    history = root.content()["kd seed 0"][3]
    assert history["train/loss"] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert sorted(value for _, value in history["cost/relative"]) == [1.2, 1.3, 1.5]


def test_a_report_is_attached_once_by_two(root: MlflowRoot, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "a.md").write_text("x")
    root.sync(root.final())
    assert len({attach_report(root.store, STUDY, root.uri, tmp_path / "r") for _ in "ab"}) == 1
