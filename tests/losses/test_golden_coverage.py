"""Every reference value is held against our code, or there is a reason why not."""

import importlib.util
from pathlib import Path

from support.golden import CASES

#: Cases that nothing computes, and why.
NOT_BUILT = {
    "gkl:alpha=1,beta=8,T=4,T2=1,gamma=0.5": "a later version of ikl, which is built",
}


def computed() -> set[str]:
    """The cases that the test files beside this one compute."""
    found = set()
    for path in Path(__file__).parent.glob("test_golden*.py"):
        if path != Path(__file__):
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec
            assert spec.loader
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            found |= module.COMPUTE.keys()
    return found


def test_no_reference_value_is_forgotten() -> None:
    assert CASES.keys() - computed() == NOT_BUILT.keys()
