"""A study file with several students is one study for each."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.desk import Desk

from kdbench.records.store import Store
from kdbench.records.students import students_path, studies_of, write_students
from kdbench.study.load import StudyError, load_study
from kdbench.study.students import StudyFile, load_studies, parse_studies

FILE: dict[str, Any] = {
    "name": "mine",
    "data": {"name": "digits", "validation": 200},
    "students": ["digits-cnn-small", {"model": "digits-cnn", "label": "large"}],
    "teacher": {"model": "digits-cnn"},
    "recipe": {"epochs": 2, "batch": 64, "lr": 0.01},
    "methods": ["ce", "kd"],
    "final": {"seeds": [0, 1, 2]},
    "report": {"reference": "ce"},
}


def file_with(changes: dict[str, Any] | None = None, **keys: Any) -> StudyFile:
    return parse_studies(yaml.safe_dump({**FILE, **keys}), "mine.yaml", changes)


def faults(**keys: Any) -> list[str]:
    with pytest.raises(StudyError) as raised:
        file_with(**keys)
    return raised.value.faults


def test_each_student_makes_the_study_that_a_file_of_its_own_would_make() -> None:
    file = file_with()
    assert (file.name, file.has_students) == ("mine", True)
    rest = {key: value for key, value in FILE.items() if key != "students"}
    for study, name, model in zip(
        file.studies,
        ("mine-digits-cnn-small", "mine-large"),
        ("digits-cnn-small", "digits-cnn"),
        strict=True,
    ):
        alone = {**rest, "name": name, "student": {"model": model}}
        assert parse_studies(yaml.safe_dump(alone), "x").studies == (study,)


def test_a_file_with_one_student_is_one_study_of_its_name() -> None:
    text = yaml.safe_dump({**FILE, "student": {"model": "digits-cnn"}, "students": None})
    text = text.replace("students: null\n", "")
    file = parse_studies(text, "mine.yaml")
    assert [study.name for study in file.studies] == ["mine"]
    assert not file.has_students


def test_a_student_of_a_library_is_called_what_it_is_called_there() -> None:
    wide = {"model": "torchvision:resnet18", "options": {"width_per_group": 32}, "label": "narrow"}
    file = file_with(students=["torchvision:mobilenet_v3_small", wide])
    assert [s.name for s in file.studies] == ["mine-mobilenet_v3_small", "mine-narrow"]
    assert "width_per_group" in file.studies[1].student.model


def test_the_studies_share_the_teacher_and_nothing_else(desk: Desk) -> None:
    students = ["digits-cnn-small", "digits-cnn-medium"]
    first, second = (desk.plan(study) for study in file_with(students=students).studies)
    assert first.teachers == second.teachers
    assert set(first.nodes) & set(second.nodes) == set(first.teachers.values())


def test_a_change_chooses_students_and_changes_all_of_them() -> None:
    changes = {"students": ["digits-cnn-small"], "recipe.epochs": 5}
    file = file_with(changes)
    assert [study.name for study in file.studies] == ["mine-digits-cnn-small"]
    assert file.has_students
    assert {s.recipe.epochs for s in file_with({"recipe.epochs": 5}).studies} == {5}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"student": {"model": "digits-cnn"}}, ("student and students", "keep one")),
        ({"students": []}, ("students: ", "a list of models")),
        ({"students": "digits-cnn"}, ("students: ", "a list of models", "'digits-cnn'")),
        ({"students": ["digits-cnn", "digits-cnn"]}, ("two are called 'digits-cnn'", "label")),
        ({"students": ["digits-cnm"]}, ("students[0].model: ", "did you mean 'digits-cnn'")),
        ({"students": ["digits-cnn", {"label": "x"}]}, ("students[1]: ", "'model' is missing")),
        ({"students": [{"model": "digits-cnn", "layer": 3}]}, ("students[0]: ", "'layer'")),
        ({"students": [7]}, ("students[0]", "unknown model 7")),
        ({"students": [{"model": "digits-cnn", "label": "A/b"}]}, ("students[0]: 'A/b'", "label")),
        ({"name": "n" * 60, "students": ["digits-cnn"]}, ("students[0]: ", "64 characters")),
        ({"name": "digits", "students": [{"model": "digits-cnn", "label": "all"}]},
         ("students[0]: ", "has a study 'digits-all'")),
        ({"name": "Mine"}, ("name: 'Mine' is not a name",)),
        ({"name": None}, ("name: None is not a name",)),
        ({"recipe": {**FILE["recipe"], "lr": 0}}, ("recipe.lr: ",)),
        ({"report": {"reference": "ec"}}, ("report.reference: ", "did you mean 'ce'")),
    ],
)  # fmt: skip
def test_a_fault_is_one_line_with_its_place(keys: dict[str, Any], words: tuple[str, ...]) -> None:
    (fault,) = faults(**keys)
    assert all(word in fault for word in words), fault


def test_all_faults_are_listed_at_once() -> None:
    found = faults(
        name="Mine",
        students=["digits-cnm", "digits-cnn", {"model": "digits-cnn", "options": {"a": 1}}],
        student={"model": "digits-cnn"},
        recipe={**FILE["recipe"], "epochs": 0},
    )
    for words in ("name: ", "student and", "students[0]", "two are", "students[2]", "epochs"):
        assert any(words in fault for fault in found), (words, found)
    assert len(found) == 6


def test_who_asks_for_one_study_is_told_how_to_choose_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(FILE))
    assert len(load_studies(str(path)).studies) == 2
    with pytest.raises(StudyError, match=r"--set 'students=\[NAME\]'"):
        load_study(str(path))


# -- the name of the file, in a root


def test_a_name_stands_for_the_studies_of_its_students(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert studies_of(store, "mine") == ("mine",)
    write_students(store, "mine", ["mine-b", "mine-a"])
    assert studies_of(store, "mine") == ("mine-b", "mine-a")
    assert studies_of(store, "mine-a") == ("mine-a",)


def test_a_damaged_list_of_studies_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_students(store, "mine", ["mine-a"])
    path = students_path(store, "mine")
    path.write_text(path.read_text().replace("mine-a", "mine-b"))
    with pytest.raises(Exception, match=r"mine\.students cannot be read.*writes it anew"):
        studies_of(store, "mine")
