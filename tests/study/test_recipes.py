"""Fields of a recipe that are younger than the first records: their ids, and what is refused."""

import dataclasses
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


def test_fields_are_in_the_ids_and_in_the_report_where_they_are_set(desk):
    recipe = {name: value for name, (value, _) in VALUES.items()}
    planner = desk.planner(study_of("ce", "kd", recipe=recipe))
    plan = planner.plan()
    for node in plan.nodes.values():
        spec = node.spec
        assert RunSpec.from_dict(json.loads(spec.canonical())) == spec
        ids = {spec.id}
        for name, value in recipe.items():
            assert getattr(spec.recipe, name) == value
            without = dataclasses.replace(spec.recipe, **{name: YOUNGER[name]})
            ids.add(dataclasses.replace(spec, recipe=without).id)
        assert len(ids) == 1 + len(VALUES)
    read = PlanFile.from_dict(plan_file(planner, plan).to_dict())
    assert read.recipe == planner.study.recipe.resolve()
    for _, words in VALUES.values():
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
