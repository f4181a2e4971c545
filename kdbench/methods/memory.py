"""What a loss keeps from step to step, and projections that stay."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdbench import losses


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


class PairMemory(nn.Module):
    """Unit vectors of student and teacher for each training example, and the labels seen.

    `student`, `teacher`: examples x width, random at first; `labels` (examples): -1 until the
    example is shown; `normalisers`: of the scores against the teacher's and the student's rows,
    set by the first batch and -1 before.
    """

    student: Tensor
    teacher: Tensor
    labels: Tensor
    normalisers: Tensor

    def __init__(self, examples: int, width: int) -> None:
        super().__init__()
        bound = (3 / width) ** 0.5
        for name in ("student", "teacher"):
            self.register_buffer(name, torch.empty(examples, width).uniform_(-bound, bound))
        self.register_buffer("labels", torch.full((examples,), -1))
        self.register_buffer("normalisers", torch.full((2,), -1.0))

    @torch.no_grad()
    def note(self, position: Tensor, labels: Tensor) -> None:
        """Note the labels of the examples at `position`."""
        self.labels.index_copy_(0, position, labels)

    def scores(
        self, student: Tensor, teacher: Tensor, index: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Of the student's vectors against the teacher's rows and the other way round, each
        batch x (1 + others), divided by its normaliser; `index` as in `losses.pair_scores`."""
        # Copies, since the rows change before the backward pass reads them.
        pairs = (student, self.teacher.clone()), (teacher, self.student.clone())
        raw = [losses.pair_scores(x, rows, index, temperature) for x, rows in pairs]
        with torch.no_grad():
            first = torch.stack([r.mean() for r in raw]) * len(self.student)
            unset = self.normalisers < 0
            self.normalisers.copy_(torch.where(unset, first, self.normalisers))
            against_teacher, against_student = self.normalisers.clone()
        return raw[0] / against_teacher, raw[1] / against_student

    @torch.no_grad()
    def update(self, position: Tensor, student: Tensor, teacher: Tensor, momentum: float) -> None:
        """Move the rows at `position` towards the vectors (batch x width)."""
        for rows, vectors in ((self.student, student), (self.teacher, teacher)):
            mixed = momentum * rows[position] + (1 - momentum) * vectors
            rows.index_copy_(0, position, F.normalize(mixed, dim=1).to(rows.dtype))
