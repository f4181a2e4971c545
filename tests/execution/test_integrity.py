"""A damaged record of a study: found when it starts and trained again."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from support.inline_study import SMALL, InlineStudy, Recorder, run_contents

from kdbench.data.load import TrainingData
from kdbench.execution.integrity import report_outdated, set_damaged_aside
from kdbench.records.check import check_record
from kdbench.records.files import write_json
from kdbench.records.readers import CorruptRecord, sealed
from kdbench.records.store import Record, Store
from kdbench.testing.world import World
from kdbench.training.run import TrainingRun
from kdbench.training.state import pack_state


@pytest.fixture
def finished(study: InlineStudy, trained: Path) -> InlineStudy:
    """A copy of the finished study of six runs."""
    shutil.copytree(trained, study.root, dirs_exist_ok=True)
    study.changes = SMALL
    return study


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, digits: TrainingData) -> Path:
    root = tmp_path_factory.mktemp("trained")
    InlineStudy(root, digits, changes=SMALL).run()
    return root


def records(study: InlineStudy) -> tuple[Record, list[Record]]:
    """The teacher's record, and those of the students that learned from it."""
    store = Store(study.root)
    plan = study.driver()[0].planner.plan()
    (teacher,) = set(plan.teachers.values())
    learned = [i for i, n in plan.nodes.items() if teacher in n.spec.frozen_runs.values()]
    return store.record(teacher), store.records(learned)


def flip(path: Path, byte: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)


def start(study: InlineStudy) -> Recorder:
    """What a start of the study does about damage, and then the study."""
    driver, recorder = study.driver()
    set_damaged_aside(driver.planner, driver.store, recorder)
    driver.run()
    report_outdated(driver.planner, driver.store, recorder)
    return recorder


def test_a_result_names_the_weights_that_it_learned_from(finished: InlineStudy) -> None:
    teacher, students = records(finished)
    assert students
    weights = teacher.checksums["weights.safetensors"]
    for student in students:
        assert student.result["learned_from"] == {teacher.id: weights}
    assert teacher.result["learned_from"] == {}


@pytest.mark.parametrize(
    "name",
    [
        "weights.safetensors",
        "result.json",
        *(pytest.param(n, marks=pytest.mark.long) for n in ("metrics.jsonl", "test.npz")),
    ],
)
def test_a_damaged_teacher_is_quarantined_and_trained_again_to_the_same_bits(
    finished: InlineStudy, name: str
) -> None:
    before = run_contents(finished.root)
    teacher, students = records(finished)
    flip(teacher.folder / name, 60)
    damaged = (teacher.folder / name).read_bytes()
    lines = start(finished).lines
    (line,) = [line for line in lines if teacher.id in line and "damaged" in line]
    assert name in line
    assert f"{len(students)} finished runs learned from it before that, and stay" in line
    assert run_contents(finished.root) == before
    assert check_record(teacher) == []
    place = finished.root / "runs" / "quarantine" / teacher.id
    assert (place / name).read_bytes() == damaged
    assert name in (place / "quarantine.txt").read_text()
    assert not any("earlier weights" in line for line in lines)


def test_nothing_is_ever_trained_from_damaged_weights(finished: InlineStudy) -> None:
    """So what learned from a damaged teacher learned from it before it was damaged."""
    teacher, students = records(finished)
    flip(teacher.weights_path)
    shutil.rmtree(students[0].folder)
    driver, _ = finished.driver()
    driver.run()  # without the look at the start: as if the damage came a moment later
    assert students[0].result is None
    assert "weights.safetensors is damaged" in students[0].error["message"]
    with pytest.raises(CorruptRecord):
        teacher.state_dict()
    # The next start trains the teacher again, and then the student.
    lines = start(finished).lines
    assert any(teacher.id in line and "trained again" in line for line in lines)
    assert students[0].result["state"] == "done"


def test_a_damaged_student_alone_is_trained_again(finished: InlineStudy) -> None:
    before = run_contents(finished.root)
    _, (student, *_) = records(finished)
    flip(student.weights_path)
    kept = {p: p.stat().st_mtime_ns for p in finished.root.glob("runs/*/result.json")}
    start(finished)
    assert run_contents(finished.root) == before
    changed = {p.parent.name for p, time in kept.items() if p.stat().st_mtime_ns != time}
    assert changed == {student.id}


def test_students_of_a_teacher_that_came_out_differently_are_named(finished: InlineStudy) -> None:
    """As on a GPU, or on another machine."""
    teacher, students = records(finished)
    path = students[0].folder / "result.json"
    raw = json.loads(path.read_bytes())
    del raw["sha256"]
    write_json(path, sealed(raw | {"learned_from": {teacher.id: "0" * 64}}))
    (line,) = [line for line in start(finished).lines if "earlier weights" in line]
    assert line.startswith("1 finished runs")
    assert teacher.id in line
    assert "kd seed" in line


def test_a_checkpoint_made_with_other_weights_of_a_teacher_is_not_gone_on_from(
    world: World,
) -> None:
    job, context = world.job("kd"), world.context()
    state = TrainingRun(job, context).state() | {"epoch": 2}
    assert TrainingRun(replace(job, checkpoint=pack_state(state)), context).history.epoch == 2
    state["learned_from"] = dict.fromkeys(state["learned_from"], "0" * 64)
    assert TrainingRun(replace(job, checkpoint=pack_state(state)), context).history.epoch == 0


def test_a_damaged_plan_and_damaged_costs_are_made_again(finished: InlineStudy) -> None:
    store, name = Store(finished.root), "crash"
    plan = store.plan_path(name).read_bytes()
    store.plan_path(name).write_bytes(plan[:-40])
    store.costs_path(name).write_bytes(b"[]")
    lines = start(finished).lines
    assert store.plan_path(name).read_bytes() == plan
    assert sum("cannot be read" in line for line in lines) == 2
    assert (store.plan_path(name).parent / f"{name}.json.damaged").read_bytes() == plan[:-40]
