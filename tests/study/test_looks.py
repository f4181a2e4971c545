"""A study with looks: undecided methods get the seeds of the next look, decided ones do not."""

import numpy as np
import pytest
from support.desk import Desk, kinds, rows, study_of

from kdbench.records.plan_file import PlanFile
from kdbench.study.load import StudyError
from kdbench.study.looks import check_looks
from kdbench.study.plan import Plan
from kdbench.study.plan_file import plan_file

FINAL = {"seeds": "0-11", "looks": [4, 8, 12]}
STUDY = study_of("ce", "kd", "dkd", tune=None, final=FINAL)
#: kd is much better than ce, dkd is not to be told from it.
SHIFTS = {"ce": 0.0, "kd": 0.2, "dkd": 0.003}


def score(desk: Desk, plan: Plan, shifts=SHIFTS, leave=()) -> None:
    """Finish and score every run of the plan that is not."""
    for node in plan.nodes.values():
        record = desk.store.record(node.id)
        if record.result is None:
            desk.finish(node, 0.5)
        if node.score and record.test is None and node.listing.name not in leave:
            draw = np.random.default_rng([len(node.listing.label), node.listing.seed])
            accuracy = 0.6 + shifts.get(node.listing.label, 0.0) + 0.01 * draw.normal()
            values = {"accuracy": float(accuracy)}
            test = {"checksum": "t", "images": 1000, "last": values, "best": values}
            record.score(test, {"labels": np.zeros(1, dtype=np.int64)})


def seeds(plan: Plan) -> dict[str, int]:
    return {row.label: len(row.runs) for row in plan.rows if row.judged}


def test_every_method_begins_with_the_seeds_of_the_first_look(desk):
    plan = desk.plan(STUDY)
    assert seeds(plan) == {"ce": 4, "kd": 4, "dkd": 4}
    assert {node.listing.seed for node in kinds(plan, "final")} == {0, 1, 2, 3}


def test_only_undecided_methods_and_the_reference_go_on(desk):
    score(desk, desk.plan(STUDY))
    plan = desk.plan(STUDY)
    assert seeds(plan) == {"ce": 8, "kd": 4, "dkd": 8}
    score(desk, plan)
    assert seeds(desk.plan(STUDY)) == {"ce": 12, "kd": 4, "dkd": 12}


def test_a_look_waits_for_its_last_score(desk):
    plan = desk.plan(STUDY)
    score(desk, plan, leave={"dkd seed 3"})
    assert seeds(desk.plan(STUDY)) == {"ce": 4, "kd": 4, "dkd": 4}
    assert not plan_file(desk.planner(STUDY), desk.plan(STUDY)).complete


def test_a_study_in_which_all_is_decided_ends(desk):
    shifts = {"ce": 0.0, "kd": 0.2, "dkd": -0.3}
    score(desk, desk.plan(STUDY), shifts)
    plan = desk.plan(STUDY)
    assert seeds(plan) == {"ce": 4, "kd": 4, "dkd": 4}
    assert plan_file(desk.planner(STUDY), plan).complete


def test_diverged_methods_get_no_more_seeds(desk):
    plan = desk.plan(STUDY)
    for node in kinds(plan, "final", "dkd"):
        desk.finish(node, ok=False)
    score(desk, plan)
    assert seeds(desk.plan(STUDY)) == {"ce": 4, "kd": 4, "dkd": 4}


def test_tuned_rows_go_on_and_their_defaults_do_not(desk):
    study = study_of("ce", "kd", final=FINAL, tune={"trials": 2, "epochs": 2, "seeds": [100]})
    shifts = {"ce": 0.0, "kd": 0.003}
    score(desk, desk.plan(study), shifts)  # the trials
    score(desk, desk.plan(study), shifts)
    plan = desk.plan(study)
    assert {name: len(row.runs) for name, row in rows(plan, "kd").items()} == {
        "default": 4,
        "tuned": 8,
    }


def test_teachers_of_later_seeds_come_with_their_look(desk):
    study = study_of(
        "ce", "kd", tune=None, final=FINAL, teacher={"model": "digits-cnn", "seed": "per-seed"}
    )
    plan = desk.plan(study)
    assert list(plan.teachers) == ["0", "1", "2", "3"]
    score(desk, plan, {"ce": 0.0, "kd": 0.003})
    assert len(desk.plan(study).teachers) == 8


def test_the_plan_file_holds_the_looks_and_others_stay_as_they_were(desk):
    content = plan_file(desk.planner(STUDY), desk.plan(STUDY))
    assert PlanFile.from_dict(content.to_dict()) == content
    assert content.looks == (4, 8, 12)
    fixed = study_of("ce", "kd", tune=None)
    assert "looks" not in plan_file(desk.planner(fixed), desk.plan(fixed)).to_dict()


@pytest.mark.parametrize(
    ("final", "fault"),
    [
        ({"seeds": "0-9", "looks": [5, 8]}, "last should have all seeds, of which there are 10"),
        ({"seeds": "0-9", "looks": [8, 5, 10]}, "should grow"),
        ({"seeds": "0-9", "looks": [5, 5, 10]}, "should grow"),
        ({"seeds": "0-9", "looks": [2, 10]}, "from 3 seeds or more"),
        ({"seeds": [3, 1, 2], "looks": [3]}, "with looks they should grow"),
        ({"seeds": "9-0"}, "final.seeds: write 0-4 or 0,2,7"),
        ({"seeds": "0-99999"}, "more than 1000 seeds"),
    ],
)
def test_looks_that_cannot_be_are_refused(final, fault):
    with pytest.raises(StudyError, match=fault):
        study_of("ce", "kd", tune=None, final=final)


def test_looks_cannot_be_changed_once_a_score_was_seen(desk):
    before = plan_file(desk.planner(STUDY), desk.plan(STUDY))
    more = study_of("ce", "kd", "dkd", tune=None, final={"seeds": "0-15", "looks": [4, 8, 16]})
    other = study_of("ce", "kd", tune=None, final={"seeds": "20-31", "looks": [4, 8, 12]})
    none = study_of("ce", "kd", tune=None)
    for study in (more, other, none):
        check_looks(study, before, desk.store)
    score(desk, desk.plan(STUDY))
    for study in (more, other, none):
        with pytest.raises(StudyError, match="judged with looks at 4, 8, 12 seeds"):
            check_looks(study, before, desk.store)
    check_looks(STUDY, before, desk.store)
    check_looks(more, None, desk.store)


def test_looks_cannot_be_added_once_a_score_was_seen(desk):
    """The report says that looks were fixed before the first run, and that must be true."""
    fixed = study_of("ce", "kd", "dkd", tune=None, final={"seeds": "0-3"})
    before = plan_file(desk.planner(fixed), desk.plan(fixed))
    check_looks(STUDY, before, desk.store)
    score(desk, desk.plan(fixed))
    with pytest.raises(StudyError, match="4, 8, 12, but the study has been judged without looks"):
        check_looks(STUDY, before, desk.store)
    more = study_of("ce", "kd", "dkd", tune=None, final={"seeds": "0-7"})
    check_looks(more, before, desk.store)  # no look is moved: the study has none


def test_a_rehearsal_with_too_few_seeds_for_a_verdict_spends_nothing(desk):
    for seeds in ("0-1", "0-2"):
        rehearsed = study_of("ce", "kd", "dkd", tune=None, final={"seeds": seeds})
        before = plan_file(desk.planner(rehearsed), desk.plan(rehearsed))
        score(desk, desk.plan(rehearsed))
        if seeds == "0-1":
            check_looks(STUDY, before, desk.store)
        else:
            with pytest.raises(StudyError, match="judged without looks"):
                check_looks(STUDY, before, desk.store)


def test_a_study_with_scores_keeps_its_first_seeds(desk):
    """Else seeds 4 to 7, which were seen, would be another first look after 0 to 3."""
    study = study_of("ce", "kd", tune=None, final={"seeds": "4-15", "looks": [4, 8, 12]})
    before = plan_file(desk.planner(study), desk.plan(study))
    earlier, later = (
        study_of("ce", "kd", tune=None, final={"seeds": seeds, "looks": [4, 8, 12]})
        for seeds in ("0-11", "4-8,20-26")
    )
    score(desk, desk.plan(study))
    with pytest.raises(StudyError, match=r"final\.seeds: they should begin with 4, 5, 6, 7, but"):
        check_looks(earlier, before, desk.store)
    check_looks(later, before, desk.store)  # seeds that no look has reached


def test_the_seeds_of_a_tuned_reference_count_too(desk):
    tune = {"trials": 2, "epochs": 2, "seeds": [100]}
    study = study_of("kd", "ce", final=FINAL, tune=tune, report={"reference": "kd"})
    for _ in range(3):  # the trials, the first look, the second
        plan = desk.plan(study)
        score(desk, plan, {"ce": 0.0, "kd": 0.003})
    assert len(rows(plan, "kd")["tuned"].runs) == 8
    before = plan_file(desk.planner(study), plan)
    changed = study_of(
        "kd", "ce", final=FINAL | {"seeds": "0-5,20-25"}, tune=tune, report={"reference": "kd"}
    )
    with pytest.raises(StudyError, match="begin with 0, 1, 2, 3, 4, 5, 6, 7, but"):
        check_looks(changed, before, desk.store)
