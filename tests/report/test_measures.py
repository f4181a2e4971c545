"""The tables of a study that compares by a mean over classes."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score
from support.fake_study import COST, IMAGES

from kdbench.report.data.report_data import ReportData, load
from kdbench.report.data.runs import records_frame
from kdbench.report.data.validation import checked_plan
from kdbench.report.leaderboard import build_leaderboard
from kdbench.report.write import leaderboard_csv, leaderboard_of, text_files
from kdbench.report.writers.cells import grid

#: A quarter of 1,000 images is of each class.
SMALLEST = IMAGES // 4


def measured(fake_study, measure):
    plan = replace(fake_study.plan, measure=measure)
    frame = records_frame(fake_study.store, plan, COST)
    return plan, frame, build_leaderboard(frame, plan, COST)


def test_macro_f1_takes_the_place_of_accuracy(fake_study):
    _, frame, board = measured(fake_study, "macro-f1")
    ce = board.table[board.table["method"] == "ce"].iloc[0]
    runs = frame[frame["label"] == "ce"]
    assert ce["f1"] == pytest.approx(100 * runs["f1"].mean())
    assert ce["f1_low"] < ce["f1"] < ce["f1_high"]
    assert ce["accuracy"] == pytest.approx(100 * runs["accuracy"].mean())
    assert "accuracy_low" not in board.table
    image = (2 / (SMALLEST + 1) + 1 / (2 * SMALLEST + 1)) / 4
    assert board.family.analysis.image == pytest.approx(100 * image)
    assert grid(board).headers[3:5] == ("macro F1 [95 %]", "accuracy")
    assert "the most that one test image can count" in " ".join(board.captions)
    header = leaderboard_csv(board.table, "d").decode().splitlines()[0].split(",")
    assert header.count("f1") == 1


def test_balanced_accuracy_comes_from_the_predictions(fake_study):
    _, frame, board = measured(fake_study, "balanced-accuracy")
    for run, value in frame.loc[frame["state"] == "done", ["id", "balanced_accuracy"]].to_numpy():
        arrays = fake_study.store.record(run).predictions()
        expected = balanced_accuracy_score(arrays["labels"], arrays["last"].argmax(1))
        assert value == pytest.approx(expected)
    teacher = board.table[board.table["row"] == "teacher"].iloc[0]
    assert teacher["balanced_accuracy"] > 0
    assert f"({teacher['balanced_accuracy']:.2f} % on test)" in " ".join(board.captions)


def test_what_papers_say_stays_accuracy(fake_study):
    number = {"label": "theirs", "accuracy": 91.0, "cite": "smith2020"}
    plan, frame, _ = measured(fake_study, "balanced-accuracy")
    board = build_leaderboard(frame, replace(plan, published=(number,)), COST)
    row = board.table[board.table["method"] == "theirs"].iloc[0]
    assert row["accuracy"] == 91
    assert np.isnan(row["balanced_accuracy"])


@pytest.mark.parametrize("measure", ["balanced-accuracy", "macro-f1"])
def test_its_data_can_be_read_back(fake_study, report_data, measure, tmp_path):
    plan, frame, _ = measured(fake_study, measure)
    data = replace(report_data, plan=plan.without_runs(), runs=frame)
    for name, content in data.files().items():
        (tmp_path / name).write_bytes(content)
    read = load(tmp_path)
    assert isinstance(read, ReportData)
    assert text_files(leaderboard_of(read), read) == text_files(leaderboard_of(data), data)


def test_a_measure_that_does_not_exist_is_refused(report_data):
    raw = report_data.plan.to_dict(runs=False)
    with pytest.raises(ValueError, match="its measure 'top-5' is none of accuracy, "):
        checked_plan({**raw, "measure": "top-5"})
