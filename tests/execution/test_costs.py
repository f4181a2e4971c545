"""A row's cost counts all that was trained for it, and the study's teacher apart."""

from typing import Any

import pytest
from support.inline_study import InlineStudy

from kdbench.execution.costs import CostMeasurement
from kdbench.execution.engines.protocol import CostsMeasured, Task
from kdbench.records.costs import read_costs, write_costs
from kdbench.records.store import Store
from kdbench.report.data.collect import data_from_records
from kdbench.study.plan_file import plan_file

METHODS = [
    "ce",
    "dml",
    "ban",
    {"method": "ban", "label": "ban-1", "hparams": {"generations": 1}},
    {"method": "noisy-student", "hparams": {"generations": 2}},
    "ensemble",
    "eskd",
    {"method": "takd", "assistant": {"model": "digits-cnn"}},
]
#: What a step of a model takes in this test; a run of `dml` trains two students.
STEP = {"digits-cnn-small": 1.0, "digits-cnn": 3.0}
EPOCHS = 4


class IdleEngine:
    """An engine whose worker has nothing to do, and that keeps the task it is given."""

    size, device, remote = 1, "cpu", False
    task: Task

    def idle(self) -> int:
        return 1

    def submit(self, task: Task) -> None:
        self.task = task


def measured(task: Task) -> CostsMeasured:
    """Costs by model, and a step an epoch."""
    return CostsMeasured({
        label: {
            "relative": STEP[spec.models["student"]] * (1 + (label == "dml")),
            "seconds_per_step": 1.0,
            "steps": spec.recipe.epochs,
            "peak_mb": 1.0,
        }
        for label, spec in zip(task.labels, task.specs, strict=True)
    })  # fmt: skip


def started(study: InlineStudy, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> CostMeasurement:
    """The measurement of another start of a study whose runs are all finished."""
    study.changes = {
        "tune": None, "final.seeds": [0], "methods": METHODS, "recipe.epochs": EPOCHS,
        **{name.replace("__", "."): value for name, value in changes.items()},
    }  # fmt: skip
    driver, _ = study.driver(IdleEngine())
    driver._make_plan()
    monkeypatch.setattr(driver.state, "is_done", lambda run: True)
    return driver.costs


@pytest.fixture
def measurement(study: InlineStudy, monkeypatch: pytest.MonkeyPatch) -> CostMeasurement:
    """Of a study whose runs are all finished."""
    return started(study, monkeypatch)


def rows(measurement: CostMeasurement) -> dict[str, Any]:
    return read_costs(measurement.state.store.costs_path("crash"))["rows"]


def test_the_cost_of_a_row_counts_all_that_was_trained_for_it(
    measurement: CostMeasurement,
) -> None:
    assert measurement.start()
    measurement.finish(measured(measurement.engine.task))
    assert {label: row["training"] for label, row in rows(measurement).items()} == {
        "ce": 1.0,
        "dml": 2.0,  # two students at once
        "ban": 3.0,  # a student of the labels alone, and two generations
        "ban-1": 2.0,
        "noisy-student": 2.0,  # the first generation learns from the study's teacher
        "ensemble": 1.0 + 2 * 3.0,  # one of the three teachers is the study's
        "eskd": 1.0 + 3.0 / EPOCHS,  # a teacher of its own for a quarter of the epochs
        "takd": 1.0 + 3.0,  # the assistant
        "teacher": 3.0,
    }
    assert rows(measurement)["ban"]["relative"] == 1.0


def test_costs_of_steps_alone_are_measured_again(
    study: InlineStudy, measurement: CostMeasurement
) -> None:
    assert measurement.start()
    measurement.finish(measured(measurement.engine.task))
    assert not measurement.start()
    again = CostMeasurement(measurement.state, measurement.engine, measurement.device)
    steps = {label: {"relative": row["relative"]} for label, row in rows(measurement).items()}
    write_costs(Store(study.root).costs_path("crash"), measurement.machine, steps)
    assert again.start()


@pytest.fixture
def finished(measurement: CostMeasurement) -> CostMeasurement:
    """The same after its costs were measured."""
    assert measurement.start()
    measurement.finish(measured(measurement.engine.task))
    return measurement


def test_another_reference_divides_by_its_costs(
    study: InlineStudy, finished: CostMeasurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(finished)
    again = started(study, monkeypatch, report__reference="ban")
    assert not again.start()
    now = rows(again)
    assert now.keys() == before.keys()
    assert now["ban"]["training"] == 1.0
    for label, row in now.items():
        assert row["training"] == pytest.approx(before[label]["training"] / 3)
        assert row["relative"] == pytest.approx(before[label]["relative"])
        assert row["seconds_per_step"] == before[label]["seconds_per_step"]


def test_another_student_has_no_cost_until_it_is_measured(
    study: InlineStudy, finished: CostMeasurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = started(study, monkeypatch, student={"model": "digits-cnn"})
    assert rows(again) == {}
    assert again.start()
    again.finish(measured(again.engine.task))
    assert rows(again)["takd"]["training"] == 2.0
    assert not started(study, monkeypatch, student={"model": "digits-cnn"}).start()


def test_another_assistant_is_measured_again(
    study: InlineStudy, finished: CostMeasurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(finished)
    other = {"method": "takd", "assistant": {"model": "digits-cnn-small"}}
    again = started(study, monkeypatch, methods=[*METHODS[:-1], other])
    assert rows(again) == {label: row for label, row in before.items() if label != "takd"}
    assert again.start()
    again.finish(measured(again.engine.task))
    assert rows(again)["takd"]["training"] == 2.0


def test_other_seeds_and_learning_rates_are_not_measured_again(
    study: InlineStudy, finished: CostMeasurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(finished)
    again = started(study, monkeypatch, final__seeds=[3, 4], recipe__lr=0.02)
    assert not again.start()
    assert rows(again) == before


def test_costs_that_do_not_say_what_was_measured_stay_until_they_are_measured_again(
    study: InlineStudy, finished: CostMeasurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(finished)
    write_costs(Store(study.root).costs_path("crash"), finished.machine, before)
    again = started(study, monkeypatch)
    assert rows(again) == before
    assert again.start()
    again.finish(measured(again.engine.task))
    assert not started(study, monkeypatch).start()


def test_a_report_keeps_the_costs_alone(finished: CostMeasurement) -> None:
    store = finished.state.store
    plan_file(finished.state.planner, finished.state.plan).dump(store.plan_path("crash"))
    assert data_from_records(store, "crash").cost == {
        "machine": finished.machine,
        "rows": rows(finished),
    }
