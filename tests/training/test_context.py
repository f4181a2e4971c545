"""What the runs of a worker share."""

from pathlib import Path

import pytest
import torch

from kdbench.data import TrainingData
from kdbench.records.store import Store
from kdbench.training.context import TrainingContext


@pytest.mark.parametrize(
    "device", ["cpu", "meta"]
)  # meta stands for a device with memory of its own
def test_all_views_read_the_same_images(digits: TrainingData, tmp_path: Path, device: str) -> None:
    context = TrainingContext(Store(tmp_path), digits, torch.device(device))
    views = [context.views(augment) for augment in ("none", "flip", "crop-flip")]
    assert {view._store.device.type for view in views} == {device}
    assert len({view._store.untyped_storage()._cdata for view in views}) == 1
