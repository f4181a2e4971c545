"""Studies run in the test's own process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.inline_study import InlineStudy

from kdbench.data.load import TrainingData


@pytest.fixture
def study(tmp_path: Path, digits: TrainingData) -> Iterator[InlineStudy]:
    """The crash test's study in an empty root, on one thread as in a worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield InlineStudy(tmp_path, digits)
    torch.set_num_threads(before)
