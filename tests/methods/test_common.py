"""Regressors, layer lookup and plug-ins."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kdbench
from kdbench import methods
from kdbench.methods import BUILTIN, METHODS
from kdbench.methods.base import Incompatible, Method
from kdbench.methods.common import common, stages, weighted
from kdbench.methods.regressor import regressor
from kdbench.methods.types import Shapes
from kdbench.registry import Registry

side = st.integers(1, 12)


@settings(max_examples=60, deadline=None)
@given(source=side, target=side, wide=st.booleans())
def test_regressor_gives_the_shape_asked_for(source, target, wide):
    ratio = 2 if wide else 1
    layer = regressor((3, source, source * ratio), (5, target, target * ratio))
    out = layer(torch.randn(2, 3, source, source * ratio))
    assert out.shape == (2, 5, target, target * ratio)


@settings(max_examples=60, deadline=None)
@given(target=side, ratio=st.integers(1, 6))
def test_regressor_skips_no_pixel(target, ratio):
    """Every pixel of the student's map can move some pixel of the prediction."""
    layer = regressor((1, target * ratio, target * ratio), (1, target, target))
    torch.nn.init.ones_(layer.weight)
    image = torch.zeros(1, 1, target * ratio, target * ratio, requires_grad=True)
    layer(image).sum().backward()
    assert (image.grad > 0).all()


def test_regressor_of_equal_sizes_is_the_tutorials():
    layer = regressor((16, 8, 8), (32, 8, 8))
    assert (layer.kernel_size, layer.stride, layer.padding) == ((3, 3), (1, 1), (1, 1))
    assert layer.weight.shape == (32, 16, 3, 3)


def test_regressor_of_vectors_is_linear():
    assert regressor((7,), (9,))(torch.randn(2, 7)).shape == (2, 9)


def test_regressor_refuses_what_it_cannot_map():
    with pytest.raises(Incompatible, match="cannot map a feature"):
        regressor((7,), (9, 4, 4))
    with pytest.raises(Incompatible, match="one side shrinks"):
        regressor((3, 8, 4), (3, 4, 8))


def test_common_names_are_sorted_and_in_all():
    a = {"stage2": 0, "stage1": 0, "stage3": 0, "stage1_pre": 0, "embedding": 0}
    b = {"stage1": 0, "stage2": 0, "stage2_pre": 0, "stage1_pre": 0}
    assert common((a, b), "stage?") == ["stage1", "stage2"]
    assert common((a, b), "stage?_pre") == ["stage1_pre"]


def test_stages_say_what_is_missing():
    sizes = Shapes(5, 10, {"student": {"stage1": (1, 2, 2)}, "teacher": {}})
    with pytest.raises(
        Incompatible, match=r"1 or more layers stage\? in student and teacher; there are"
    ):
        stages(sizes, ["student", "teacher"], "stage?")


def test_weights_and_terms_have_to_agree():
    one = torch.tensor(1.0)
    terms = weighted({"task": 2.0, "peer.task": 3.0}, task=one, peer__task=one)
    assert terms == {"task": 2, "peer.task": 3}
    with pytest.raises(KeyError, match="do not match"):
        weighted({"task": 2.0, "soft": 3.0}, task=one)


@dataclass(frozen=True)
class Plugin(Method):
    """A method of another package."""


def entry(name, load=lambda: Plugin, dist=("other-kd", "2.1")):
    return SimpleNamespace(
        name=name,
        value="other_kd:Plugin",
        load=load,
        group="kdbench.methods",
        dist=SimpleNamespace(name=dist[0], version=dist[1]),
    )


def test_a_plugin_joins_the_table():
    table = Registry("method", "kdbench.methods", BUILTIN, methods._check, [entry("other")])
    assert "other" in table
    assert list(table) == [*METHODS, "other"]
    assert table["other"] is Plugin
    assert table.origin("other") == "other-kd==2.1"
    assert table.origin("ce") == "kdbench"
    with pytest.raises(KeyError):
        table["nobody"]


def test_a_plugin_is_imported_when_it_is_looked_up_and_once():
    loads = []
    table = Registry(
        "method",
        "kdbench.methods",
        BUILTIN,
        methods._check,
        [entry("other", lambda: loads.append(1) or Plugin)],
    )
    assert "other" in table
    assert table.keys() >= {"ce", "other"}
    assert not loads
    assert table["other"] is table["other"]
    assert loads == [1]


def test_a_clash_names_both():
    with pytest.raises(ValueError, match=r"'kd' is taken by kdbench itself and by other-kd==2\.1"):
        Registry("method", "kdbench.methods", BUILTIN, methods._check, [entry("kd")])
    with pytest.raises(ValueError, match=r"other-kd==2\.1.*third==1"):
        Registry(
            "method",
            "kdbench.methods",
            BUILTIN,
            methods._check,
            [entry("x", dist=("third", "1")), entry("x")],
        )


def test_a_plugin_that_does_not_import_names_its_distribution():
    def broken():
        raise ModuleNotFoundError("No module named 'gone'")

    table = Registry("method", "kdbench.methods", BUILTIN, methods._check, [entry("other", broken)])
    with pytest.raises(ImportError, match=r"other of other-kd==2\.1 .*No module named 'gone'"):
        table["other"]


def test_a_plugin_that_is_no_method_names_its_distribution():
    table = Registry(
        "method", "kdbench.methods", BUILTIN, methods._check, [entry("other", lambda: 3)]
    )
    with pytest.raises(TypeError, match=r"other-kd==2\.1 .*is no subclass"):
        table["other"]


def test_an_installed_plugin_is_found_whichever_is_imported_first(tmp_path):
    """A package in a folder of its own, with the metadata an installer would write."""
    (tmp_path / "other_kd.py").write_text(
        "from dataclasses import dataclass\n"
        "from kdbench.methods.ce import CE\n"
        "@dataclass(frozen=True)\n"
        "class Other(CE):\n"
        "    'Another.'\n"
    )
    info = tmp_path / "other_kd-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-kd\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text("[kdbench.methods]\nother = other_kd:Other\n")
    root = Path(kdbench.__file__).parent.parent
    path = os.pathsep.join([str(tmp_path), str(root)])
    for first in ("import other_kd", "import kdbench.methods"):
        code = (
            f"{first}\nfrom kdbench.methods import METHODS\n"
            "print(METHODS['other'].__name__, METHODS.origin('other'))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.split() == ["Other", "other-kd==2.1"], done.stderr
