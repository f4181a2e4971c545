"""`kdbench ui` leads to a study's runs, and refuses where there are none."""

import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.command_line import kdbench
from support.mlflow_root import STUDY, MlflowRoot

from kdbench import tracking
from kdbench.cli import pages
from kdbench.tracking import links

#: A server that says an address with a password in it, and ends.
SERVER = """
import socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("serving postgresql://me:S3cr3t@host/db", flush=True)
time.sleep(3)
"""


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def root(tmp_path: Path, empty_database: bytes, monkeypatch: pytest.MonkeyPatch) -> MlflowRoot:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(empty_database)
    return MlflowRoot(tmp_path)


def test_nothing_is_served_or_created_where_there_is_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for words in (["ui"], ["ui", "digits"]):
        answer = kdbench(*words, "--root", str(tmp_path))
        assert answer.exit_code == 2
        assert "kdbench study" in answer.stderr
        assert "kdbench sync" in answer.stderr
    assert not list(tmp_path.iterdir())


def test_an_unknown_study_is_named(root: MlflowRoot) -> None:
    answer = kdbench("ui", "never", "--root", str(root.store.root))
    assert answer.exit_code == 2
    assert "'never'" in answer.stderr


@pytest.mark.parametrize("name", [[], [STUDY]])
def test_the_link_leads_to_the_studys_runs(
    name: list[str], root: MlflowRoot, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = root.experiment().id
    command = [sys.executable, "-c", SERVER, str(port)]
    monkeypatch.setattr(tracking, "ui_command", lambda *_: command)
    served: list[tuple[Path, int]] = []
    monkeypatch.setattr(pages, "lead_run_pages_to", lambda *asked: served.append(asked))
    answer = kdbench("ui", *name, "--root", str(root.store.root), "--port", str(port))
    link = f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs?workflowType=machine_learning"
    assert f"{STUDY} runs  {link}" in answer.output.splitlines()
    assert served == [(root.store.root, port)]


def test_a_port_that_is_taken_is_an_error(root: MlflowRoot) -> None:
    root.experiment()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        answer = kdbench("ui", "--root", str(root.store.root), "--port", port)
    assert answer.exit_code == 2
    assert f"--port {port}" in answer.stderr


def test_a_server_is_not_started_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host/mlflow/?tok=secret")
    experiment = SimpleNamespace(name="digits", experiment_id="12", tags={})
    client = SimpleNamespace(get_experiment=lambda _: experiment)
    monkeypatch.setattr(links, "find_experiment", lambda *_: (client, "12"))
    answer = kdbench("ui", "digits", "--root", str(tmp_path))
    assert answer.exit_code == 0
    link = "https://host/mlflow/#/experiments/12/runs?workflowType=machine_learning"
    assert answer.output == f"digits runs  {link}\n"
