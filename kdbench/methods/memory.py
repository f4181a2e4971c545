"""What a loss keeps of each training example from step to step."""

import torch
from torch import Tensor, nn


class Memory(nn.Module):
    """A row of `width` values for each training example, found by `batch.position`.

    `rows` is examples x width; `written` (examples) says which have been written. As buffers
    they are in the run's checkpoints, and no optimiser moves them.
    """

    def __init__(self, examples: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(examples, width))
        self.register_buffer("written", torch.zeros(examples))

    def read(self, position: Tensor) -> Tensor:
        """batch x width, a copy."""
        return self.get_buffer("rows")[position]

    def seen(self, position: Tensor) -> Tensor:
        """1 where the example has been written, else 0 (batch)."""
        return self.get_buffer("written")[position]

    @torch.no_grad()
    def write(self, position: Tensor, values: Tensor) -> None:
        """Replace the rows at `position` by `values` (batch x width)."""
        rows, written = self.get_buffer("rows"), self.get_buffer("written")
        rows.index_copy_(0, position, values.detach().to(rows.dtype))
        written.index_fill_(0, position, 1.0)
