"""Losses between the relations of class probabilities, within an example and within a batch."""

from torch import Tensor
from torch.nn import functional as F

from kdbench.losses._checks import dims

#: Keeps constant probabilities from dividing by zero; the value of the authors of DIST.
EPSILON = 1e-8


def correlation_distance(
    student: Tensor, teacher: Tensor, temperature: float | Tensor = 1.0
) -> tuple[Tensor, Tensor]:
    """(inter, intra): 1 - Pearson's correlation of p_s and p_t with p = softmax(z / T).

    inter correlates the classes of one example, mean over examples; intra the examples of one
    class, mean over classes. No T**2. `student`, `teacher`: logits (B, C).
    Huang et al. 2022 (DIST).
    """
    dims("B C", student=student, teacher=teacher)
    ours, theirs = (F.softmax(z / temperature, dim=1) for z in (student, teacher.detach()))
    inter, intra = (1 - correlation(ours, theirs, dim).mean() for dim in (1, 0))
    return inter, intra


def correlation(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Pearson's correlation of `a` and `b` (B, C) along a dimension, which goes."""
    a, b = (x - x.mean(dim=dim, keepdim=True) for x in (a, b))
    return (a * b).sum(dim) / (a.norm(dim=dim) * b.norm(dim=dim) + EPSILON)


def gram_distance(
    student: Tensor, teacher: Tensor, temperature: float | Tensor = 1.0
) -> tuple[Tensor, Tensor]:
    """(batch, class): the squared Frobenius distance of Gram matrices of P = softmax(z / T).

    batch is |P_s P_s' - P_t P_t'|**2 / B, class |P_s' P_s - P_t' P_t|**2 / C, ' the transpose.
    No T**2. `student`, `teacher`: logits (B, C). Jin et al. 2023 (MLKD).
    """
    dims("B C", student=student, teacher=teacher)
    ours, theirs = (F.softmax(z / temperature, dim=1) for z in (student, teacher.detach()))
    batch = (ours @ ours.T - theirs @ theirs.T).square().sum() / student.shape[0]
    classes = (ours.T @ ours - theirs.T @ theirs).square().sum() / student.shape[1]
    return batch, classes
