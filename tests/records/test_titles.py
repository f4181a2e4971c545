"""The display names of methods: in the registry, in plans, and for plans that have none."""

import json
from dataclasses import replace

import pytest

from kdbench.methods import BUILTIN, METHODS, Method
from kdbench.methods.ce import CE
from kdbench.records.method_text import MethodText, builtin_texts
from kdbench.records.plan_file import PlanData, PlanFile, PlanRow
from kdbench.records.titles import method_text, title_of
from kdbench.study import method_texts
from kdbench.testing.methods import registered

ROWS = (
    PlanRow("rkd", "only", "rkd"),
    PlanRow("rkd-25", "pinned", "rkd"),
    PlanRow("mine", "only", "mine"),
    PlanRow("fresh", "only", "fresh"),
)
PLAN = PlanFile(
    "small",
    "last",
    data=PlanData("digits"),
    rows=ROWS,
    methods={"mine": MethodText("My KD", "The student learns.", "L = 0")},
)


def test_every_builtin_method_has_a_short_title_of_its_own():
    titles = [kind.title for kind in BUILTIN.values()]
    assert len(set(titles)) == len(titles)
    for title in titles:
        assert 3 <= len(title) <= 32
        assert title[0].isupper()
        assert not set("$%&_^~\\#{}") & set(title)


def test_the_table_of_texts_is_the_registry():
    texts = builtin_texts()
    assert texts == {key: method_texts.method_text(key) for key in BUILTIN}, "run `make docs`"
    for text in texts.values():
        assert text.summary.startswith("The student")
        assert text.summary.endswith(".")
        assert text.formula
        assert not text.formula.startswith(" ")


def test_a_plugin_without_title_and_formula_goes_by_its_key():
    class Plain(CE):
        """Another."""

        title = ""

    with registered(Plain) as key:
        assert method_texts.method_text(key) == MethodText(key, "Another.")
    assert Method.title == ""


@pytest.mark.parametrize(
    ("label", "title"),
    [
        ("rkd", "Relational KD"),
        ("rkd-25", "Relational KD (rkd-25)"),
        ("mine", "My KD"),
        ("fresh", "fresh"),
        ("teacher", "teacher"),
    ],
)
def test_the_title_of_a_row(label, title):
    assert title_of(PLAN, label) == title


def test_a_label_of_results_from_elsewhere_is_no_method_of_ours():
    assert title_of(replace(PLAN, data=None), "rkd") == "rkd"
    assert method_text(replace(PLAN, data=None), "rkd") is None


def test_a_plan_keeps_the_texts_of_its_methods():
    raw = json.loads(json.dumps(PLAN.to_dict()))
    assert PlanFile.from_dict(raw) == PLAN
    assert "methods" not in replace(PLAN, methods={}).to_dict()
    assert set(METHODS) >= set(BUILTIN)
