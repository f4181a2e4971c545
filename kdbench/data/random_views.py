"""Views of images that are changed further by random operations, of which there is no end.

A view is drawn as a row of numbers: the id of a finite view (`augment`), and uniform numbers in
[0, 1) which say what the operations do to it. So a view is a function of its numbers, which come
from the run's own stream, and no global random number is read.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kdbench.data.augment import Views
from kdbench.data.changes import Change


class RandomViews:
    """Normalised batches of finite views that `changes` are made to, one after the other."""

    def __init__(self, views: Views, changes: Sequence[Change]) -> None:
        self.views, self.changes = views, tuple(changes)

    def draw(self, count: int, generator: np.random.Generator) -> Tensor:
        """`count` views (float32, count x (1 + numbers), on the device)."""
        ids = self.views.draw(count, generator)
        numbers = sum(change.numbers for change in self.changes)
        drawn = generator.random((count, numbers), dtype=np.float32)
        return torch.cat([ids.float()[:, None], torch.from_numpy(drawn).to(ids.device)], dim=1)

    def take(self, position: Tensor, view: Tensor) -> Tensor:
        """The examples at `position` (int64, B) in views that were drawn (B x (1 + numbers)),
        normalised as `Views.take` gives them."""
        sizes = [change.numbers for change in self.changes]
        ids, *drawn = view.split([1, *sizes], dim=1)

        def changed(images: Tensor) -> Tensor:
            for change, numbers in zip(self.changes, drawn, strict=True):
                images = change(images, numbers)
            return images

        return self.views.take(position, ids.squeeze(1).long(), changed)
