"""Tuning in two stages: the best points are trained again, and the default must be beaten."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.desk import Desk, kinds, rows, study_of

from kdbench.records.plan_file import PlanFile
from kdbench.report.data.report_data import trials_frame
from kdbench.study.plan import Row
from kdbench.study.plan_file import plan_file
from kdbench.study.sampling import confirmed_best, shortlist

AGAIN = (200, 201, 202, 203)
STUDY = study_of("ce", "kd", tune={"trials": 5, "confirm": {"points": 2, "seeds": list(AGAIN)}})


def first_stage(desk: Desk, scores: Mapping[int, float | None]) -> Row:
    """The row after its first stage ended with these validation accuracies."""
    plan = desk.plan(STUDY)
    for number, accuracy in scores.items():
        (run,) = rows(plan, "kd")["tuned"].trials[number].runs
        desk.finish(plan.nodes[run], accuracy or 0.0, ok=accuracy is not None)
    return rows(desk.plan(STUDY), "kd")["tuned"]


def second_stage(desk: Desk, scores: Mapping[int, Sequence[float]]) -> Row:
    plan = desk.plan(STUDY)
    for number, accuracies in scores.items():
        runs = rows(plan, "kd")["tuned"].trials[number].runs[1:]
        for run, accuracy in zip(runs, accuracies, strict=True):
            desk.finish(plan.nodes[run], accuracy)
    return rows(desk.plan(STUDY), "kd")["tuned"]


SCORES = {0: 0.5, 1: 0.9, 2: 0.6, 3: 0.8, 4: 0.7}


def test_the_default_and_the_best_points_are_trained_again(desk: Desk) -> None:
    row = first_stage(desk, SCORES)
    assert {t.number: len(t.runs) for t in row.trials} == {0: 5, 1: 5, 2: 1, 3: 5, 4: 1}
    nodes = desk.plan(STUDY).nodes
    for number in (0, 1, 3):
        specs = [nodes[run].spec for run in row.trials[number].runs]
        assert [spec.hparams for spec in specs] == [specs[0].hparams] * 5
        assert len({spec.seed for spec in specs}) == 5
    again = [[nodes[r].spec.seed for r in row.trials[n].runs[1:]] for n in (0, 1, 3)]
    assert again[0] == again[1] == again[2]  # paired
    assert row.best_trial is None
    assert not row.runs
    assert desk.plan(STUDY).open == 1


def test_a_point_that_beats_the_default_by_more_than_the_noise_wins(desk: Desk) -> None:
    first_stage(desk, SCORES)
    default = (0.50, 0.52, 0.51, 0.53)
    row = second_stage(desk, {0: default, 1: (0.51, 0.50, 0.53, 0.51), 3: (0.6, 0.6, 0.61, 0.62)})
    assert row.best_trial == 3
    assert len(row.runs) == 3
    assert row.trials[3].confirmed == (0.6, 0.6, 0.61, 0.62)


def test_the_default_is_kept_against_luck(desk: Desk) -> None:
    first_stage(desk, SCORES)
    lucky = (0.55, 0.52, 0.49, 0.52)  # +0.005 on average, with a standard error of 0.015
    row = second_stage(desk, {0: (0.50, 0.52, 0.51, 0.53), 1: lucky, 3: (0.4, 0.4, 0.4, 0.4)})
    assert row.best_trial == 0


def test_diverged_points_are_not_trained_again(desk: Desk) -> None:
    row = first_stage(desk, {0: None, 1: None, 2: 0.6, 3: None, 4: None})
    assert {t.number: len(t.runs) for t in row.trials} == {0: 1, 1: 1, 2: 5, 3: 1, 4: 1}
    assert second_stage(desk, {2: (0.1, 0.2, 0.3, 0.4)}).best_trial == 2


def test_where_all_diverged_the_row_says_so(desk: Desk) -> None:
    row = first_stage(desk, dict.fromkeys(SCORES))
    assert "all 5 trials diverged" in (row.incompatible or "")


def test_every_method_gets_the_same_budget(desk: Desk) -> None:
    study = study_of(
        "ce", "kd", "at", "dkd", tune={"trials": 4, "confirm": {"points": 1, "seeds": [7, 8]}}
    )
    plan = desk.plan(study)
    for node in kinds(plan, "trial"):
        desk.finish(node, float(np.random.default_rng(node.listing.trial).random()))
    trials = kinds(desk.plan(study), "trial")
    labels = [node.listing.label for node in trials]
    assert {labels.count(label) for label in ("kd", "at", "dkd")} == {4 + 2 * 2}


def test_plan_file_and_table_hold_the_second_stage(desk: Desk) -> None:
    first_stage(desk, SCORES)
    second_stage(desk, {0: (0.5,) * 4, 1: (0.6,) * 4, 3: (0.7,) * 4})
    content = plan_file(desk.planner(STUDY), desk.plan(STUDY))
    assert PlanFile.from_dict(content.to_dict()) == content
    frame = trials_frame(content).set_index("number")
    assert frame["confirmed"].dropna().round(6).to_dict() == {0: 0.5, 1: 0.6, 3: 0.7}
    assert frame["accuracy"].to_dict() == SCORES
    assert list(frame.index[frame["chosen"]]) == [3]


def test_plans_without_a_second_stage_stay_as_they_were(desk: Desk) -> None:
    study = study_of("ce", "kd")
    content = plan_file(desk.planner(study), desk.plan(study))
    assert "confirm" not in content.to_dict()["tune"]
    assert "confirmed" not in trials_frame(content)


@given(st.dictionaries(st.integers(0, 9), st.none() | st.floats(0, 1), min_size=1))
def test_a_shortlist_holds_the_default_and_the_best(scores: dict[int, float | None]) -> None:
    listed = shortlist({n: None if s is None else (s, 1.0) for n, s in scores.items()}, 2)
    left = {n: s for n, s in scores.items() if s is not None}
    assert (0 in listed) == (0 in left)
    others = [number for number in listed if number]
    assert len(others) <= 2
    if rest := left.keys() - {*listed, 0}:
        assert len(others) == 2
        assert min(left[n] for n in others) >= max(left[n] for n in rest)


def test_the_rule_compares_pairs_and_not_means() -> None:
    default = np.array([0.5, 0.7, 0.6, 0.9])
    # Every pair is better by the same, so the spread between seeds does not count.
    assert confirmed_best({0: tuple(default), 4: tuple(default + 0.01)}) == 4
    assert confirmed_best({0: tuple(default), 4: tuple(default)}) == 0
    assert confirmed_best({0: tuple(default), 4: None}) == 0
    assert confirmed_best({0: None, 4: (0.1, 0.1)}) == 4
    with pytest.raises(ValueError, match="all diverged"):
        confirmed_best({0: None, 1: None})
