"""Fixtures of the whole suite."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from support import crash

from kdbench.data import TrainingData, load
from kdbench.models import MODELS
from kdbench.records.store import Store
from kdbench.testing.world import NOISY, Noisy, World, small

# pytest's processes fill the cores; on networks this small two threads only wait for each other.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _unfreeze() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def _freeze() -> None:
    """Leave what is loaded out of collections while a module's tests run: every capture of a
    graph starts one, and every end of a cohort. What was frozen stays so to the end, since a
    collection that looks at all of it takes half a second, and there are over a hundred modules."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def digits() -> TrainingData:
    return load("digits")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, digits: TrainingData) -> Iterator[World]:
    """One world for all tests: it only ever gains finished runs."""
    MODELS[NOISY] = Noisy
    yield World(small(digits), Store(tmp_path_factory.mktemp("world")))
    del MODELS[NOISY]


@pytest.fixture
def empty_world(world: World, tmp_path: Path) -> World:
    """The same images with an empty store."""
    return World(world.data, Store(tmp_path))


@pytest.fixture(scope="session")
def reference_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of the crash test's study, carried out without a kill: once for all of
    pytest's processes, and only read."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(shared / "reference.lock"):
        folder, done = shared / "reference", shared / "reference.done"
        if not done.exists():
            crash.reference(folder)
            done.touch()
    return folder / "root"


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A fresh MLflow database, made once for all of pytest's processes: making one takes
    seconds, so tests start from a copy."""
    from kdbench.tracking.client import client

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    path = shared / "empty.db"
    with FileLock(shared / "empty.lock"):
        if not path.exists():
            client(f"sqlite:///{shared / 'fresh.db'}").search_experiments()
            (shared / "fresh.db").rename(path)
    return path.read_bytes()
