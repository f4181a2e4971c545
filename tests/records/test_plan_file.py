import json

import pytest

from kdbench.records.plan_file import (
    CorruptPlan,
    PlanData,
    PlanFile,
    PlannedRun,
    PlannedTrial,
    PlanRow,
    PlanTune,
    SearchRange,
)
from kdbench.records.spec import Recipe

RANGES = {"alpha": SearchRange(0.0, 1.0, True)}
TRIAL = PlannedTrial(0, ("a",), {"alpha": 0.5}, 0.75, 0.4)
PLAN = PlanFile(
    study="small",
    selection="last",
    question="Which one?",
    hash="0123",
    data=PlanData("digits", "c" * 12, 200, "none", "fit", ("0", "1"), 1200, (1, 8, 8)),
    models={"student": "digits-cnn-small", "teacher": "digits-cnn"},
    recipe=Recipe(2, 32, "sgd", 0.1, 0.9, 0.0, "step", (0.5, 0.75), 0.1, "fp32", "auto"),
    reference="kd",
    tune=PlanTune(1, 1, (100,), "random"),
    teachers={"0": "t"},
    complete=True,
    rows=(
        PlanRow("kd", "default", "kd", "hinton2015distilling", {"alpha": 0.9}, (), {"0": "b"}),
        PlanRow("kd", "tuned", "kd", None, {}, ("alpha",), {}, (TRIAL,), 0, ranges=RANGES),
    ),
    listing={"a": PlannedRun("kd trial 0", "trial", "kd", "kd", "kd", 100, 0, "t")},
)


def test_a_plan_comes_back_from_its_file(tmp_path):
    PLAN.dump(tmp_path / "small.json")
    assert PlanFile.load(tmp_path / "small.json") == PLAN
    assert PlanFile.load(tmp_path / "other.json") is None


def test_a_plan_without_runs():
    slim = PLAN.to_dict(runs=False)
    assert "listing" not in slim
    assert all({"trials", "ranges"}.isdisjoint(row) for row in slim["rows"])
    assert PlanFile.from_dict(json.loads(json.dumps(slim))) == PLAN.without_runs()


@pytest.mark.parametrize(
    "text",
    ['{"listing": [', "[]", "{}", '{"study": "a", "selection": "last", "listing": []}',
     '{"study": "a", "selection": "last", "rows": [{"label": "kd", "knobs": {}}]}'],
)  # fmt: skip
def test_a_damaged_plan_says_so(tmp_path, text):
    path = tmp_path / "small.json"
    path.write_text(text)
    with pytest.raises(CorruptPlan, match="`kdbench study small` writes it anew"):
        PlanFile.load(path)
