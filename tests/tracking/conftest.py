"""Fixtures of the tracking tests."""

from pathlib import Path

import pytest
from support.mlflow_root import MlflowRoot


@pytest.fixture
def root(tmp_path: Path, empty_database: bytes, monkeypatch: pytest.MonkeyPatch) -> MlflowRoot:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(empty_database)
    return MlflowRoot(tmp_path)
