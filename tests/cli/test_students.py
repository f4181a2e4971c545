"""A file with several students on the command line: its name stands for all of its studies."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.command_line import kdbench, output, refused
from support.fake_study import COST, FakeStudy

import kdbench as package
from kdbench.cli import study as study_command
from kdbench.execution import study_file
from kdbench.execution.study_file import publish_pooled
from kdbench.records.files import write_json
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.records.students import students_path, studies_of, write_students
from kdbench.registry import UnknownName
from kdbench.report.write import write_report

FILE = """
name: mine
data:     {name: digits, validation: 200}
students: [digits-cnn-small, {model: digits-cnn-medium, label: medium}]
teacher:  {model: digits-cnn}
recipe:   {epochs: 1, batch: 256, lr: 1e-3}
methods:  [ce, kd]
final:    {seeds: [0, 1]}
report:   {reference: ce}
"""
STUDIES = ("mine-digits-cnn-small", "mine-medium")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root that has the reports of two students, and their pooled one, as a clone has them."""
    made = FakeStudy(tmp_path_factory.mktemp("made"))
    root = tmp_path_factory.mktemp("reports")
    store, data = Store(root), made.report_data()
    for name in STUDIES:
        plan = replace(data.plan, study=name, models={"student": name, "teacher": "large"})
        write_report(replace(data, plan=plan), store.report_folder(name))
    publish_pooled(store, "mine", STUDIES)
    return root


@pytest.fixture
def under_way(tmp_path: Path) -> Path:
    """A root in which the studies of both students have begun."""
    made = FakeStudy(tmp_path / "root")
    for name in STUDIES:
        replace(made.plan, study=name).dump(made.store.plan_path(name))
        write_json(made.store.costs_path(name), COST)
    made.store.plan_path("fake_study").unlink()
    write_students(made.store, "mine", STUDIES)
    return tmp_path / "root"


def test_a_dry_run_shows_every_plan_and_writes_nothing(file: Path) -> None:
    text = output("study", file, "--dry-run", "--root", file.parent / "root")
    assert text.count("5 runs known (1 teacher, 4 final)") == 2
    assert all(name in text for name in STUDIES)
    words = ("--set", "students=[digits-cnn-medium]")
    text = output("study", file, "--dry-run", "--root", file.parent / "root", *words)
    assert text.count("runs known") == 1
    assert not (file.parent / "root").exists()


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done, in order, where nothing is really trained; the second study has a run that
    fails."""
    done: list[str] = []

    def train(planner: Any, *_: Any) -> SimpleNamespace:
        done.append(f"train {planner.study.name}")
        failures = {"kd seed 0": "out of memory"} if len(done) > 2 else {}
        return SimpleNamespace(failures=failures, tracked=True, experiment="")

    def publish(store: Store, study: str, *_: Any) -> tuple[None, tuple[()]]:
        done.append(f"report {study}")
        return None, ()

    def pool(store: Store, name: str, studies: list[str]) -> None:
        done.append(f"pool {name}: {', '.join(studies)}")

    for module in (study_command, study_file):
        monkeypatch.setattr(module, "train_study", train)
        monkeypatch.setattr(module, "publish_report", publish)
        monkeypatch.setattr(module, "publish_pooled", pool)
    for name in ("show_report", "show_pooled"):
        monkeypatch.setattr(study_command, name, lambda *_: None)
    return done


EXPECTED = [
    *(f"{what} {name}" for name in STUDIES for what in ("train", "report")),
    f"pool mine: {', '.join(STUDIES)}",
]


def test_the_studies_run_one_after_another_and_are_pooled(trained: list[str], file: Path) -> None:
    root = file.parent / "root"
    result = kdbench("study", file, "--root", root)
    assert result.exit_code == 1
    assert f"failed  {STUDIES[1]}: kd seed 0: out of memory" in result.output
    assert trained == EXPECTED
    assert studies_of(Store(root), "mine") == STUDIES
    # Some of the students again: the others stay.
    trained.clear()
    output("study", file, "--root", root, "--set", "students=[digits-cnn-small]")
    assert trained == EXPECTED[:2]
    assert studies_of(Store(root), "mine") == STUDIES


def test_python_runs_all_of_them_too(trained: list[str], file: Path) -> None:
    root = file.parent / "root"
    assert package.run_study(file, root) == root / "reports" / "mine"
    assert trained == EXPECTED
    folder = package.run_study(file, root, changes={"students": ["digits-cnn-small"]})
    assert folder == root / "reports" / STUDIES[0]


def test_the_status_is_that_of_every_study(under_way: Path) -> None:
    text = output("status", "mine", "--root", under_way)
    assert [name in text for name in STUDIES] == [True, True]
    assert text.count("best so far  kd (tuned)") == 2
    assert output("status", STUDIES[0], "--root", under_way).count("best so far") == 1


def test_a_report_of_all_is_the_pooled_report_again(reports: Path) -> None:
    folder = reports / "reports" / "mine"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    first, second, pooled = json.loads(output("report", "mine", "--root", reports, "--json"))
    assert (first["study"], second["study"]) == STUDIES
    assert (pooled["pooled"], pooled["settings"]) == ("mine", list(STUDIES))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["index.html", "mine", *STUDIES]
    # The seeds of different students are not the same random streams.
    assert "Their seeds are independent" in (folder / "leaderboard.md").read_text()


def test_commands_on_reports_take_the_name_of_all(reports: Path) -> None:
    words = ("power", "mine", "--detect", 0.3, "--root", reports, "--json")
    assert [each["study"] for each in json.loads(output(*words))] == list(STUDIES)
    words = ("compare", "kd", "ce", "--study", "mine", "--root", reports, "--json")
    assert [each["study"] for each in json.loads(output(*words))] == list(STUDIES)
    words = ("compare", "kd", "ce", "--study", STUDIES[1], "--root", reports, "--json")
    assert json.loads(output(*words))["study"] == STUDIES[1]


def test_a_check_of_all_checks_every_report(reports: Path) -> None:
    folder = reports / "reports" / "mine"
    table = folder.with_name(STUDIES[1]) / "leaderboard.csv"
    text = table.read_text()
    table.write_text(text.replace("tuned", "pinned", 1))
    result = kdbench("check", folder)
    table.write_text(text)
    assert result.exit_code == 1
    different, verdict = result.output.splitlines()
    assert different.startswith(f"{STUDIES[1]}: leaderboard.csv: line")
    assert verdict == "differs from its runs"


def test_one_students_network_and_cell_are_asked_for_by_its_name(
    under_way: Path, reports: Path, file: Path
) -> None:
    with pytest.raises(UnknownName, match=f"name one of {', '.join(STUDIES)}"):
        package.load_student("mine", "kd", 0, under_way)
    words = ("reproduce", file, "kd", "--seed", 0, "--root", reports)
    assert "name one of them" in refused(*words)
    other = file.with_name("other.yaml")
    other.write_text(FILE.replace("mine", "other"))
    folder = reports / "reports" / STUDIES[0]
    message = refused("reproduce", other, *words[2:], "--report", folder)
    assert "other-medium" in message
    assert STUDIES[0] in message


# -- names that stand for something else


def test_names_that_another_study_has_are_refused(file: Path) -> None:
    store = Store(file.parent / "root")
    words = ("study", file, "--dry-run", "--root", store.root)
    student = {"student": "digits-cnn", "teacher": "digits-cnn"}
    PlanFile("mine", "last").dump(store.plan_path("mine"))
    PlanFile(STUDIES[1], "last", models=student).dump(store.plan_path(STUDIES[1]))
    write_students(store, "others", [STUDIES[0]])
    message = refused(*words)
    assert ": 3 errors" in message
    assert "a study 'mine' of one student" in message
    assert f"'{STUDIES[0]}' is one of the studies of 'others'" in message
    assert f"a study '{STUDIES[1]}' with another student" in message
    store.plan_path("mine").unlink()
    students_path(store, "others").unlink()
    # In the list of its own file it is an earlier form of the same study.
    write_students(store, "mine", STUDIES)
    assert kdbench(*words).exit_code == 0
    file.write_text(
        FILE.replace("students: [", "student: {model: ").replace(
            "digits-cnn-small, {model: digits-cnn-medium, label: medium}]", "digits-cnn-small}"
        )
    )
    assert "studies of several students called so" in refused(*words)


def test_a_method_is_added_to_one_study(file: Path, reports: Path) -> None:
    words = ("--add", "nkd", "--with", reports / "reports" / STUDIES[0])
    message = refused("study", file, *words, "--root", file.parent / "root")
    assert "--set 'students=[NAME]'" in message


@pytest.mark.long
def test_two_students_of_real_digits(file: Path) -> None:
    """Trained, reported, pooled, synced and checked with MLflow, and nothing trained twice."""
    root = file.parent / "root"
    text = output("study", file, "--root", root, "--workers", 1, "--device", "cpu")
    assert text.count("check        ") == 2
    assert len([p for p in (root / "runs").iterdir() if (p / "result.json").exists()]) == 9
    folder = root / "reports" / "mine"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    output("report", "mine", "--root", root)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    output("check", folder, "--runs", "--root", root)
    synced = output("sync", "mine", "--root", root)
    assert synced.strip() == "10 up to date, 0 updated, 0 not begun"
    assert output("status", "mine", "--root", root).count("best so far") == 2
    assert "nothing is wrong" in output("doctor", "--root", root)
    assert package.run_study(file, root, workers=1, device="cpu") == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
