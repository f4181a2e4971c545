"""Every method of the registry: the checks that an outside package runs, and what only
kdbench's own methods owe."""

import inspect
from pathlib import Path

import pytest

import kdbench.methods
from kdbench.methods import BUILTIN, METHODS, Incompatible
from kdbench.models import MODELS, paper_of
from kdbench.testing import fakes
from kdbench.testing.losses import loss_checks
from kdbench.testing.methods import declaration_checks
from kdbench.testing.report import run_checks

KEYS = list(METHODS)


def test_labels_alone_come_first():
    assert next(iter(METHODS)) == "ce"


@pytest.mark.parametrize("key", BUILTIN)
def test_the_key_is_the_file(key):
    file = Path(inspect.getfile(BUILTIN[key]))
    assert file == Path(kdbench.methods.__file__).parent / f"{key.replace('-', '_')}.py"
    assert METHODS.origin(key) == "kdbench"


def test_every_file_of_a_method_is_registered():
    folder = Path(kdbench.methods.__file__).parent
    files = {p.stem for p in folder.glob("*.py") if "(Method):" in p.read_text(encoding="utf-8")}
    assert files == {key.replace("-", "_") for key in BUILTIN}


def test_a_key_belongs_to_one_paper():
    papers = [*(kind.paper for kind in METHODS.values()), *filter(None, map(paper_of, MODELS))]
    assert len({paper.key for paper in papers}) == len(set(papers))


@pytest.mark.parametrize("key", KEYS)
def test_declaration(key):
    run_checks(key, declaration_checks(key))


@pytest.mark.parametrize("key", KEYS)
def test_loss(key):
    run_checks(key, loss_checks(key))


@pytest.mark.parametrize("key", KEYS)
def test_only_flow_matrices_and_class_maps_refuse_a_teacher_of_other_sizes(key):
    method = METHODS[key]()
    refused = []
    for teacher in fakes.TEACHERS:
        try:
            fakes.helpers(method, fakes.shapes(method, teacher))
        except Incompatible:
            refused.append(teacher)
    assert bool(refused) == (key in {"fsp", "cat-kd", "sdd-kd", "sdd-dkd"})
