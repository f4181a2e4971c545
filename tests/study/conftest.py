"""What the tests of plans share."""

from pathlib import Path

import pytest
from support.desk import Desk, unseen_digits

from kdbench.data.load import TrainingData


@pytest.fixture(scope="session")
def images() -> TrainingData:
    """Digits in size and shape; no run is trained here, so nothing looks at a pixel."""
    return unseen_digits()


@pytest.fixture
def desk(tmp_path: Path, images: TrainingData) -> Desk:
    """A planner over an empty store."""
    return Desk(tmp_path, images)
