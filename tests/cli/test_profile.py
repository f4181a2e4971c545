"""`kdbench profile`: the networks of a study that has run, measured on this machine."""

import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.command_line import output, refused
from torch import nn

from kdbench import models
from kdbench.profile import measure, sizes
from kdbench.profile.networks import load_network
from kdbench.records.plan_file import PlanData, PlanFile
from kdbench.records.profiles import profile_path, read_profile
from kdbench.records.spec import RunSpec
from kdbench.records.store import Store
from kdbench.report.data import collect
from kdbench.report.data.report_data import load


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished study; MLflow is not asked."""

    def not_asked(*_: object) -> None:
        raise ConnectionError("MLflow is not asked")

    monkeypatch.setattr(collect, "sync_study", not_asked)
    monkeypatch.setattr(measure, "REPETITIONS", 3)
    monkeypatch.setattr(sizes, "PROGRAMS", sizes.PROGRAMS[:1])
    shutil.copytree(tiny_root, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_a_study_is_profiled_into_its_record_and_its_report(root: Path) -> None:
    text = output("profile", "tiny", "--root", root, "--device", "cpu")
    profile = read_profile(profile_path(root, "tiny"))
    assert profile is not None
    assert (profile.device, profile.threads, profile.repetitions) == ("cpu", 1, 3)
    assert profile.versions["torch"] == version("torch")
    networks = {network.name: network for network in profile.networks}
    assert {name: n.role for name, n in networks.items()} == {
        "digits-cnn": "teacher", "digits-cnn-small": "student",
    }  # fmt: skip
    small = networks["digits-cnn-small"]
    assert set(small.rows) == {("ce", "only"), ("kd", "default"), ("kd", "tuned")}
    for name, network in networks.items():
        model = models.build(name, (1, 8, 8), 10)
        assert network.parameters == sum(p.numel() for p in model.parameters())
        assert network.macs == models.macs(name, (1, 8, 8), 10)
        weights = sum(t.nbytes for t in model.state_dict().values())
        assert weights <= network.sizes["safetensors"] < weights + 4096  # names and shapes
        for timing in network.timings:
            assert 0 < timing.low <= timing.median <= timing.high
            assert timing.peak_bytes > weights
    report = root / "reports" / "tiny"
    assert load(report).profile == profile
    assert "digits-cnn (teacher)" in (report / "deployment.md").read_text()
    assert "digits-cnn-small" in text
    assert "1 thread" in text


def small_network(root: Path) -> tuple[nn.Module, RunSpec, PlanData]:
    store = Store(root)
    plan = PlanFile.load(store.plan_path("tiny"))
    assert plan
    assert plan.data
    run = next(iter(plan.rows[0].runs.values()))
    spec = store.record(run).spec()
    assert spec
    return load_network(store, plan, run, torch.device("cpu")), spec, plan.data


def test_the_size_is_that_of_the_file(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, spec, data = small_network(root)
    monkeypatch.setattr(sizes, "PROGRAMS", ("torch", "onnx"))
    found = sizes.file_sizes(network, spec, data, print)
    path = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), path)
    assert found["safetensors"] == path.stat().st_size
    assert set(load_file(path)) == set(network.state_dict())
    # A program holds its weights as well, and 8 bits are a quarter of 32.
    weights = sum(p.nbytes for p in network.parameters())
    assert {"torch", "onnx", "int8"} <= set(found)
    assert min(found["torch"], found["onnx"]) > weights
    assert weights / 4 < found["int8"]


def test_a_format_whose_packages_are_missing_is_left_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(sizes, "PROGRAMS", ("onnx",))
    lines: list[str] = []
    assert set(sizes.file_sizes(*small_network(root), lines.append)) == {"safetensors"}
    (line,) = lines
    assert 'pip install "kdbench[onnx]"' in line


class Witness(nn.Module):
    """A network that writes down when it is asked, and how many threads there are then."""

    def __init__(self, name: str, calls: list[tuple[str, int]]) -> None:
        super().__init__()
        self.linear, self.name, self.calls = nn.Linear(4, 2), name, calls

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls.append((self.name, torch.get_num_threads()))
        assert torch.is_inference_mode_enabled()
        return self.linear(images)


def test_networks_take_turns_after_warming_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "REPETITIONS", 3)
    calls: list[tuple[str, int]] = []
    networks = [Witness("a", calls), Witness("b", calls)]
    before = torch.get_num_threads()
    timings = measure.take_turns(networks, [torch.zeros(5, 4)] * 2, threads=2)
    timed = calls[: 3 * 2 * 3]
    assert [name for name, _ in timed] == 3 * [*3 * ["a"], *3 * ["b"]]  # two forwards warm up
    assert {threads for _, threads in timed} == {2}
    assert torch.get_num_threads() == before
    weights = 4 * (4 * 2 + 2)
    for timing in timings:
        assert timing.batch == 5
        assert weights + 5 * 2 * 4 <= timing.peak_bytes < weights + 4096


# -- what cannot be profiled


def test_a_study_that_never_ran(root: Path) -> None:
    assert "run `kdbench study nothing` first" in refused("profile", "nothing", "--root", root)


def test_a_study_without_a_finished_run(root: Path) -> None:
    for path in (root / "runs").glob("*/result.json"):
        path.unlink()
    message = refused("profile", "tiny", "--root", root)
    assert "has no finished run yet: `kdbench study tiny`" in message
    assert not profile_path(root, "tiny").exists()


def test_a_device_that_is_not_there(root: Path) -> None:
    assert "take auto, cpu or cuda" in refused("profile", "tiny", "--device", "tpu", "--root", root)
    if not torch.cuda.is_available():
        message = refused("profile", "tiny", "--device", "cuda", "--root", root)
        assert "finds no CUDA device" in message


def test_damaged_weights_are_named_and_nothing_is_written(root: Path) -> None:
    (teacher,) = (run for run in Store(root).ids() if _is_teacher(root, run))
    path = root / "runs" / teacher / "weights.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert str(path) in refused("profile", "tiny", "--root", root)
    assert not profile_path(root, "tiny").exists()


def _is_teacher(root: Path, run: str) -> bool:
    spec = Store(root).record(run).spec()
    return spec is not None and spec.models["student"] == "digits-cnn"
