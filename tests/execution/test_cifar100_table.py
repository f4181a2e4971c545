"""The shipped study of the CIFAR-100 table's pair, from start to report on the CPU."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from support.inline_study import Recorder

from kdbench.data import DATASETS, load
from kdbench.data.builtin import BUILTIN
from kdbench.execution.driver import StudyDriver
from kdbench.execution.engines.inline import InlineEngine
from kdbench.execution.engines.protocol import WorkerSettings
from kdbench.records.costs import write_costs
from kdbench.records.provenance import provenance
from kdbench.records.store import Store
from kdbench.report.data.collect import data_from_records
from kdbench.report.write import leaderboard_of
from kdbench.study.load import load_study
from kdbench.study.planner import Planner
from kdbench.tracking.optuna_log import OptunaLog

NAME = "cifar100-resnet32x4-resnet8x4"
#: What `--set` makes shorter: schedules, trials and seeds, and the images that validate.
SHORTER = {
    "recipe.epochs": 1,
    "tune.epochs": 1,
    "tune.trials": 2,
    "tune.confirm": None,
    "final.seeds": [0],
    "data.validation": 100,
    # Not every CPU has bf16.
    "recipe.precision": "fp32",
}


def test_it_is_the_protocol_of_the_table() -> None:
    """240 epochs of SGD, steps at 150, 180 and 210, the last epoch of all images."""
    study = load_study(NAME)
    recipe = study.recipe
    assert (recipe.epochs, recipe.batch, recipe.optimizer) == (240, 64, "sgd")
    assert (recipe.lr, recipe.momentum, recipe.weight_decay) == (0.05, 0.9, 5e-4)
    assert [share * recipe.epochs for share in recipe.milestones] == [150, 180, 210]
    assert (recipe.gamma, recipe.nesterov, study.data.augment) == (0.1, False, "crop-flip")
    assert (study.final.epoch, study.final.train_on) == ("last", "all")
    # The rows `default` are held against the table, so nothing is set apart from the defaults.
    assert not any(entry.hparams for entry in study.methods)


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images of noise for each class in CIFAR-100's place."""

    def read(part: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
        images = np.random.default_rng(0).integers(256, size=(200, 3, 32, 32), dtype=np.uint8)
        return images, np.arange(200) % 100

    few = dataclasses.replace(
        BUILTIN["cifar100"], read=read, train_files=(), test_files=(), download=None
    )
    monkeypatch.setitem(DATASETS, "cifar100", few)


@pytest.mark.long
def test_all_of_it_runs_with_short_schedules(
    tmp_path: Path, few_images: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every method is tuned, trained, scored and reported beside what was published."""
    study, store, recorder = load_study(NAME, SHORTER), Store(tmp_path), Recorder()
    planner = Planner(study, load("cifar100"), store)
    engine = InlineEngine(WorkerSettings(tmp_path, "cifar100", None, "cpu"))
    log = OptunaLog(tmp_path)
    # Measuring what each method costs would take four times as many steps as all of its runs.
    cost = {"relative": 1.0, "seconds_per_step": 1.0, "peak_mb": 1.0, "training": 1.0}
    machine = f"{provenance()['hardware']}, cpu"
    write_costs(store.costs_path(NAME), machine, {entry.label: cost for entry in study.methods})
    driver = StudyDriver(planner, store, engine, recorder, recorder, log, True)
    monkeypatch.setattr(driver.costs, "start", lambda: False)
    driver.run()
    assert not driver.failures()

    table = leaderboard_of(data_from_records(store, NAME)).table
    tuned = [entry.label for entry in study.methods if entry.method != "ce"]
    ranked = table[table["row"].isin(["tuned", "only"])]
    assert sorted(ranked["method"]) == sorted([*tuned, "ce"])
    assert sorted(table[table["row"] == "default"]["method"]) == sorted(tuned)
    assert table["accuracy"].notna().all()
