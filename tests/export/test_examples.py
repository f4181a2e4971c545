"""The examples of the page, run where kdbench cannot be imported."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kdbench.export.card import LOADING
from kdbench.export.formats import FORMATS
from kdbench.models import MODELS, build

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"
#: Stands before an example: a kdbench that fails when it is imported.
BLOCKED = "raise ImportError('kdbench is not installed')\n"


def examples() -> dict[str, str]:
    found = re.findall(r"### (\w+)\n\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return dict(found)


def run_without_kdbench(code: str, folder: Path, blocked: Path) -> str:
    (blocked / "kdbench.py").write_text(BLOCKED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(blocked), str(folder)])}
    check = (
        "try:\n    import kdbench\nexcept ImportError:\n    pass\n"
        "else:\n    raise SystemExit('kdbench is there')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", check + code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_format_has_an_example() -> None:
    assert examples() == LOADING
    assert LOADING.keys() == FORMATS.keys()


@pytest.mark.parametrize("format", FORMATS)
def test_the_example_needs_no_kdbench(
    exports: Callable[..., Path], tmp_path: Path, format: str
) -> None:
    printed = run_without_kdbench(examples()[format], exports(format), tmp_path)
    classes = ast.literal_eval(printed)
    assert len(classes) == 2
    assert set(classes) <= set(map(str, range(10)))


@pytest.mark.parametrize("name", sorted(MODELS.builtin))
def test_the_code_of_every_network_stands_alone(name: str) -> None:
    """It builds the same network, and imports torch and torchvision alone."""
    from kdbench.export.model_file import build_from, model_source

    shape = (3, 32, 32)
    source = model_source(name, shape, 7)
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else
                     [alias.name for alias in node.names])
    }  # fmt: skip
    assert "kdbench" not in imported
    expected = build(name, shape, 7).state_dict()
    found = build_from(source, name).state_dict()
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in expected.items()}


@pytest.mark.parametrize(
    "name",
    [
        "torchvision:mobilenet_v3_small",
        'torchvision:resnet18{"options":{"stem":"small"}}',
        'torchvision:mobilenet_v3_small{"options":{"reduced_tail":true}}',
    ],
)
def test_a_network_of_torchvision(name: str) -> None:
    from kdbench.export.model_file import build_from, model_source

    found = build_from(model_source(name, (3, 32, 32), 5), name).state_dict()
    expected = build(name, (3, 32, 32), 5).state_dict()
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in expected.items()}


def test_a_network_of_a_file(tmp_path: Path) -> None:
    """Also one that is called as the function that builds it."""
    from kdbench.export.model_file import build_from, model_source
    from kdbench.study.model_names import in_study

    (tmp_path / "nets.py").write_text(
        "from torch import nn\n\n\n"
        "def build_student(shape, classes, width=4):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, classes))\n"
    )
    options = {"model": "./nets.py:build_student", "options": {"width": 6}}
    name = in_study({**options, "layers": {"embedding": "1", "logits": "2"}}, tmp_path)
    network = build_from(model_source(name, (1, 8, 8), 10), "nets.py")
    assert network.state_dict()["1.weight"].shape == (6, 64)
