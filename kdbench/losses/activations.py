"""Which neurons fire (Heo et al. 2019)."""

from torch import Tensor
from torch.nn import functional as F

from kdbench.losses._checks import dims


def activation_boundary(student: Tensor, teacher: Tensor, margin: float | Tensor = 1.0) -> Tensor:
    """sum over neurons of relu(m + s)**2 where the teacher is off (t <= 0) and
    relu(m - s)**2 where it is on (t > 0); mean over the batch.

    `student`: pre-activations s (B, C, H, W), after the connector; `teacher`:
    pre-activations t of the same shape; `margin`: m. Equation 6 of the paper.
    """
    dims("B C H W", student=student, teacher=teacher)
    sign = (teacher.detach() > 0).to(student.dtype) * 2 - 1
    return F.relu(margin - sign * student).square().flatten(1).sum(dim=1).mean()
