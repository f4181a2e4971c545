"""A root in which a small study has run, for exports of its students."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.inline_study import InlineStudy

from kdbench.data import TrainingData
from kdbench.export.write import Request, export_student

STUDY = """
name: small
question: Does a teacher help?
data:    {name: digits, validation: 200}
student: {model: digits-cnn-small}
teacher: {model: digits-cnn}
recipe:  {epochs: 1, batch: 128, lr: 5e-3}
methods: [ce, kd, simkd]
tune:    {trials: 1, epochs: 1, seeds: [100]}
final:   {seeds: [0, 1, 2]}
report:  {reference: ce}
"""


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory, digits: TrainingData) -> Path:
    """The root of the study `small`, with its finished runs."""
    folder = tmp_path_factory.mktemp("export") / "root"
    InlineStudy(folder, digits, STUDY).run()
    return folder


@pytest.fixture
def request_for(root: Path, tmp_path: Path) -> Iterator[Callable[..., Request]]:
    """Makes a request for an export into a new folder; after the test nothing is beside it."""

    def make(method: str = "kd", format: str = "safetensors", **others: object) -> Request:
        return Request("small", method, format, tmp_path / "out", root, **others)  # type: ignore[arg-type]

    yield make
    assert {path.name for path in tmp_path.iterdir()} <= {"out"}


@pytest.fixture(scope="session")
def exports(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Gives the folder of an export of `kd`, which is made once and only read."""
    home, made = tmp_path_factory.mktemp("exports"), {}

    def export(format: str, quantize: str | None = None) -> Path:
        key = f"{format}-{quantize}"
        if key not in made:
            request = Request("small", "kd", format, home / key, root, quantize=quantize)
            made[key] = export_student(request)
        return home / key

    return export
