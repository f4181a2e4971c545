"""Where papers are found: in the registry, and for plans that do not say it."""

from collections import Counter
from dataclasses import asdict, replace
from importlib import resources

import pytest

from kdbench import models, records
from kdbench.data import DATASETS
from kdbench.methods import BUILTIN
from kdbench.models import MODELS
from kdbench.records.papers import TABLE, builtin_address
from kdbench.registry import Paper
from kdbench.study.method_texts import paper_table
from kdbench.study.references import SMYTH

PAPER = Paper("a2024", "Rossi, Ada", "T", "V", 2024)
#: Papers of methods, models, data sets and the test of differences; several come more than once.
PAPERS = [
    paper
    for paper in (
        *(kind.paper for kind in BUILTIN.values()),
        *(models.paper_of(name) for name in MODELS.builtin),
        *(dataset.paper for dataset in DATASETS.builtin.values()),
        SMYTH,
    )
    if paper
]


def test_a_paper_is_the_same_wherever_it_stands():
    by_key = {paper.key: asdict(paper) for paper in PAPERS}
    assert [asdict(paper) for paper in PAPERS] == [by_key[paper.key] for paper in PAPERS]


def test_no_two_papers_share_an_address():
    addresses = Counter(paper.address for paper in {p.key: p for p in PAPERS}.values())
    assert addresses.pop(None) <= 1  # Lee's has none that lasts
    assert set(addresses.values()) == {1}


def test_a_number_that_the_venue_names_is_the_papers():
    named = [paper for paper in PAPERS if "arXiv:" in paper.venue]
    assert named
    for paper in named:
        assert paper.arxiv
        assert f"arXiv:{paper.arxiv}" in paper.venue


def test_the_table_is_the_registry():
    table = resources.files(records).joinpath(TABLE).read_text(encoding="utf-8")
    assert table == paper_table(), "run `make methods`"


def test_a_plan_that_says_no_address_has_the_builtin_methods():
    for kind in BUILTIN.values():
        assert builtin_address(kind.paper.key, kind.paper.title) == kind.paper.address


@pytest.mark.parametrize(
    ("key", "title"),
    [
        ("park2019relational", "Another paper with that key"),
        ("mine2024", "Relational Knowledge Distillation"),
        ("lee2013pseudo", "T"),
    ],
)
def test_no_other_paper_has_it(key, title):
    assert builtin_address(key, title) is None


@pytest.mark.parametrize(
    "number",
    ["", "1910.106", "1910.1069999", "1913.10699", "1910.10699v2", "arXiv:1910.10699",
     "1910.10699\n", "cs/0112017", "1910.10699}, x={", "\u0661910.10699"],
)  # fmt: skip
def test_what_is_no_number_on_arxiv(number):
    with pytest.raises(ValueError, match=r"a2024: .* is no arXiv number, as in 1910\.10699"):
        replace(PAPER, arxiv=number)


def test_an_address_is_given_once():
    url = "https://example.org/a"
    assert PAPER.address is None
    assert replace(PAPER, url=url).address == url
    assert replace(PAPER, arxiv="1312.6184").address == "https://arxiv.org/abs/1312.6184"
    with pytest.raises(ValueError, match="both `url` and `arxiv`"):
        replace(PAPER, url=url, arxiv="1910.10699")


def test_a_plugin_may_cite_a_builtin_methods_paper_without_its_number():
    assert replace(PAPER, arxiv="1910.10699") == PAPER
