"""Fixtures of the tracking tests."""

from pathlib import Path

import pytest
from support.mlflow_root import MlflowRoot


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A fresh MLflow database: making one takes seconds, so tests start from a copy."""
    root = tmp_path_factory.mktemp("fresh")
    from kdbench.tracking.client import client

    client(f"sqlite:///{root / 'mlflow.db'}").search_experiments()
    return (root / "mlflow.db").read_bytes()


@pytest.fixture
def root(tmp_path: Path, empty_database: bytes, monkeypatch: pytest.MonkeyPatch) -> MlflowRoot:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(empty_database)
    return MlflowRoot(tmp_path)
