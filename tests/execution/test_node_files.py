"""Files that a driver offers and a node keeps: what arrives, once, and what must not stay."""

from pathlib import Path

import numpy as np
import pytest
from support.inline_study import SMALL, InlineStudy

from kdbench.data.array_file import ArrayFile
from kdbench.data.load import load
from kdbench.data.packed import remember
from kdbench.data.test_set import open_test_set
from kdbench.execution.engines import node_files
from kdbench.execution.engines.node_files import DATA, FileOffers, fetch
from kdbench.execution.engines.protocol import Task, WorkerSettings
from kdbench.execution.engines.worker import Worker
from kdbench.records.store import Store


class ObjectStore:
    """Keeps bytes by number, and counts how often each is asked for."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []
        self.asked: list[int] = []

    def put(self, content: bytes) -> int:
        self.contents.append(content)
        return len(self.contents) - 1

    def get(self, reference: int) -> bytes:
        self.asked.append(reference)
        return self.contents[reference]


@pytest.fixture(scope="module")
def done(tmp_path_factory, digits):
    """A study of six runs that has ended, and its plan."""
    study = InlineStudy(tmp_path_factory.mktemp("done"), digits, changes=SMALL)
    plan, driver, _ = study.run()
    assert plan.complete
    return study, driver.state.plan


def task_of(plan, method):
    return Task("train", tuple(n.spec for n in plan.nodes.values() if n.spec.method == method))


def test_a_node_has_all_that_a_task_reads_and_fetches_it_once(done, tmp_path):
    study, plan = done
    objects = ObjectStore()
    offers = FileOffers(Store(study.root), objects.put)
    task = task_of(plan, "kd")
    first = offers.of_task(task)
    put = offers.bytes
    assert fetch(tmp_path, first, objects.get) == put > 0
    worker = Worker(WorkerSettings(tmp_path, "digits", None, "cpu"))
    messages = []
    worker.run_task(Task("score", task.specs), messages.append, lambda: False)
    scored = {message.id: message.test for message in messages[:-1]}
    assert scored.keys() == {spec.id for spec in task.specs}
    for run, test in scored.items():
        assert test == Store(study.root).record(run).test
    asked = len(objects.asked)
    again = offers.of_task(task)
    assert fetch(tmp_path, again, objects.get) == 0
    assert len(objects.asked) == asked
    # The teacher, which is finished, was put there once.
    teacher = next(iter(task.specs[0].frozen_runs.values()))
    assert all(again[name] is first[name] for name in first if teacher in name)


def test_a_checkpoint_that_the_driver_has_not_is_removed(done, tmp_path):
    study, plan = done
    objects = ObjectStore()
    offers = FileOffers(Store(study.root), objects.put).of_task(task_of(plan, "ce"))
    run = task_of(plan, "ce").specs[0].id
    stale = tmp_path / "runs" / run / "checkpoint.pt"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of an earlier start")
    (stale.parent / "spec.json").write_text("damaged")
    fetch(tmp_path, offers, objects.get)
    assert not stale.exists()
    assert Store(tmp_path).record(run).spec() == Store(study.root).record(run).spec()


def test_what_a_run_s_teachers_learned_from_is_there_too(tmp_path, digits):
    changes = {**SMALL, "methods": ["ce", {"method": "ban", "hparams": {"generations": 2}}]}
    study = InlineStudy(tmp_path / "ban", digits, changes=changes)
    _, driver, _ = study.run()
    last = [n for n in driver.state.plan.nodes.values() if n.listing.kind == "final"]
    finals = Task("train", tuple(n.spec for n in last if n.spec.method == "ban"))
    offers = FileOffers(Store(study.root), ObjectStore().put).of_task(finals)
    waiting = [spec.id for spec in finals.specs]
    while waiting:
        spec = Store(study.root).record(waiting.pop()).spec()
        assert f"runs/{spec.id}/spec.json" in offers
        waiting += spec.frozen_runs.values()


def test_large_files_come_in_pieces_and_data_sets_of_one_s_own_whole(
    tmp_path, monkeypatch, own_images
):
    monkeypatch.setattr(node_files, "PIECE", 1000)
    data_dir, name = own_images
    objects = ObjectStore()
    offers = FileOffers(Store(tmp_path / "root"), objects.put).of_study(name, data_dir)
    assert any(len(offer.pieces) > 1 for offer in offers.values())
    assert max(map(len, objects.contents)) == 1000
    fetch(tmp_path / "node", offers, objects.get)
    here, there = (open_test_set(name, folder) for folder in (data_dir, tmp_path / "node" / DATA))
    np.testing.assert_array_equal(here.images, there.images)
    np.testing.assert_array_equal(here.labels, there.labels)


@pytest.fixture
def own_images(tmp_path: Path):
    """A packed data set of a user's own, and the data folder that it lies in."""
    draw = np.random.default_rng(0)
    arrays = {
        f"{key}_{part}": values
        for part, count in (("train", 60), ("test", 20))
        for key, values in (
            ("x", draw.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)),
            ("y", np.arange(count) % 4),
        )
    }
    np.savez(tmp_path / "own.npz", **arrays)
    name = remember(ArrayFile(tmp_path / "own.npz", 0.0))
    load(name, tmp_path / "data")
    return tmp_path / "data", name
