"""Studies on a Ray cluster. Those that start one are long; Ray is in the extra `dev`."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import crash, ray_kills
from support.inline_study import SMALL, InlineStudy
from support.ray_cluster import RayCluster

from kdbench.execution.engines import ENGINES
from kdbench.execution.engines.protocol import EngineOptions, Task
from kdbench.execution.engines.ray_engine import RayEngine
from kdbench.execution.errors import InvalidOption


def test_ray_is_asked_for_by_its_extra(study: InlineStudy, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InvalidOption, match=r"pip install 'kdbench\[ray\]'"):
        ENGINES["ray"](study.settings(), EngineOptions())


def test_a_stop_does_not_wait_for_a_worker_that_is_not_there(
    study: InlineStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the cluster has no room, what waits for a worker is given back at once."""
    ray = SimpleNamespace(
        is_initialized=lambda: True, cluster_resources=lambda: {"CPU": 1.0}, put=None
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    study.changes = SMALL
    driver, _ = study.driver()
    driver.state.make_plan()
    specs = tuple(node.spec for node in driver.state.plan.nodes.values())
    engine = RayEngine(study.settings(), EngineOptions(1))
    engine._waiting = [Task("train", specs[:2]), Task("score", specs[2:])]
    engine.stop()
    given_back = [spec for message in engine.messages(0) for spec in message.specs]
    assert given_back == list(specs)
    assert engine.idle() == 1


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    pytest.importorskip("ray", reason="pip install 'kdbench[ray]'")
    cluster = RayCluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.add_node()
        cluster.add_node()
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.long
def test_two_nodes_without_a_common_folder_give_the_bytes_of_this_machine(
    tmp_path: Path, reference_root: Path, cluster: RayCluster
) -> None:
    (tmp_path / "crash.yaml").write_text(crash.STUDY)
    driver = ray_kills.start(tmp_path, cluster)
    assert driver.wait(timeout=600) == 0, (tmp_path / "log.txt").read_text()
    root = tmp_path / "root"
    assert list(crash.broken(root, reference_root, {})) == []
    for node in (0, 1):  # each was sent the teacher, and kept its own tables
        (kept,) = (cluster.home / f"node-{node}" / "kept").iterdir()
        assert list(kept.glob("runs/*/weights.safetensors"))
    assert not list(root.glob("runs/.root-*"))
    assert not list(root.glob("runs/plans/*.workers"))


@pytest.mark.long
def test_actors_nodes_and_drivers_are_killed_and_nothing_is_lost(
    tmp_path: Path, reference_root: Path
) -> None:
    pytest.importorskip("ray", reason="pip install 'kdbench[ray]'")
    tally, faults = ray_kills.disturb(tmp_path, reference_root, 3, seed=1)
    assert faults == []
    assert set(tally) == set(ray_kills.KINDS)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "refused"),
        ("ray://127.0.0.1:1", "refused"),
        ("head", "write auto, HOST:PORT or ray://HOST:PORT"),
        ("head:port", "write auto, HOST:PORT or ray://HOST:PORT"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_message(
    study: InlineStudy, monkeypatch: pytest.MonkeyPatch, address: str, reason: str
) -> None:
    ray = SimpleNamespace(is_initialized=lambda: False)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(InvalidOption, match=f"cannot connect to {address}: .*{reason}"):
        ENGINES["ray"](study.settings(), EngineOptions(address=address))
