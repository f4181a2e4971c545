"""A study with few labels: its plan, its ids, and what it refuses."""

import json

import pytest
from support.desk import kinds, source, study_of

from kdbench.methods import METHODS
from kdbench.records.plan_file import PlanFile
from kdbench.report.text import captions
from kdbench.study.load import StudyError
from kdbench.study.plan_file import plan_file
from kdbench.study.planner import Planner

FEW = {"labelled": 30, "unlabelled": {"ratio": 3}}
ALL_LABELS = (0, 0)


def labels_of(node):
    return node.spec.data.labelled, node.spec.data.unlabelled


def test_every_run_has_the_study_s_labels(desk):
    study = study_of("ce", "kd", "ban", "ensemble", data=FEW)
    nodes = desk.plan(study).nodes.values()
    assert {labels_of(node) for node in nodes} == {(30, 3)}


def test_a_teacher_may_have_all_labels(desk):
    takd = {"method": "takd", "assistant": {"model": "digits-cnn-medium"}}
    study = study_of(
        "ce", "kd", "ban", "ensemble", takd, data=FEW, teacher={"labelled": "all"}, tune=None
    )
    plan = desk.plan(study)
    for label in ("ce", "kd", "ban", "ensemble", "takd"):
        for node in kinds(plan, "final", label):
            assert labels_of(node) == (30, 3)
    assert {labels_of(node) for node in kinds(plan, "teacher")} == {ALL_LABELS}
    # More teachers of an ensemble are teachers; earlier generations and assistants are not.
    assert {labels_of(node) for node in kinds(plan, "stage", "ensemble")} == {ALL_LABELS}
    assert {labels_of(node) for node in kinds(plan, "stage", "ban")} == {(30, 3)}
    (final, *_) = kinds(plan, "final", "takd")
    assistant = source(plan, final)
    assert assistant.listing.kind == "stage"
    assert labels_of(assistant) == (30, 3)
    assert labels_of(source(plan, assistant)) == ALL_LABELS


def test_a_share_counts_what_validation_leaves(desk):
    study = study_of("ce", "kd", data={"labelled": 0.05})
    nodes = desk.plan(study).nodes.values()
    assert {labels_of(node) for node in nodes} == {(50, 4)}


def test_without_the_key_ids_and_digests_are_as_they_were(desk):
    planner = desk.planner(study_of("ce", "kd"))
    plan = planner.plan()
    for node in plan.nodes.values():
        assert "labelled" not in node.spec.canonical()
    assert "labelled" not in json.dumps(plan_file(planner, plan).to_dict())


def test_other_labels_are_other_runs(desk):
    ids = [
        set(desk.plan(study_of("ce", "kd", data=data)).nodes)
        for data in ({}, FEW, {**FEW, "labelled": 31}, {**FEW, "unlabelled": {"ratio": 4}})
    ]
    assert not set.intersection(*ids)
    assert sum(map(len, ids)) == len(set.union(*ids))


@pytest.mark.parametrize(
    ("data", "teacher", "message"),
    [
        ({"labelled": 5}, {}, "data.labelled: cannot keep the labels of 5 of 1000 images"),
        ({"labelled": 0.999}, {}, "it takes 10 to 990"),
        ({"labelled": 0}, {}, "data.labelled"),
        ({"labelled": 1.5}, {}, "data.labelled"),
        ({"labelled": "all"}, {}, "data.labelled"),
        ({"unlabelled": {"ratio": 2}}, {}, "add data.labelled"),
        ({}, {"labelled": "all"}, "teacher.labelled: every image has its label; leave it out"),
        ({"labelled": 30}, {"labelled": 100}, "teacher.labelled"),
        ({"labelled": 30, "unlabelled": {"share": 2}}, {}, "unknown key 'share'"),
        ({"labelled": 30, "unlabelled": {"ratio": 0}}, {}, "data.unlabelled.ratio"),
    ],
)
def test_what_cannot_be_is_refused(desk, data, teacher, message):
    with pytest.raises(StudyError) as error:
        desk.plan(study_of("ce", "kd", data=data, teacher=teacher))
    assert message in str(error.value)


def test_the_report_says_who_had_which_labels(desk):
    study = study_of("ce", "kd", "dkd", data=FEW, teacher={"labelled": "all"}, tune=None)
    planner: Planner = desk.planner(study)
    plan = PlanFile.from_dict(plan_file(planner, planner.plan()).to_dict())
    text = captions._labels(plan)
    assert "Of the training images 30 keep their labels" in text
    assert "the teacher has all labels" in text
    assert "a step has 3 without" in text
    assert "From the labelled images alone learn ce, dkd." in text


def test_every_method_with_a_teacher_says_what_it_does_without_labels():
    """Those that need the label of each example learn from the labelled ones alone."""
    teachers = {key for key in METHODS if "teacher" in METHODS[key]().networks()}
    alone = {key for key in teachers if not METHODS[key].unlabelled}
    assert alone == {
        "crd", "dkd", "jacobian", "nd", "nkd", "ofa", "rld", "sdd-dkd", "sdd-kd", "wkd-l", "wsld",
    }  # fmt: skip
