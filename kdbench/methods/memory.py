"""What a loss keeps from step to step, and projections that stay."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


class Queue(nn.Module):
    """The last `length` vectors (length x width), in no order; random unit vectors at first."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", F.normalize(torch.randn(length, width), dim=1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, values: Tensor) -> Tensor:
        """Replace the oldest rows by `values` (batch x width); all rows then, a copy."""
        rows, oldest = self.get_buffer("rows"), self.get_buffer("oldest")
        values = values.detach()[-len(rows) :]
        place = (oldest + torch.arange(len(values), device=rows.device)) % len(rows)
        rows.index_copy_(0, place, values.to(rows.dtype))
        oldest.copy_((oldest + len(values)) % len(rows))
        return rows.clone()


class RandomProjection(nn.Module):
    """A linear map with the first weights of PyTorch's linear layer, which stays as it is."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        layer = nn.Linear(source, target)
        for name, parameter in layer.named_parameters():
            self.register_buffer(name, parameter.detach())

    def forward(self, vectors: Tensor) -> Tensor:
        return F.linear(vectors.detach(), self.get_buffer("weight"), self.get_buffer("bias"))
