"""Commands for every day: lists, a study's file, its status, and what is printed to be pasted."""

import io
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from support.command_line import kdbench, output
from typer.testing import CliRunner

import kdbench as package
from kdbench.cli import app, shell
from kdbench.cli import study as study_command
from kdbench.cli.progress import ProgressBar, TimeLeftColumn
from kdbench.data.datasets import DATASETS
from kdbench.methods import METHODS
from kdbench.models.zoo import MODELS
from kdbench.records.store import Store
from kdbench.study.load import parse_study, shipped

REPO = Path(package.__file__).parents[1]


# -- help, version, completion


def test_help_has_a_short_form_for_every_command() -> None:
    assert "Usage:" in output("-h")
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        assert "Usage:" in output(name, "-h")


def test_the_version_is_the_packages() -> None:
    assert output("--version") == f"kdbench {package.__version__}\n"


def test_the_shell_can_complete_commands() -> None:
    env = {"_TYPER_COMPLETE_ARGS": "kdbench sta", "_KDBENCH_COMPLETE": "complete_bash"}
    env |= {"COMP_WORDS": "kdbench sta", "COMP_CWORD": "1"}
    done = CliRunner().invoke(app, [], prog_name="kdbench", env=env)
    assert "status" in done.output


# -- lists


NAMES = {"studies": shipped(), "methods": METHODS, "models": MODELS, "data": DATASETS}


@pytest.mark.parametrize("kind", NAMES)
def test_lists_have_every_name(kind: str) -> None:
    names = NAMES[kind]
    lines = output("list", kind).splitlines()
    first = {line.strip("│ ").split(" ")[0] for line in lines if line.startswith("│")}
    assert set(names) <= first


def test_a_list_of_something_else_is_refused() -> None:
    result = kdbench("list", "teachers")
    assert result.exit_code == 2
    assert "studies" in result.output


@pytest.mark.parametrize("name", sorted(shipped()))
def test_a_shipped_study_is_shown_as_its_file_reads(name: str) -> None:
    text = output("show", name)
    assert text == shipped()[name].read_text()
    assert parse_study(text, name).name == name


def test_a_study_that_is_not_shipped_cannot_be_shown() -> None:
    result = kdbench("show", "digts")
    assert result.exit_code == 2
    assert "did you mean 'digits'?" in result.output


# -- methods that a study lacks


def test_only_with_a_method_that_the_study_lacks(tiny_root: Path) -> None:
    def refused(label: str) -> str:
        words = ("study", tiny_root / "tiny.yaml", "--only", label, "--dry-run")
        result = kdbench(*words)
        assert result.exit_code == 2
        return result.output

    assert "add this line to the `methods:`" in refused("dkd")
    assert ": - dkd " in refused("dkd")
    assert "- {method: takd, assistant: {model: digits-cnn}}" in refused("takd")
    assert "did you mean 'kd'?" in refused("kdd")


def test_the_line_that_only_gives_can_be_added(tiny_root: Path, tmp_path: Path) -> None:
    text = (tiny_root / "tiny.yaml").read_text()
    for line in ("dkd", "{method: takd, assistant: {model: digits-cnn}}"):
        path = tmp_path / "mine.yaml"
        path.write_text(text.replace("[ce, kd]", f"[ce, kd, {line}]"))
        label = "takd" if "takd" in line else line
        output("study", path, "--only", label, "--dry-run", "--root", tmp_path)


# -- progress


def test_quiet_and_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet, verbose, expected in ((True, False, 0), (False, False, 2), (False, True, 4)):
        progress = ProgressBar(Console(), quiet, verbose)
        with progress:
            for runs in (0, 1, 1, 2):
                progress.update(4, runs, 4.0, float(runs))
            progress.log("a [message]")
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == expected
        assert not expected or lines[-1] == "a [message]"


@pytest.mark.parametrize(
    ("finished", "seconds", "shown"),
    [(False, None, ""), (False, 190.4, "about 0:03:10 left"), (True, 0.0, "")],
)
def test_no_time_is_left_before_there_is_an_estimate(
    finished: bool, seconds: float | None, shown: str
) -> None:
    task = SimpleNamespace(finished=finished, time_remaining=seconds)
    assert TimeLeftColumn().render(task).plain == shown


def test_a_bar_without_an_estimate_has_no_word_about_it() -> None:
    console = Console(force_terminal=True, width=100, file=io.StringIO())
    with ProgressBar(console) as progress:
        progress.update(10, 0, 10.0, 0.0)
    assert "0 of 10 runs" in console.file.getvalue()
    assert "left" not in console.file.getvalue()


# -- what can be pasted


def test_paths_and_commands_are_shown_for_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "env" / "python"))
    assert shell.shown_path(tmp_path / "out" / "x") == "out/x"
    assert shell.shown_path(tmp_path.parent / "x") == str(tmp_path.parent / "x")
    assert shell.command("kdbench", "ui", root=tmp_path) == "kdbench ui"
    assert shell.command("kdbench", "ui", root=tmp_path / "my out") == "kdbench ui --root 'my out'"
    # A program that the shell does not find is named by its path.
    for folder in ("env", "bin"):
        (tmp_path / folder).mkdir()
    (tmp_path / "env" / "kdbench").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert shell.command("kdbench", "ui") == "env/kdbench ui"
    (tmp_path / "bin" / "kdbench").symlink_to(tmp_path / "env" / "kdbench")
    assert shell.command("kdbench", "ui") == "kdbench ui"


def test_the_places_of_results_exist(tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_root.parent)
    store = Store(tiny_root)
    lines = study_command.places(store, store.report_folder("tiny") / "index.html", "tiny", "7")
    words = [shlex.split(line.split(maxsplit=1)[1]) for line in lines]
    page, ui, _, optuna, check, deploy = words
    assert Path(page[0]).is_file()
    assert not Path(page[0]).is_absolute()
    assert ui[1:] == ["ui", "tiny", "--root", tiny_root.name]
    runs = "http://127.0.0.1:5000/#/experiments/7/runs?workflowType=machine_learning"
    assert lines[2] == f"its runs     {runs}"
    assert Path(optuna[-1]).is_file()
    assert deploy[1:] == ["profile", "tiny", "--root", tiny_root.name]
    assert check[1] == "check"
    output(*check[1:])


def test_a_password_is_not_among_the_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDBENCH_OPTUNA_STORAGE", "postgresql://user:secret@host/optuna")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host/mlflow")
    lines = study_command.places(Store(tmp_path), tmp_path / "index.html", "mine", "7")
    assert "secret" not in " ".join(lines)
    assert any("https://host/mlflow/#/experiments/7/runs" in line for line in lines)
    assert any('"$KDBENCH_OPTUNA_STORAGE"' in line for line in lines)


# -- the Makefile


def test_a_report_is_published_by_one_command(tmp_path: Path) -> None:
    made = tmp_path / "out" / "reports" / "mine"
    made.mkdir(parents=True)
    (made / "index.html").write_text("new")
    published = tmp_path / "reports" / "mine"
    published.mkdir(parents=True)
    (published / "stale.csv").write_text("old")
    command = ["make", "-f", REPO / "Makefile", "publish", "STUDY=mine"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert [path.name for path in published.iterdir()] == ["index.html"]


def test_the_default_root_of_make_study_is_ignored_by_git() -> None:
    done = subprocess.run(
        ["make", "-n", "study"], cwd=REPO, check=True, capture_output=True, text=True
    )
    assert "--root out" in done.stdout
    assert "out/" in (REPO / ".gitignore").read_text().splitlines()
