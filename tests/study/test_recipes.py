"""Fields of a recipe that are younger than the first records: their ids, and what is refused."""

import json

import pytest
from support.desk import study_of

from kdbench.records.plan_file import PlanFile
from kdbench.records.spec import YOUNGER, RunSpec
from kdbench.report.writers.methods_section import _recipe
from kdbench.study.load import StudyError
from kdbench.study.plan_file import plan_file

#: A value of each field, and the words that a report has for it.
VALUES = {
    "label_smoothing": (0.1, "label smoothing 0.1"),
    "augment": ("randaugment", "images changed by randaugment"),
    "erasing": (0.25, "random erasing with probability 0.25"),
    "class_weights": ("balanced", "balanced class weights"),
    "mixup": (0.2, "mixup with alpha 0.2"),
    "cutmix": (1.0, "CutMix with alpha 1"),
    "ema": (0.99, "a running mean of the weights with decay 0.99"),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_field_is_in_the_ids_and_in_the_report_where_it_is_set(desk, name):
    value, words = VALUES[name]
    plain = desk.plan(study_of("ce", "kd"))
    planner = desk.planner(study_of("ce", "kd", recipe={name: value}))
    plan = planner.plan()
    assert not set(plain.nodes) & set(plan.nodes)
    for node in plan.nodes.values():
        assert getattr(node.spec.recipe, name) == value
        assert RunSpec.from_dict(json.loads(node.spec.canonical())) == node.spec
    written = plan_file(planner, plan).to_dict()
    read = PlanFile.from_dict(written)
    assert getattr(read.recipe, name) == value
    assert words in _recipe(read)


def test_at_their_defaults_no_field_is_written(desk):
    default = {name: YOUNGER[name] for name in VALUES}
    planners = [desk.planner(study_of("ce", "kd", recipe=recipe)) for recipe in ({}, default)]
    plans = [planner.plan() for planner in planners]
    assert plans[0].nodes.keys() == plans[1].nodes.keys()
    written = [plan_file(*pair).to_dict() for pair in zip(planners, plans, strict=True)]
    assert written[0] == written[1]
    assert not VALUES.keys() & written[0]["recipe"].keys()
    for node in plans[0].nodes.values():
        assert not VALUES.keys() & json.loads(node.spec.canonical())["recipe"].keys()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"label_smoothing": 1}, "recipe.label_smoothing"),
        ({"label_smoothing": -0.1}, "recipe.label_smoothing"),
        ({"label_smoothing": "much"}, "recipe.label_smoothing"),
        ({"label_smoothin": 0.1}, "did you mean 'label_smoothing'"),
        ({"ema": 1.0}, "recipe.ema"),
        ({"ema": -1}, "recipe.ema"),
        ({"ema": True}, "recipe.ema"),
        ({"augment": "randaugmnt"}, "did you mean 'randaugment'"),
        ({"augment": "flip"}, "recipe.augment: unknown way to change images 'flip'"),
        ({"erasing": 1.5}, "recipe.erasing"),
        ({"mixup": -0.1}, "recipe.mixup"),
        ({"cutmix": "yes"}, "recipe.cutmix"),
        ({"mixup": 0.2, "teacher_outputs": "cache"}, "changed at random"),
        ({"class_weights": "balance"}, "did you mean 'balanced'"),
        ({"erasing": 0.5, "teacher_outputs": "cache"}, "changed at random"),
        ({"augment": "autoaugment", "teacher_outputs": "cache"}, "use auto or live"),
    ],
)
def test_what_cannot_be_is_refused(recipe, message):
    with pytest.raises(StudyError) as error:
        study_of("ce", "kd", recipe=recipe)
    assert message in str(error.value)
