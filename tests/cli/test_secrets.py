"""The secret of an address is in nothing that a command prints or leaves."""

import io
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import mlflow.store.db.utils
import pytest
import typer.main

import kdbench.report.write
from kdbench import cli, masking, tracking
from kdbench.execution import close_tracker
from kdbench.execution.engines import ENGINES
from kdbench.report.figures import Drawn
from kdbench.tracking.optuna_log import STORAGE

SECRET = "S3cr3t-Hush"
#: A part of it that no encoding changes, in small letters as in a host's name.
SIGN = "s3cr3t"

#: Addresses at which no store answers, each with the secret in it.
ADDRESSES = {
    "refused": f"http://user:{SECRET}@127.0.0.1:1",
    "unknown host": f"https://user:{SECRET}@nowhere.invalid/mlflow",
    "unknown scheme": f"gopher://user:{SECRET}@127.0.0.1/db",
    "missing scheme": f"user:{SECRET}@127.0.0.1:1/db",
    "token": f"http://127.0.0.1:1/x?tok={SECRET}",
    "token, missing scheme": f"127.0.0.1:1/x?tok={SECRET}",
    "percent-encoded": f"http://user:{SECRET.replace('-', '%2D')}%40x@127.0.0.1:1",
    "at sign": f"http://user:a@{SECRET}@127.0.0.1:1",
    "slash": f"http://user:a/{SECRET}@127.0.0.1:1/x",
    "postgres": f"postgresql://user:{SECRET}@127.0.0.1:1/db",
    "sqlite": f"sqlite:////dev/null/mlflow.db?tok={SECRET}",
}

#: What each parameter is given that a command needs, by the parameter's name.
VALUES: dict[str, Callable[[Path], list[str]]] = {
    "row": lambda root: ["kd"],
    "seed": lambda root: ["--seed", "0"],
    "first": lambda root: ["kd"],
    "second": lambda root: ["ce"],
    "study": lambda root: ["--study", "tiny"],
    "detect": lambda root: ["--detect", "1"],
    "path": lambda root: [str(root / "reports" / "tiny")],
    "kind": lambda root: ["models"],
    "card": lambda root: ["--card", "h100"],
    "method": lambda root: ["kd"],
    "to": lambda root: ["--to", "safetensors"],
    "out": lambda root: ["--out", str(root / "exported")],
    "folder": lambda root: [str(root / "exported")],
    "images": lambda root: [str(root / "none.png")],
}
#: The study that a command names, where it is none that has run in the root.
STUDIES = {
    "study": "tiny.yaml",
    "plan": "tiny.yaml",
    "reproduce": "tiny.yaml",
    "show": "digits",
}
#: What has a command look at the store as well.
MORE = {"check": ["--runs"], "report": ["tiny"]}

#: Commands that take seconds.
SLOW = {"study", "plan", "reproduce", "check", "compare", "power"}
COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


def command_line(name: str, root: Path) -> list[str]:
    """A command line with all that the command needs."""
    words = [name, *MORE.get(name, [])]
    for parameter in COMMANDS[name].params:
        if parameter.required and parameter.name == "name":
            study = STUDIES.get(name, "tiny")
            words.append(str(root / study) if study.endswith(".yaml") else study)
        elif parameter.required:
            words += VALUES[parameter.name](root)
        elif parameter.name == "root":
            words += ["--root", str(root)]
    return words


def printed(words: list[str]) -> str:
    """All that the command prints, with the traceback of an error that leaves it."""
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["kdbench", *words])
        try:
            cli.main()
        except SystemExit:
            pass
        except Exception:
            traceback.print_exc()
    return output.getvalue()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> Path:
    folder = tmp_path_factory.mktemp("secrets") / "root"
    shutil.copytree(tiny_root, folder)
    return folder


@pytest.fixture
def at(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets the address of MLflow and of Optuna; nothing waits for an answer."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setattr(mlflow.store.db.utils, "MAX_RETRY_COUNT", 0)
    monkeypatch.setattr(close_tracker, "TRACKING_TIMEOUT", 0.1)
    monkeypatch.setattr(masking, "_remembered", set())
    monkeypatch.setitem(ENGINES, "local", ENGINES["inline"])
    monkeypatch.chdir(root)
    # The server of `kdbench ui` prints where its store is.
    shows = f"import os, sys; print(os.environ['{STORAGE}']); print(sys.argv, file=sys.stderr)"
    real = tracking.ui_command

    def ui_command(*arguments: Any) -> list[str]:
        return [sys.executable, "-c", shows, *real(*arguments)]

    monkeypatch.setattr(tracking, "ui_command", ui_command)

    def set_address(address: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv(STORAGE, address.replace("127.0.0.1", "localhost"))

    return set_address


def places(root: Path) -> list[str]:
    """The files below a folder that hold the secret, in their name or inside."""
    return [
        str(path)
        for path in root.rglob("*")
        if SIGN in path.name.lower()
        or (path.is_file() and SIGN.encode() in path.read_bytes().lower())
    ]


def check_silence(lines: Iterable[list[str]], root: Path) -> None:
    for words in lines:
        text = printed(words)
        assert text, words
        assert SIGN not in text.lower(), (words, text)
        assert "Stopped" not in text
    assert not places(root)


@pytest.mark.parametrize("kind", ADDRESSES)
def test_no_command_shows_the_secret_of_an_address(
    kind: str, at: Callable[[str], None], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(ADDRESSES[kind])
    blank = Drawn({}, {}, {}, {})  # the slow command `study` draws them below
    monkeypatch.setattr(kdbench.report.write, "draw_figures", lambda *_: blank)
    lines = [command_line(name, root) for name in COMMANDS if name not in SLOW]
    lines += [[*command_line(name, root), "--traceback"] for name in ("sync", "report", "doctor")]
    check_silence(lines, root)


def test_the_server_of_the_pages_does_not_show_it(
    at: Callable[[str], None], root: Path, tmp_path: Path, empty_database: bytes
) -> None:
    at(ADDRESSES["postgres"])  # Optuna's address from here on
    (tmp_path / "mlflow.db").write_bytes(empty_database)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
        text = printed(command_line("ui", root))
    assert masking.MASK in text
    assert SIGN not in text.lower()


def test_a_study_does_not_show_it(at: Callable[[str], None], root: Path) -> None:
    at(ADDRESSES["unknown scheme"])
    check_silence([command_line("study", root)], root)


@pytest.mark.long
@pytest.mark.parametrize("kind", ADDRESSES)
def test_no_slow_command_does(kind: str, at: Callable[[str], None], root: Path) -> None:
    at(ADDRESSES[kind])
    check_silence([command_line(name, root) for name in sorted(SLOW)], root)
