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

from kdbench.records.store import Store
from kdbench.tracking import Mirror, attach_report, repair_stale, search, stale, sync
from kdbench.tracking.client import redact, safe_uri
from kdbench.tracking.experiment import levelling
from kdbench.tracking.sync import Tracker

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


def steps_once(bench: MlflowRoot) -> int:
    """How many points MLflow holds; fails where a run has a step of a metric twice."""
    client, count = bench.tracker().client, 0
    for run in client.search_runs([bench.tracker().experiment]):
        for key in run.data.metrics:
            steps = [p.step for p in client.get_metric_history(run.info.run_id, key)]
            assert len(set(steps)) == len(steps), (run.info.run_name, key, steps)
            count += len(steps)
    return count


# -- several processes


def level_all(barrier, root: Path, uri: str, listing: dict, report: Path) -> None:
    """What one `kdbench study` process does to MLflow, in short."""
    told: list[str] = []
    mirror = Mirror(Store(root), STUDY, uri, told.append)
    assert mirror.open(), told
    barrier.wait()
    mirror.start()
    for run_id, entry in listing.items():
        mirror.touch(run_id, entry)
    assert mirror.attach_report(report), told
    assert mirror.close() == 0, told
    assert not told


def test_three_processes_make_one_experiment(tmp_path: Path) -> None:
    bench = MlflowRoot(tmp_path)  # with no database yet
    teacher = bench.teacher()
    records = [teacher, *(bench.final(seed, teacher=teacher.id) for seed in range(5))]
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "page.html").write_text("x")
    together(level_all, 3, tmp_path, bench.uri, bench.listing, tmp_path / "report")
    tracker = bench.tracker()
    runs = tracker.client.search_runs([tracker.experiment])
    ids = [r.data.tags["kdbench.id"] for r in runs if "kdbench.id" in r.data.tags]
    assert sorted(ids) == sorted(record.id for record in records)
    assert sorted(r.info.run_name for r in runs if "kdbench.id" not in r.data.tags) == [
        "digits", "kd", "teachers",
    ]  # fmt: skip
    assert steps_once(bench)
    assert sync(bench.store, STUDY, bench.uri) == {"level": 6, "updated": 0, "absent": 0}
    assert stale(bench.store, STUDY, bench.uri) == []


def test_two_that_know_nothing_of_each_other_take_the_same_run(bench: MlflowRoot) -> None:
    record = bench.begin()
    first, second = bench.tracker(), bench.tracker()
    for epoch, tracker in enumerate((first, second, first, second), 1):
        bench.epochs(record, epoch, epoch)
        assert tracker.level(record.id, bench.listing[record.id], live=True)
    bench.finish(record, epochs=4)
    second.level(record.id, bench.listing[record.id])
    assert not first.level(record.id, bench.listing[record.id])
    assert len(search(STUDY, bench.uri)) == 2
    assert bench.run(record).info.status == "FINISHED"
    assert steps_once(bench)


def test_a_record_that_another_levels_is_no_trouble(bench: MlflowRoot) -> None:
    records = [bench.final(seed) for seed in range(2)]
    told: list[str] = []
    mirror = Mirror(bench.store, STUDY, bench.uri, told.append)
    mirror.tracker.patience = 0.05
    mirror.open()
    mirror.start()
    with levelling(records[0], 1):
        for record in records:
            mirror.touch(record.id)
        until(lambda: mirror.behind() == 1)
    assert mirror.close() == 0
    assert told == []


def test_closing_leaves_what_another_process_trains(bench: MlflowRoot) -> None:
    record = bench.begin()
    bench.epochs(record, 1, 1)
    mirror = Mirror(bench.store, STUDY, bench.uri)
    mirror.start()
    mirror.touch(record.id)
    with record.writing():
        assert mirror.close() == 0
        assert bench.run(record).info.status == "RUNNING"
        assert stale(bench.store, STUDY, bench.uri) == []


def test_a_run_deleted_under_a_mirror_is_made_again(bench: MlflowRoot) -> None:
    record = bench.begin()
    bench.epochs(record, 1, 2)
    mirror = Mirror(bench.store, STUDY, bench.uri)
    mirror.start()
    mirror.touch(record.id)
    until(lambda: mirror.behind() == 0)
    bench.tracker().client.delete_run(bench.run(record).info.run_id)
    bench.epochs(record, 3, 3)
    mirror.touch(record.id)
    assert mirror.close() == 0
    assert len(bench.content()["kd seed 0"][3]["train.loss"]) == 3


# -- what killed processes leave


def killed_study(bench: MlflowRoot) -> dict[str, str]:
    """An experiment with one of each trouble; MLflow's run ids by what is wrong."""
    done, cut, gone = bench.final(0), bench.begin(seed=1), bench.begin(seed=2)
    bench.epochs(cut, 1, 2)
    tracker = bench.tracker()
    for record in (done, cut, gone):
        tracker.level(record.id, bench.listing[record.id], live=True)
    client, where = tracker.client, tracker.experiment
    study = client.create_run(where, None, {"kdbench.kind": "study"}, STUDY)
    twin = client.create_run(where, 1, {"kdbench.id": done.id}, "twin")
    foreign = client.create_run(where, 1, {}, "made by hand")
    ids = {"interrupted": tracker._runs[cut.id].info.run_id, "doubled": twin.info.run_id}
    ids |= {"orphan": tracker._runs[gone.id].info.run_id, "study": study.info.run_id}
    ids |= {"group": tracker._groups["kd"][0], "foreign": foreign.info.run_id, "cut": cut.id}
    for path in gone.folder.iterdir():
        path.unlink()
    gone.folder.rmdir()
    return ids


def test_stale_looks_and_mend_mends(bench: MlflowRoot) -> None:
    ids = killed_study(bench)
    before = bench.content()
    assert sync(bench.store, STUDY, bench.uri)["doubled"] == 1
    bench.tracker().client.update_run(ids["group"], "RUNNING")
    bench.tracker().client.update_run(ids["interrupted"], "RUNNING")
    with bench.store.record(ids["cut"]).writing():
        busy = {(s.trouble, s.run) for s in stale(bench.store, STUDY, bench.uri)}
    found = stale(bench.store, STUDY, bench.uri)
    wanted = {("doubled", ids["doubled"]), ("open", ids["study"]), ("orphan", ids["orphan"])}
    assert busy == wanted
    wanted |= {("interrupted", ids["interrupted"]), ("open", ids["group"])}
    assert {(s.trouble, s.run) for s in found} == wanted
    assert set(bench.content()) == set(before)  # looked at, not touched
    assert not (bench.store.root / "runs" / str(next(
        s.id for s in found if s.trouble == "orphan"))).exists()  # fmt: skip
    mended = repair_stale(bench.store, STUDY, bench.uri, found)
    assert {s.trouble for s in mended} == {"doubled", "open", "interrupted"}
    client = bench.tracker().client
    run = client.get_run(ids["interrupted"])
    assert (run.info.status, run.data.tags["kdbench.state"]) == ("KILLED", "interrupted")
    assert client.get_run(ids["doubled"]).info.lifecycle_stage == "deleted"
    assert client.get_run(ids["group"]).info.status == "FINISHED"
    assert client.get_run(ids["foreign"]).info.status == "RUNNING"
    assert [s.trouble for s in stale(bench.store, STUDY, bench.uri)] == ["orphan"]
    assert repair_stale(bench.store, STUDY, bench.uri, found) == []


def test_an_interrupted_run_that_left_the_plan_is_closed(bench: MlflowRoot) -> None:
    record = bench.begin()
    bench.level(record, live=True)
    del bench.listing[record.id]
    bench.final(5)
    found = [s for s in stale(bench.store, STUDY, bench.uri) if s.id == record.id]
    assert repair_stale(bench.store, STUDY, bench.uri, found) == found
    assert bench.run(record).info.status == "KILLED"


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
    monkeypatch.setattr("kdbench.tracking.background.FIRST", 0.1)


def touched(mirror: Mirror, run_id: str) -> None:
    """Touch, which must return at once whatever MLflow does."""
    before = time.monotonic()
    mirror.touch(run_id)
    assert time.monotonic() - before < 0.5


@pytest.mark.usefixtures("impatient")
def test_a_server_that_goes_and_comes(bench: MlflowRoot, server: Server) -> None:
    bench.uri = server.uri
    record, finished = bench.begin(), bench.final(1)
    told: list[str] = []
    mirror = Mirror(bench.store, STUDY, server.uri, told.append)
    assert mirror.open()
    mirror.start()
    bench.epochs(record, 1, 2)
    touched(mirror, record.id)
    until(lambda: mirror.behind() == 0)
    server.stop()
    bench.epochs(record, 3, 4)
    touched(mirror, record.id)
    touched(mirror, finished.id)
    until(lambda: bool(told))
    assert mirror.close(timeout=3) == 2
    assert len(told) == 1
    assert "kdbench sync digits" in told[0]
    server.start()
    # It comes back while another mirror is at work, and that one needs no sync.
    bench.epochs(record, 5, 5)
    bench.finish(record, epochs=5)
    bench.score(record)
    again = Mirror(bench.store, STUDY, server.uri, told.append)
    again.start()
    touched(again, record.id)
    assert again.close() == 0
    assert sync(bench.store, STUDY, server.uri) == {"level": 1, "updated": 1, "absent": 0}
    assert sync(bench.store, STUDY, server.uri) == {"level": 2, "updated": 0, "absent": 0}
    assert steps_once(bench)
    held = bench.content()["kd seed 0"]
    assert [step for step, _ in held[3]["train.loss"]] == [1, 2, 3, 4, 5]
    assert "confusion_matrix.png" in held[4]


def test_an_answer_that_is_lost_doubles_nothing(
    bench: MlflowRoot,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every kind of request does its work once and loses the answer."""
    from mlflow import MlflowClient

    bench.uri = server.uri
    bench.store.root.joinpath("calibration").mkdir()
    other = Tracker(bench.store, "lost", server.uri)
    other.open()
    record = bench.final(3)
    for call in ("create_run", "log_batch", "log_inputs", "log_artifacts", "set_terminated"):
        real = getattr(MlflowClient, call)

        def lossy(*args, real=real, call=call, **kwargs):
            real(*args, **kwargs)
            monkeypatch.undo()
            raise ConnectionError(call)

        monkeypatch.setattr(MlflowClient, call, lossy)
        with pytest.raises(ConnectionError, match=call):
            other.level(record.id, bench.listing[record.id])
    assert other.level(record.id, bench.listing[record.id])
    runs = other.client.search_runs([other.experiment], f"tags.`kdbench.id` = '{record.id}'")
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
    bench: MlflowRoot,
    answer: Callable,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    record = bench.final()
    told: list[str] = []
    with stub(answer) as place:
        mirror = Mirror(bench.store, STUDY, f"http://user:tops3cret@{place}", told.append)
        before = time.monotonic()
        assert not mirror.open(timeout=0.3)
        mirror.start()
        touched(mirror, record.id)
        assert mirror.close(timeout=0.5) == 1
        assert time.monotonic() - before < 3
        until(lambda: bool(told))
    printed = capfd.readouterr()
    everything = [*told, caplog.text, printed.out, printed.err]
    everything += [p.read_text(errors="replace") for p in record.folder.rglob("*") if p.is_file()]
    assert len(told) == 1
    assert not any("tops3cret" in text for text in everything)
    # What was not told here is in the records, and goes to another store.
    assert sync(bench.store, STUDY, bench.uri)["updated"] == 1
    assert steps_once(bench)


def levelled_at(bench: MlflowRoot, uri: str, record) -> bool:
    tracker = Tracker(bench.store, STUDY, uri)
    tracker.open()
    return tracker.level(record.id, bench.listing[record.id])


def test_secrets_are_in_no_mapping_and_no_message(bench: MlflowRoot, server: Server) -> None:
    record = bench.final(4)
    told: list[str] = []
    uri = server.uri.replace("//", "//user:tops3cret@")
    mirror = Mirror(bench.store, STUDY, uri, told.append)
    assert mirror.level(record.id, bench.listing[record.id]), told
    mapping = (record.folder / "mlflow.json").read_text()
    assert "tops3cret" not in mapping
    (known,) = json.loads(mapping).values()
    assert known["store"] == server.uri.replace("//", "//***@")
    # With another password it is the same store, and nothing is logged again.
    assert not levelled_at(bench, uri.replace("tops3cret", "changed"), record)
    assert not told


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
    text = redact(f"no way to {uri}, {uri}/api or {' '.join(secrets)}", uri) + safe_uri(uri)
    assert "//" in text
    assert "h" in safe_uri(uri)
    assert not any(secret in text for secret in secrets)


# -- the store, the clock


def test_a_database_that_another_has_locked(bench: MlflowRoot) -> None:
    record = bench.begin()
    told: list[str] = []
    mirror = Mirror(bench.store, STUDY, bench.uri, told.append)
    mirror.open()
    mirror.start()
    connection = sqlite3.connect(bench.store.root / "mlflow.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    for epoch in range(1, 4):
        bench.epochs(record, epoch, epoch)
        touched(mirror, record.id)
        time.sleep(0.3)
    assert mirror.behind() == 1
    connection.execute("ROLLBACK")
    connection.close()
    assert mirror.close() == 0
    assert told == []
    assert [step for step, _ in bench.content()["kd seed 0"][3]["train.loss"]] == [1, 2, 3]


def test_sync_into_another_store(bench: MlflowRoot, tmp_path: Path, empty_database: bytes) -> None:
    teacher = bench.teacher()
    bench.final(teacher=teacher.id)
    sync(bench.store, STUDY, bench.uri)
    before, first = bench.content(), bench.uri
    (tmp_path / "other.db").write_bytes(empty_database)
    bench.uri = f"sqlite:///{tmp_path / 'other.db'}"
    assert sync(bench.store, STUDY, bench.uri)["updated"] == 2
    assert bench.content() == before
    for uri in (first, bench.uri):
        assert sync(bench.store, STUDY, uri) == {"level": 2, "updated": 0, "absent": 0}


def test_a_clock_that_is_set_back(bench: MlflowRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    record = bench.begin()
    later = time.time() + 86_400
    os.utime(record.folder / "spec.json", (later, later))
    bench.epochs(record, 1, 1)
    bench.level(record, live=True)
    os.utime(record.folder / "spec.json", (later - 172_800,) * 2)
    bench.epochs(record, 2, 3)
    bench.finish(record)
    bench.score(record)
    path = bench.store.costs_path(STUDY)
    path.parent.mkdir(parents=True, exist_ok=True)
    for value in (1.5, 1.2, 1.3):
        path.write_text(json.dumps({"machine": "m", "rows": {"kd": {"relative": value}}}))
        (record.folder / "mlflow.json").unlink()
        bench.level(record)
        assert bench.run(record).data.metrics["cost.relative"] == value
        assert sync(bench.store, STUDY, bench.uri)["updated"] == 0
    history = bench.content()["kd seed 0"][3]
    assert history["train.loss"] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert sorted(value for _, value in history["cost.relative"]) == [1.2, 1.3, 1.5]


def test_a_report_is_attached_once_by_two(bench: MlflowRoot, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "a.md").write_text("x")
    bench.level(bench.final())
    assert len({attach_report(bench.store, STUDY, bench.uri, tmp_path / "r") for _ in "ab"}) == 1
