"""Losses whose soft target is made or mended with the labels."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kdbench.losses._checks import check_labels, dims
from kdbench.losses.logits import binary, other_classes, ranking

#: A logit that stands for minus infinity: of a row that is masked whole, the softmax is
#: uniform, where minus infinity would give no number.
MASKED = -1e9


def sure_cross_entropy(student: Tensor, teacher: Tensor, threshold: float) -> Tensor:
    """-log p_s(c) with c = argmax z_t where max p_t >= threshold, else 0, mean over the batch.

    `student`, `teacher`: logits (B, C). Sohn et al. 2020 (FixMatch), equation 4, with a teacher
    in place of the network on weaker views.
    """
    dims("B C", student=student, teacher=teacher)
    probability, label = F.softmax(teacher.detach(), dim=1).max(dim=1)
    each = F.cross_entropy(student, label, reduction="none")
    return (each * (probability >= threshold)).mean()


def normalised_cross_entropy(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float | Tensor = 1.0
) -> tuple[Tensor, Tensor]:
    """(target, non-target): -p_t[y] log p_s[y] with p = softmax(z), and -sum_c r_t(c) log r_s(c)
    with r the softmax of z / T over the classes other than y; batch means, no T**2.

    `student`, `teacher`: logits (B, C); `target`: labels y (B).
    Yang et al. 2023 (NKD).
    """
    dims("B C", student=student, teacher=teacher)
    check_labels(student, target)
    teacher, index = teacher.detach(), target.unsqueeze(1)
    confidence = F.softmax(teacher, dim=1).gather(1, index)
    label = -(confidence * F.log_softmax(student, dim=1).gather(1, index)).mean()
    others = other_classes(target, student.shape[1])
    ours, theirs = (ranking(z / temperature, others) for z in (student, teacher))
    return label, -(theirs.exp() * ours).sum(dim=1).mean()


def weighted_soft_cross_entropy(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float | Tensor = 1.0
) -> Tensor:
    """-w * sum_c p_t(c) log p_s(c) with p = softmax(z / T), mean over the batch; no T**2.

    w = 1 - exp(-CE(y, z_s) / (CE(y, z_t) + 1e-7)) is a constant for each example, near 0 where
    the student fits the label much better than the teacher. `student`, `teacher`: logits
    (B, C); `target`: labels y (B). Zhou et al. 2021 (WSLD).
    """
    dims("B C", student=student, teacher=teacher)
    check_labels(student, target)
    teacher = teacher.detach()
    ours, theirs = (
        F.cross_entropy(z, target, reduction="none") for z in (student.detach(), teacher)
    )
    weights = 1 - torch.exp(-ours / (theirs + 1e-7))
    soft = F.softmax(teacher / temperature, dim=1)
    return (weights * F.cross_entropy(student / temperature, soft, reduction="none")).mean()


def refined_kl(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    temperature: float | Tensor = 1.0,
    target_temperature: float | Tensor = 1.0,
) -> tuple[Tensor, Tensor]:
    """(SCD, MCD), batch means; no squares of temperatures.

    SCD = KL([p_t[m], 1 - p_t[m]] || [p_s[y], 1 - p_s[y]]) with m the teacher's own class and p
    the softmax of z / `target_temperature`. MCD = KL(r_t || r_s) with r the softmax of
    z / `temperature` over the classes that the teacher ranks below the label; 0 where there
    are none. `student`, `teacher`: logits (B, C); `target`: labels y (B).
    Sun et al. 2025 (RLD).
    """
    dims("B C", student=student, teacher=teacher)
    check_labels(student, target)
    teacher = teacher.detach()
    ours, theirs = (
        binary(z / target_temperature, label, other_classes(label, z.shape[1]))
        for z, label in ((student, target), (teacher, teacher.argmax(dim=1)))
    )
    scd = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    above = teacher >= teacher.gather(1, target.unsqueeze(1))
    ours, theirs = (
        F.log_softmax((z / temperature).masked_fill(above, MASKED), dim=1)
        for z in (student, teacher)
    )
    return scd, F.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def enhanced_cross_entropy(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    exponent: float,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    """-sum_c ((p_t(c) + [c = y])**e - [c = y]) log p_s(c) with p = softmax(z / T), mean over the
    batch; no T**2.

    `student`, `teacher`: logits (B, C); `target`: labels y (B); e: `exponent`. At e = 1 it is
    the soft cross-entropy; a larger e weighs the label more and all other classes less.
    Hao et al. 2023 (OFA-KD).
    """
    dims("B C", student=student, teacher=teacher)
    check_labels(student, target)
    soft = F.softmax(teacher.detach() / temperature, dim=1)
    label = is_label(target, student.shape[1]).to(soft.dtype)
    enhanced = (soft + label).pow(exponent) - label
    return -(enhanced * F.log_softmax(student / temperature, dim=1)).sum(dim=1).mean()


def virtual_teacher(
    target: Tensor, classes: int, correct: float, temperature: float | Tensor, like: Tensor
) -> Tensor:
    """log softmax(u / T) with u = `correct` at the label and (1 - correct) / (C - 1) at each
    other class: log-probabilities (B, C) of the type of `like`.

    `target`: labels (B). Yuan et al. 2020 (Tf-KD).
    """
    label = is_label(target, classes).to(like.dtype)
    other = (1 - correct) / (classes - 1)
    return F.log_softmax((other + (correct - other) * label) / temperature, dim=1)


def is_label(target: Tensor, classes: int) -> Tensor:
    """Whether a class is the label: labels (B) -> (B, C). By comparing indices, since
    `one_hot` reads the labels back."""
    return target.unsqueeze(1) == torch.arange(classes, device=target.device)
