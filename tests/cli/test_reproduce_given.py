"""A cell trained again whose networks or method are not kdbench's or the study's own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.command_line import kdbench, output, refused

from kdbench import models
from kdbench.execution.engines import ENGINES
from kdbench.models import source_files
from kdbench.models.names import ModelName
from kdbench.records.store import Store
from kdbench.report.data.collect import data_from_records

NETWORKS = """
from torch import nn

def net(image_shape, classes, width=4):
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, classes)
    )
"""
STUDY = """
name: own
data:    {name: digits, validation: 200}
student: {model: net.py:net}
teacher: TEACHER
recipe:  {epochs: 1, batch: 256, lr: 1.0e-3}
methods: [kd]
final:   {seeds: [0, 1, 2]}
report:  {reference: kd}
"""
TEACHERS = {
    "trained": "{model: net.py:net, options: {width: 8}}",
    "given": "{model: net.py:net, options: {width: 8}, weights: teacher.pth}",
}


def write_data(root: Path, study: str, folder: Path) -> None:
    """Write what a report holds of a study that ran in `root`."""
    folder.mkdir(parents=True)
    for name, content in data_from_records(Store(root), study).files().items():
        (folder / name).write_bytes(content)


@pytest.fixture(params=TEACHERS)
def own(request: pytest.FixtureRequest, tmp_path: Path, inside: None) -> Path:
    """A folder with `own.yaml`, whose networks are those of a file, its root and its report."""
    (tmp_path / "net.py").write_text(NETWORKS)
    checksum = source_files.read_source(tmp_path / "net.py")
    name = str(ModelName("net.py", "net", {"width": 8}, checksum=checksum))
    torch.save(models.build(name, (1, 8, 8), 10).state_dict(), tmp_path / "teacher.pth")
    (tmp_path / "own.yaml").write_text(STUDY.replace("TEACHER", TEACHERS[request.param]))
    output("study", tmp_path / "own.yaml", "--root", tmp_path / "root")
    write_data(tmp_path / "root", "own", tmp_path / "report")
    return tmp_path


@pytest.mark.parametrize("root", ["root", "clone"])
def test_networks_of_a_file_are_found_by_workers(
    own: Path, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def engine(*settings: Any) -> Any:
        """A worker that has read no file yet, as one of another process."""
        for known in ("_SOURCES", "_MODULES"):
            monkeypatch.setattr(source_files, known, {})
        monkeypatch.setattr(source_files, "_FOLDERS", [])
        return ENGINES["inline"](*settings)

    monkeypatch.setitem(ENGINES, "local", engine)
    words = ("kd", "--seed", 1, "--root", own / root, "--report", own / "report")
    text = " ".join(kdbench("reproduce", own / "own.yaml", *words).output.split())
    assert "published for this seed" in text, text
    assert "not the same" not in text


def test_a_row_that_was_added_says_so_and_what_to_do(
    tiny_root: Path, tmp_path: Path, inside: None
) -> None:
    report, base = tmp_path / "report", tiny_root / "reports" / "tiny"
    file = tmp_path / "tiny.yaml"
    file.write_text((tiny_root / "tiny.yaml").read_text())
    output("study", file, "--root", tmp_path, "--add", "mse", "--with", base)
    write_data(tmp_path, "tiny-mse", report)
    words = ("reproduce", file, "mse", "--seed", 1, "--root", tmp_path, "--report", report)
    text = refused(*words)
    assert "'mse' was run beside the report 'tiny' with --add" in text
    assert f"add it to the `methods:` of {file}" in text
    file.write_text(file.read_text().replace("[ce, kd]", "[ce, kd, mse]"))
    text = " ".join(kdbench(*words).output.split())
    assert "published for this seed" in text, text
    assert "not the same" not in text
