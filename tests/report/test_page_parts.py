"""The parts of a report's page: formulas, anchors, pairs of methods, classes, papers."""

import itertools
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kdbench.records.method_text import builtin_texts
from kdbench.report.data.report_data import load
from kdbench.report.figures.render import Drawn
from kdbench.report.page import figures_with
from kdbench.report.page.classes import class_table
from kdbench.report.page.details import row_details
from kdbench.report.page.formula import to_mathml
from kdbench.report.page.method import method_panel, paper_link
from kdbench.report.page.pairs import pair_numbers, pairs_of
from kdbench.report.write import leaderboard_of

REPORTS = Path(__file__).parents[2] / "reports"


@pytest.fixture(scope="module")
def data():
    return load(REPORTS / "digits-few-labels")


@pytest.fixture(scope="module")
def board(data):
    return leaderboard_of(data)


# -- formulas


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("z_s", "<msub><mi>z</mi><mi>s</mi></msub>"),
        ("d_ij", "<msub><mi>d</mi><mi>ij</mi></msub>"),
        ("alpha", "<mi>α</mi>"),
        ("T**2", "<msup><mrow><mi>T</mi></mrow><mrow><mn>2</mn></mrow></msup>"),
        ("C**(1 - g)", '<mn>1</mn><mo form="infix">−</mo><mi>g</mi></mrow></msup>'),
        ("p_t[k]**g", "<mo>]</mo></mrow><mrow><mi>g</mi></mrow></msup>"),
        ("distance_weight", "<mi>distance_weight</mi>"),
        ("a <b>", "<mo>&lt;</mo><mi>b</mi><mo>&gt;</mo>"),
    ],
)  # fmt: skip
def test_a_formula_in_mathml(text, parts):
    assert parts in to_mathml(text)


def test_every_formula_is_whole_and_loses_no_symbol():
    for key, text in builtin_texts().items():
        markup = to_mathml(text.formula).replace("<br>", "<br/>")
        tree = ET.fromstring(f"<p>{markup}</p>")
        words = "".join(tree.itertext())
        for char in set(text.formula) - set(" \n*-|<>=!_()[]{}"):
            if not char.isalpha():
                assert char in words, (key, char)
        assert len(tree.findall(".//math")) >= len(text.formula.splitlines())


def test_an_exponent_whose_bracket_is_on_another_line_is_kept():
    assert "".join(ET.fromstring(f"<p>{to_mathml('x) ** 2')}</p>").itertext()) == "x)2"
    assert "".join(ET.fromstring(f"<p>{to_mathml('x ** (2')}</p>").itertext()) == "x(2"


# -- panels


def test_anchors_are_the_labels_and_unique(board, data):
    keys = [row.key for row in row_details(board, data)]
    assert {"ce", "rkd-tuned", "rkd-default", "teacher"} <= set(keys)
    assert len(set(keys)) == len(keys)
    twice = board.table.assign(method=["a b", "a_b", "a-b", *board.table["method"][3:]], row="only")
    keys = [row.key for row in row_details(replace(board, table=twice), data)]
    assert keys[:3] == ["a-b", "a_b", "a-b-2"]


def test_a_panel_says_what_the_method_is(board, data):
    row = next(r for r in row_details(board, data) if r.key == "rkd-tuned")
    assert (row.title, row.subtitle) == ("Relational KD", "rkd · tuned")
    assert row.method.summary.startswith("The student learns the distances")
    assert "<math>" in row.method.formula
    assert row.method.paper == "Relational Knowledge Distillation. CVPR, 2019"
    assert row.method.link == "https://arxiv.org/abs/1904.05068"


@pytest.mark.parametrize(
    ("paper", "link"),
    [
        ({"url": "https://a.example/b", "venue": "X", "title": "T"}, "https://a.example/b"),
        ({"arxiv": "2401.00001", "venue": "X", "title": "T"}, "https://arxiv.org/abs/2401.00001"),
        ({"venue": "arXiv:1503.02531 (x)", "title": "T"}, "https://arxiv.org/abs/1503.02531"),
        ({"venue": "CVPR", "title": "{VkD}: a & b"}, "https://scholar.google.com/scholar?q=VkD%3A+a+%26+b"),
        ({"venue": "V", "title": '"><script>'}, "https://scholar.google.com/scholar?q=%22%3E%3Cscript%3E"),
        ({"venue": "CVPR", "title": "Relational Knowledge Distillation"}, "https://arxiv.org/abs/1904.05068"),
    ],
)  # fmt: skip
def test_where_a_paper_is_found(paper, link):
    """The last is a builtin method's paper; the others have only its key."""
    assert paper_link("park2019relational", paper) == link


def test_another_key_is_another_paper():
    paper = {"venue": "CVPR", "title": "Relational Knowledge Distillation"}
    assert paper_link("mine2019", paper).startswith("https://scholar.google.com/")


def test_the_page_of_an_old_report_leads_to_its_papers():
    """Its plan has neither numbers on arXiv nor texts of methods."""
    plan = load(REPORTS / "cifar10").plan
    old = replace(
        plan,
        methods={},
        references={
            key: {name: value for name, value in paper.items() if name != "arxiv"}
            for key, paper in plan.references.items()
        },
    )
    rows = {row.label: row.cite for row in old.rows}
    assert rows
    for label, cite in rows.items():
        assert "scholar" not in method_panel(old, label, cite).link, label


def test_a_row_is_led_to_the_figures_that_name_its_method():
    drawn = Drawn(
        {
            "forest": "<text>kd</text><text>a &lt; b</text>",
            "curves": "<text>kd (reference)</text>",
            "cost": "<text>kd-plain</text>",
        },
        {}, {}, {},
    )  # fmt: skip
    assert figures_with("kd", drawn) == ["forest", "curves"]
    assert figures_with("a < b", drawn) == ["forest"]


# -- pairs


def test_the_matrix_of_pairs_is_antisymmetric_and_agrees_with_the_set_of_the_best(board, data):
    pairs = pairs_of(board, data)
    size = len(pairs.labels)
    assert pairs.comparisons == size * (size - 1) / 2
    opposite = {"better": "worse", "worse": "better"}
    for a, b in itertools.combinations(range(size), 2):
        one, other = pairs.cells[a][b], pairs.cells[b][a]
        assert float(one.text.strip("*=")) == -float(other.text.strip("*="))
        assert opposite.get(one.kind, one.kind) == other.kind
    assert all(pairs.cells[k][k] is None for k in range(size))
    # At one number of seeds the correction is that of the set of the best.
    first = pairs.labels.index(board.best.best)
    not_told_apart = {
        label
        for k, label in enumerate(pairs.labels)
        if k == first or pairs.cells[first][k].kind != "better"
    }
    assert not_told_apart >= board.best.members


def test_the_numbers_of_two_rows_are_those_of_the_runs(board, data):
    names = [row.name for row in row_details(board, data)]
    numbers = pair_numbers(board, data, names)
    a, b = (numbers["rows"][k] for k in numbers["first"])
    assert b["name"] == "ce"
    shared = sorted(set(a["scores"]) & set(b["scores"]))
    differences = [a["scores"][s] - b["scores"][s] for s in shared]
    row = board.table.iloc[0]
    assert np.mean(differences) == pytest.approx(row["difference"], abs=1e-3)
    half = numbers["t"][len(shared)] * np.std(differences, ddof=1) / len(shared) ** 0.5
    assert np.mean(differences) - half == pytest.approx(row["difference_low"], abs=1e-2)


# -- classes


def test_the_recall_of_classes_averages_to_the_accuracy(board, data):
    table = class_table(board, data)
    assert table.classes == tuple(map(str, data.plan.data.classes))
    truth = data.confusions[data.confusions["against"] == "truth"]
    row = truth[(truth["label"] == "ce") & (truth["row"] == "only")]
    images = row.groupby("expected")["count"].sum().to_numpy()
    recall = table.recall[:, table.labels.index("ce")]
    accuracy = board.table.loc[board.table["method"] == "ce", "accuracy"].iloc[0]
    assert np.average(recall, weights=images) == pytest.approx(accuracy, abs=0.01)
    best = [shade for _, cells in table.rows for _, shade in cells]
    assert min(best) == 0
    assert max(best) == 1
