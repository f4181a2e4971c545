"""Studies run in the test's own process."""

from pathlib import Path

import pytest
from support.inline_study import InlineStudy

from kdbench.data.load import TrainingData


@pytest.fixture
def study(tmp_path: Path, digits: TrainingData) -> InlineStudy:
    """The crash test's study in an empty root."""
    return InlineStudy(tmp_path, digits)
