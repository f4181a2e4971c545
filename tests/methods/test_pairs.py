"""Every method at its defaults on pairs of the CIFAR zoo: a few steps do not diverge."""

import pytest
from support.pairs import PAIRS, diverges, train

from kdbench.methods import METHODS, Incompatible
from kdbench.study.load import load_study

KEYS = list(METHODS)
#: The methods of the shipped study of the first pair, which takes them at these defaults.
STUDIED = {entry.method for entry in load_study("cifar100-resnet32x4-resnet8x4").methods}


def pair_of(key):
    """The pair of the study that has the method; the others take turns."""
    return PAIRS[0] if key in STUDIED else PAIRS[KEYS.index(key) % len(PAIRS)]


def check(key, teacher, student, **setting):
    try:
        rows = train(key, teacher, student, **setting)
    except Incompatible:
        assert key == "fsp", f"{key} refuses {teacher} -> {student}"
        return
    assert not diverges(rows), rows


@pytest.mark.parametrize("key", KEYS)
def test_one_pair_a_method(key):
    check(key, *pair_of(key), steps=3)


@pytest.mark.long
@pytest.mark.parametrize("pair", PAIRS, ids="->".join)
@pytest.mark.parametrize("key", KEYS)
def test_every_pair(key, pair):
    check(key, *pair, side=32, steps=10)


def test_the_first_phase_of_fsp_learns():
    """With RepDistiller's beta of 50, which it leaves out of this phase, it diverges."""
    pair, whole = ("resnet56", "resnet20"), {"init_share": 0.9}
    assert not diverges(train(METHODS["fsp"](**whole), *pair))
    assert diverges(train(METHODS["fsp"](beta=50.0, **whole), *pair))


def test_hint_learns_from_a_deeper_network():
    """With beta 100 and a bare convolution as the regressor it diverges."""
    pair = ("resnet20", "resnet8")
    assert not diverges(train("hint", *pair))
    assert diverges(train(METHODS["hint"](regressor="conv"), *pair))
