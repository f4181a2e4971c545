"""A study of a user's own: a network in a file beside it, and a teacher from a plain loop."""

import shutil

import pytest
import torch
from torchvision.transforms.v2 import functional as transforms

import kdbench
from kdbench.data.datasets import find_data_set
from kdbench.data.files import arrays
from kdbench.execution.run_study import Options, prepare
from kdbench.execution.study_file import run_study
from kdbench.study.load import StudyError

NETS = """
from torch import nn

class TinyNet(nn.Module):
    def __init__(self, image_shape, classes, width=8):
        super().__init__()
        self.conv = nn.Conv2d(image_shape[0], width, 3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x):
        return self.head(self.pool(self.relu(self.conv(x))).flatten(1))
"""
STUDY = """
name: mine
data: {name: digits, validation: 200}
student: {model: "./nets.py:TinyNet", options: {width: 4}}
teacher:
  model: "./nets.py:TinyNet"
  options: {width: 16}
  weights: teacher.pth
  size: 12
  normalise: {mean: [0.3], std: [0.4]}
recipe: {epochs: 2, batch: 64, lr: 1.0e-2}
methods: [ce, kd, {method: hint, hparams: {layer: stage1, beta: 1}}]
final: {seeds: [0, 1], epoch: best}
report: {reference: ce}
"""


def images_of(part):
    """Images as the teacher's own loop made them, and their labels."""
    pixels, labels = arrays("digits", find_data_set("digits"), part, None)
    larger = transforms.resize(torch.from_numpy(pixels) / 16, [12, 12])
    return (larger - 0.3) / 0.4, torch.from_numpy(labels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study, its network, and a teacher that a plain loop has trained."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "nets.py").write_text(NETS)
    (folder / "mine.yaml").write_text(STUDY)
    namespace = {}
    exec(NETS, namespace)
    torch.manual_seed(0)
    teacher = namespace["TinyNet"]((1, 8, 8), 10, width=16)
    images, labels = images_of("train")
    optimizer = torch.optim.Adam(teacher.parameters(), 0.01)
    for _ in range(60):
        position = torch.randint(len(labels), (256,))
        loss = torch.nn.functional.cross_entropy(teacher(images[position]), labels[position])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save({"model": teacher.state_dict(), "epoch": 60}, folder / "teacher.pth")
    return folder


@pytest.fixture(scope="module")
def root(folder):
    root = folder / "out"
    run_study(folder / "mine.yaml", root=root, workers=1)
    return root


def accuracy_of_the_teacher(folder):
    """In %, on the test images, without kdbench's own way to it."""
    namespace = {}
    exec(NETS, namespace)
    teacher = namespace["TinyNet"]((1, 12, 12), 10, width=16).eval()
    teacher.load_state_dict(torch.load(folder / "teacher.pth", weights_only=True)["model"])
    images, labels = images_of("test")
    with torch.no_grad():
        return 100 * (teacher(images).argmax(1) == labels).double().mean().item()


def test_a_study_of_own_networks_and_teacher_gives_a_leaderboard(root, folder):
    board = kdbench.load_report(root / "reports" / "mine")
    assert set(board.table["method"]) >= {"ce", "kd", "hint", "teacher"}
    assert (board.table["state"] == "done").all()
    teacher = board.table[board.table["row"] == "teacher"].iloc[0]
    assert teacher["accuracy"] > 60  # it was trained, and not here
    assert teacher["accuracy"] == pytest.approx(accuracy_of_the_teacher(folder), abs=0.2)
    text = " ".join(board.captions)
    assert "whose weights come from teacher.pth#" in text
    assert "scaled to 12x12 (bilinear, antialiased) and normalised by the mean 0.3" in text
    assert 'TinyNet{"options":{"width":4}' in text


def test_the_student_can_be_loaded_when_the_file_is_gone(root, folder, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(root, copy)
    student = kdbench.load_student("mine", "kd", seed=0, root=copy)
    assert student(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_a_second_start_trains_nothing(root, folder, capsys):
    before = {p: p.stat().st_mtime_ns for p in root.glob("runs/*/result.json")}
    run_study(folder / "mine.yaml", root=root, workers=1)
    assert {p: p.stat().st_mtime_ns for p in root.glob("runs/*/result.json")} == before


def test_an_edited_network_is_another_network(root, folder, tmp_path):
    for name in ("mine.yaml", "nets.py", "teacher.pth"):
        shutil.copy(folder / name, tmp_path)
    options = Options(str(tmp_path / "mine.yaml"), root)
    same, _ = prepare(options)
    assert all(root.joinpath("runs", run, "result.json").exists() for run in same.plan().nodes)
    path = tmp_path / "nets.py"
    path.write_text(path.read_text().replace("AdaptiveAvgPool2d", "AdaptiveMaxPool2d"))
    other, _ = prepare(options)
    assert not set(other.plan().nodes) & set(same.plan().nodes)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("nets.py:TinyNet", "nts.py:TinyNet", "cannot read"),
        ("nets.py:TinyNet", "nets.py:TinyNett", "did you mean 'TinyNet'"),
        ("width: 16", "width: 15", "of another shape: conv.weight is 16x1x3x3 in the file"),
        ("teacher.pth", "techer.pth", "cannot read the weights"),
        ("teacher.pth", "nets.py", "cannot be read as weights"),
        ("weights: teacher.pth", "weights: teacher.pth\n  seed: 3", "leave the seed out"),
        ("options: {width: 4}", "options: {depth: 4}", "unexpected keyword argument 'depth'"),
        ("options: {width: 4}", "options: {width: 2026-01-01}", "should hold numbers, texts"),
        ("options: {width: 4}", "options: {width: .nan}", "should hold numbers, texts"),
        ("options: {width: 4}", "option: {width: 4}", "did you mean 'options'"),
        ("options: {width: 4}", "layers: {stage1: neck}", "no node or module 'neck'"),
        ('./nets.py:TinyNet", options: {width: 4}', 'torchvision:resnet1"', "mean 'resnet1"),
    ],
)
def test_bad_input_is_one_error_before_anything_is_trained(folder, tmp_path, old, new, message):
    for name in ("nets.py", "teacher.pth"):
        shutil.copy(folder / name, tmp_path)
    assert old in STUDY
    (tmp_path / "mine.yaml").write_text(STUDY.replace(old, new, 1))
    with pytest.raises(StudyError) as error:
        prepare(Options(str(tmp_path / "mine.yaml"), tmp_path / "out"))
    assert message in str(error.value)
    assert not (tmp_path / "out").exists()
