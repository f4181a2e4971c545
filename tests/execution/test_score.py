"""A study of imbalanced images that compares and tunes by balanced accuracy."""

import gzip
from dataclasses import replace

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

import kdbench
from kdbench.cli.status import read_status
from kdbench.execution.study_file import run_study
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.report import check, write
from kdbench.report.check import check_report, record_differences
from kdbench.report.data.collect import collect_report_data
from kdbench.report.figures import Drawn, fidelity, profiles, tuning
from kdbench.report.pooled import NotComparable, pool_settings

COUNTS = {"train": {"a": 90, "b": 40, "c": 14}, "test": {"a": 40, "b": 20, "c": 4}}
NETS = """
from torch import nn

def tiny(image_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, classes))
"""
STUDY = """
name: rare
data: {folder: ./images, size: 8, channels: grey, validation: 36}
student: {model: "./nets.py:tiny"}
teacher: {model: "./nets.py:tiny"}
recipe: {epochs: 2, batch: 16, lr: 1.0e-2}
methods: [ce, kd]
tune: {trials: 2, epochs: 2, seeds: [100]}
final: {seeds: [0, 1, 2], epoch: best}
report: {reference: ce, score: balanced-accuracy}
"""


@pytest.fixture(scope="module")
def undrawn():
    """Figures are left out, which take seconds; their words are tested by themselves."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (write, check):
            patch.setattr(module, "draw_figures", lambda *_: Drawn({}, {}, {}, {}))
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory, undrawn):
    folder = tmp_path_factory.mktemp("rare")
    rng = np.random.default_rng(0)
    for part, classes in COUNTS.items():
        for shift, (name, count) in enumerate(classes.items()):
            place = folder / "images" / part / name
            place.mkdir(parents=True)
            for k in range(count):
                pixels = rng.normal(100 + 25 * shift, 40, (8, 8)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{k}.png")
    (folder / "nets.py").write_text(NETS)
    (folder / "rare.yaml").write_text(STUDY)
    run_study(folder / "rare.yaml", root=folder / "out", workers=1, data_dir=folder / "data")
    return folder / "out"


@pytest.fixture(scope="module")
def plan(root):
    return PlanFile.load(Store(root).plan_path("rare"))


def balanced(root, run, rule="best"):
    arrays = Store(root).record(run).predictions()
    return 100 * balanced_accuracy_score(arrays["labels"], arrays[rule].argmax(1))


def test_it_is_what_the_table_compares(root, plan):
    board = kdbench.load_report(root / "reports" / "rare")
    assert board.score == "Test balanced accuracy"
    row = next(r for r in plan.rows if r.row == "tuned")
    base = next(r for r in plan.rows if r.label == "ce")
    scores = {s: balanced(root, run) for s, run in row.runs.items()}
    differences = [scores[s] - balanced(root, run) for s, run in base.runs.items()]
    line = board.table[board.table["row"] == "tuned"].iloc[0]
    assert line["balanced_accuracy"] == pytest.approx(np.mean(list(scores.values())))
    assert line["difference"] == pytest.approx(np.mean(differences))
    tests = [Store(root).record(run).test["best"] for run in row.runs.values()]
    assert line["accuracy"] == pytest.approx(100 * np.mean([t["accuracy"] for t in tests]))
    # An image of the smallest class of three counts a third of a quarter.
    assert board.family.analysis.image == pytest.approx(100 / 3 / 4)
    assert line["difference_sd"] >= 100 / 3 / 4 - 1e-9


def test_it_is_what_tuning_and_the_best_epoch_go_by(root, plan):
    store = Store(root)
    tuned = next(r for r in plan.rows if r.row == "tuned")
    for trial in tuned.trials:
        result = store.record(trial.runs[0]).result
        assert trial.accuracy == result["best"]["val.balanced_accuracy"]
    best = max(tuned.trials, key=lambda t: (t.accuracy, -t.nll))
    assert tuned.best_trial == best.number
    for run in (*tuned.runs.values(), *plan.teachers.values()):
        record = store.record(run)
        epochs = [row["val.balanced_accuracy"] for row in record.epochs()]
        assert record.result["best"]["val.balanced_accuracy"] == max(epochs)


def test_status_and_optuna_tell_it(root, plan):
    row = next(r for r in plan.rows if r.label == "ce")
    state = next(r for r in read_status(Store(root), "rare").rows if r.label == "ce")
    assert state.test == pytest.approx(np.mean([balanced(root, r) for r in row.runs.values()]))
    storage = JournalStorage(JournalFileBackend(str(root / "optuna.journal")))
    study = optuna.load_study(study_name="rare/kd", storage=storage)
    assert study.metric_names == ["validation balanced accuracy"]


def test_all_words_name_it(root):
    folder = root / "reports" / "rare"
    board = kdbench.load_report(folder)
    text = " ".join(board.captions)
    assert "Test balanced accuracy is given in %" in text
    assert "the epoch of best validation balanced accuracy" in text
    assert "one test image of the smallest class (8.3 points)" in text
    assert "scored by balanced accuracy on validation data" in text
    assert "balanced accuracy [95 %]" in (folder / "leaderboard.md").read_text()
    assert "balanced accuracy" in (folder / "methods.tex").read_text()
    assert (folder / "leaderboard.csv").read_text().count("balanced_accuracy") == 3
    with gzip.open(folder / "trials.csv.gz") as file:
        assert "balanced_accuracy" in pd.read_csv(file).columns


def test_the_figures_show_it(root):
    data = collect_report_data(Store(root), "rare", print)
    board = write.leaderboard_of(data)
    line = board.table[board.table["method"] == "ce"].iloc[0]
    points = {p.label: p.y for p in fidelity.prepare(board, data).points}
    assert points["ce"] == line["balanced_accuracy"]
    assert "above each test balanced accuracy" in profiles.prepare(board, data).title
    assert tuning.prepare(board, data).title.startswith("Validation balanced accuracy")


def test_its_report_is_checked_and_equals_the_records(root, plan):
    assert check_report(root / "reports" / "rare") == []
    store = Store(root)
    now = collect_report_data(store, "rare", print)
    assert record_differences(now, store, plan) == []


def test_it_is_not_pooled_with_accuracy(root):
    data = collect_report_data(Store(root), "rare", print)
    other = replace(data, plan=replace(data.plan, measure="accuracy"))
    with pytest.raises(NotComparable, match="rare by balanced accuracy, other by accuracy"):
        pool_settings("both", {"rare": data, "other": other})
