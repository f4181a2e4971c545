"""One more method beside a committed report: what it runs, what it takes, and what it refuses."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from support.command_line import output
from support.inline_study import Recorder

from kdbench import models
from kdbench.cli import study as study_command
from kdbench.execution.added_method import check_options, study_beside
from kdbench.execution.driver import StudyDriver
from kdbench.execution.engines.inline import InlineEngine
from kdbench.execution.engines.protocol import WorkerSettings
from kdbench.execution.errors import InvalidOption
from kdbench.execution.given_teacher import keep_given_teacher
from kdbench.execution.run_study import Options, prepare
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.records.students import studies_of, write_students
from kdbench.report import check, write
from kdbench.report.check import check_report, record_differences
from kdbench.report.data.collect import data_from_records
from kdbench.report.data.report_data import load
from kdbench.report.data.taken import base_folder, keep_base
from kdbench.report.data.validation import UnreadableReport
from kdbench.report.figures import Drawn
from kdbench.report.page.details import row_details
from kdbench.study.base_report import DifferentSetting
from kdbench.study.load import StudyError, load_study
from kdbench.tracking.optuna_log import OptunaLog

STUDY = """
name: small
question: Which one?
data: {name: digits, validation: 200}
student: {model: digits-cnn-small}
teacher: {model: digits-cnn-medium}
recipe: {epochs: 1, batch: 64, lr: 1.0e-2}
methods: [ce, kd]
tune: {trials: 2, epochs: 1, seeds: [100]}
final: {seeds: 0-3, looks: [3, 4]}
report: {reference: ce, margin: 0.2}
"""


def train(root, **options):
    """Run a study in this process; its data, read from the records."""
    planner, store = prepare(Options(str(root.parent / "small.yaml"), root, **options))
    keep_given_teacher(planner, store)
    if planner.base:
        keep_base(store, planner.study.name, planner.base.data)
    engine = InlineEngine(WorkerSettings(root, "digits", None, "cpu"))
    recorder = Recorder()
    driver = StudyDriver(planner, store, engine, recorder, recorder, OptunaLog(root), True)
    driver.run()
    return data_from_records(store, planner.study.name)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A study file, its report, and `mse` run beside it in a root of its own."""
    place = tmp_path_factory.mktemp("added")
    (place / "small.yaml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        for module in (write, check):
            patch.setattr(module, "draw_figures", lambda *_: Drawn({}, {}, {}, {}))
        write.write_report(train(place / "there"), place / "report")
        joined = train(place / "here", add="mse", base=place / "report")
        write.write_report(joined, place / "joined")
        assert check_report(place / "joined") == []
    return place


def test_only_the_new_method_and_its_teachers_are_run(place):
    plan = PlanFile.load(Store(place / "here").plan_path("small-mse"))
    assert plan.complete
    assert {run.label for run in plan.listing.values()} == {"mse", "teacher"}
    assert {row.label for row in plan.rows} == {"mse"}


def test_the_rows_of_the_report_are_taken_as_they_are(place):
    base, joined = load(place / "report"), load(place / "joined")
    labels = [row.label for row in base.plan.rows]
    taken = joined.runs[joined.runs["label"].isin([*labels, "teacher"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(taken, base.runs)
    assert set(joined.runs["label"]) == {"ce", "kd", "mse", "teacher"}
    assert joined.plan.rows[: len(base.plan.rows)] == base.plan.rows
    assert set(joined.trials["label"]) == {"kd", "mse"}
    assert len(joined.runs[joined.runs["row"] == "teacher"]) == 1


def test_the_table_says_which_rows_were_run_here(place):
    board = write.leaderboard_of(load(place / "joined"))
    where = dict(zip(board.table["method"], board.table["origin"], strict=True))
    assert where == {"ce": "small", "kd": "small", "mse": "here", "teacher": None}
    assert set(board.family.verdicts) == {"kd", "mse"}
    text = " ".join(board.captions)
    assert "Run here: mse. All other rows were taken as they are from the report" in text
    assert "trained again here, with the test scores that the report has" in text
    lines = (place / "joined" / "leaderboard.md").read_text().replace("**", "")
    assert "| mse | here | tuned |" in lines


def test_the_report_can_be_written_again_and_held_to_the_records(place):
    store, kept = Store(place / "here"), load(place / "joined")
    now = data_from_records(store, "small-mse")
    assert now.digest == kept.digest
    assert record_differences(now, store, PlanFile.load(store.plan_path("small-mse"))) == []


def test_a_damaged_copy_of_the_report_is_named_with_what_to_do(place, tmp_path):
    shutil.copytree(place / "here", tmp_path / "root")
    store = Store(tmp_path / "root")
    (base_folder(store, "small-mse") / "runs.csv.gz").write_bytes(b"")
    with pytest.raises(UnreadableReport, match="start it again with --add and --with"):
        data_from_records(store, "small-mse")


def test_only_what_was_run_here_is_searched_for_in_mlflow(place):
    data = load(place / "joined")
    details = row_details(write.leaderboard_of(data), data)
    assert {row.name.split()[0] for row in details if row.searchable} == {"mse", "teacher"}


def test_a_teacher_that_is_given_is_held_to_its_checksum(tmp_path):
    text = STUDY.replace("digits-cnn-medium}", "digits-cnn-medium, weights: teacher.pth}")
    text = text.replace("[ce, kd]", "[ce]").replace("0-3, looks: [3, 4]", "0-2")
    text = "\n".join(line for line in text.splitlines() if not line.startswith("tune"))
    (tmp_path / "small.yaml").write_text(text)
    network = models.build("digits-cnn-medium", (1, 8, 8), 10)
    torch.save(network.state_dict(), tmp_path / "teacher.pth")
    data = train(tmp_path / "there")
    (tmp_path / "report").mkdir()
    for name, content in data.files().items():
        (tmp_path / "report" / name).write_bytes(content)
    options = {"add": "mse", "base": tmp_path / "report"}
    board = write.leaderboard_of(train(tmp_path / "here", **options))
    text = " ".join(board.captions)
    assert "The teacher was given, with its checksum in its id, with the test scores that" in text
    torch.save({k: v + 1 for k, v in network.state_dict().items()}, tmp_path / "teacher.pth")
    with pytest.raises(DifferentSetting, match=r"teacher\.weights: teacher\.pth#"):
        train(tmp_path / "elsewhere", **options)


def changed_report(place, folder, **columns):
    """A copy of the report with other values in the teacher's line."""
    data = load(place / "report")
    runs = data.runs.copy()
    for name, value in columns.items():
        runs.loc[runs["row"] == "teacher", name] = value
    for name, content in replace(data, runs=runs).files().items():
        (folder / name).write_bytes(content)
    return folder


def test_another_teacher_on_an_equal_machine_is_refused(place, tmp_path):
    base = changed_report(place, tmp_path, nll=0.5)
    with pytest.raises(DifferentSetting, match=r"teacher .*: nll on test .* here, 0\.5 there"):
        train(place / "here", add="mse", base=base)


def test_a_teacher_of_another_machine_is_named_with_what_differs(place, tmp_path):
    base = changed_report(place, tmp_path, nll=0.5, hardware="a far one", torch="1.0")
    board = write.leaderboard_of(train(place / "here", add="mse", base=base))
    text = " ".join([*board.captions, *board.notes])
    assert "trained again here, with other test scores than the report has" in text
    assert "several machines: " in text
    assert "several torch versions: 1.0 (1 run)" in text


def test_other_test_images_are_refused(place, tmp_path):
    base = changed_report(place, tmp_path, test="f" * 12)
    with pytest.raises(DifferentSetting, match=r"images: checksum .* here, ffffffffffff there"):
        train(place / "here", add="mse", base=base)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.validation": 100}, "data.validation: 100 here, 200 there"),
        ({"recipe.epochs": 2}, "recipe.epochs: 2 here, 1 there"),
        ({"student.model": "digits-cnn"}, "models.student: digits-cnn here, digits-cnn-small"),
        ({"teacher.seed": 7}, "teacher: run "),
        ({"tune.trials": 3}, "tune.trials: 3 here, 2 there"),
        ({"tune.seed": 3}, "the study file has the hash "),
        ({"final.seeds": "4-7"}, "final.seeds: 4, 5, 6, 7 here, 0, 1, 2, 3 there"),
        ({"final.looks": []}, r"final.looks: none here, \(3, 4\) there"),
        ({"report.margin": 0.5}, "report.margin: 0.5 here, 0.2 there"),
        ({"report.test": "paired-t"}, "report.test: paired-t here, moderated-t there"),
        ({"report.score": "macro-f1"}, "report.score: macro-f1 here, accuracy there"),
    ],
)
def test_another_setting_is_refused_by_name(place, tmp_path, changes, message):
    options = {"changes": changes, "add": "mse", "base": place / "report"}
    with pytest.raises(DifferentSetting, match=message):
        prepare(Options(str(place / "small.yaml"), tmp_path, **options))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("add", "message"),
    [
        ("kd", "the report has a row 'kd' already"),
        ("msee", "did you mean 'mse'"),
        ("none.yaml", "cannot read it"),
        ("list.yaml", "it should hold one entry"),
        ("wrong.yaml", "unknown hyperparameter 'temprature'"),
        ("broken.yaml", "not readable as YAML"),
    ],
)
def test_an_entry_that_cannot_be_added(place, tmp_path, add, message):
    (tmp_path / "list.yaml").write_text("[kd]")
    (tmp_path / "wrong.yaml").write_text("{method: kd, label: mine, hparams: {temprature: 3}}")
    (tmp_path / "broken.yaml").write_text("{method: kd")
    path = str(tmp_path / add) if add.endswith("yaml") else add
    with pytest.raises(StudyError, match=message):
        study_beside(load_study(str(place / "small.yaml")), path, place / "report")


def test_an_entry_of_a_file(place, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("{method: kd, label: mine, hparams: {temperature: 3, alpha: 0.5}}")
    study, _ = study_beside(load_study(str(place / "small.yaml")), str(path), place / "report")
    (entry,) = study.methods
    assert (study.name, entry.label, entry.method) == ("small-mine", "mine", "kd")


def test_reports_that_give_no_rows(place, tmp_path):
    study = load_study(str(place / "small.yaml"))
    with pytest.raises(DifferentSetting, match="its rows come from the report small"):
        study_beside(study, "dkd", place / "joined")
    raw = json.loads((place / "report" / "study.json").read_text())
    changed_report(place, tmp_path)
    raw["plan"]["complete"] = False
    (tmp_path / "study.json").write_text(json.dumps(raw))
    with pytest.raises(DifferentSetting, match="it is not complete"):
        study_beside(study, "dkd", tmp_path)


def test_options_that_would_change_the_setting(tmp_path):
    with pytest.raises(InvalidOption, match="--add and --with go together"):
        check_options("mse", None, {})
    with pytest.raises(InvalidOption, match="leave --only and --seeds out"):
        check_options("mse", tmp_path, {"--only": "kd", "--seeds": "0-2", "--no-tune": False})


@pytest.mark.parametrize("listed_before", [False, True])
def test_the_study_itself_and_the_added_method_run_again(
    place, tmp_path, monkeypatch, listed_before
):
    shutil.copytree(place / "here", tmp_path / "root")
    if listed_before:  # as kdbench once wrote
        write_students(Store(tmp_path / "root"), "small", ["small-mse"])
    trained = []
    outcome = SimpleNamespace(failures={}, tracked=True, experiment="")
    monkeypatch.setattr(
        study_command,
        "train_study",
        lambda planner, *_: trained.append(planner.study.name) or outcome,
    )
    monkeypatch.setattr(study_command, "publish_report", lambda *_: (None, ()))
    monkeypatch.setattr(study_command, "show_report", lambda *_: None)
    words = ("study", place / "small.yaml", "--root", tmp_path / "root")
    added = ("--add", "mse", "--with", place / "report")
    for more in (added, added, (), added, ()):
        output(*words, *more)
    assert trained == ["small-mse", "small-mse", "small", "small-mse", "small"]
    assert studies_of(Store(tmp_path / "root"), "small") == ("small",)
