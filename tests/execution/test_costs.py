"""A row's cost counts all that was trained for it, and the study's teacher apart."""

from typing import Any

import pytest
from support.inline_study import InlineStudy

from kdbench.execution.costs import CostMeasurement
from kdbench.execution.engines.protocol import CostsMeasured, Task
from kdbench.records.costs import read_costs, write_costs
from kdbench.records.store import Store

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


@pytest.fixture
def measurement(study: InlineStudy, monkeypatch: pytest.MonkeyPatch) -> CostMeasurement:
    """Of a study whose runs are all finished."""
    study.changes = {
        "tune": None, "final.seeds": [0], "methods": METHODS, "recipe.epochs": EPOCHS,
    }  # fmt: skip
    driver, _ = study.driver(IdleEngine())
    driver.state.make_plan()
    monkeypatch.setattr(driver.state, "is_done", lambda run: True)
    return driver.costs


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
