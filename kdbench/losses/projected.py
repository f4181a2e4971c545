"""Losses between a student's projected features and the teacher's."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kdbench.losses._checks import check_labels, dims
from kdbench.losses.affinities import unit
from kdbench.losses.features import attention, pool


def feature_sse(student: Tensor, teacher: Tensor) -> Tensor:
    """sum over a map's entries of (f_s - f_t)**2, mean over the batch.

    `student`, `teacher`: feature maps (B, C, H, W). Yang et al. 2022 (MGD), equation 4.
    """
    dims("B C H W", student=student, teacher=teacher)
    return F.mse_loss(student, teacher.detach(), reduction="sum") / student.shape[0]


def hierarchical_context(student: Tensor, teacher: Tensor) -> Tensor:
    """Weighted mean of the maps' mean squared errors at their own size and pooled to 4x4, 2x2
    and 1x1, with the weights 1, 1/2, 1/4, 1/8; sizes that are not below the map's are left out.

    `student`, `teacher`: feature maps (B, C, H, W). Chen et al. 2021 (ReviewKD), section 3.3.
    """
    dims("B C H W", student=student, teacher=teacher)
    errors = [F.mse_loss(student, teacher.detach())]
    for size in (4, 2, 1):
        if size < student.shape[2]:
            s, t = (pool(f, (size, size)) for f in (student, teacher.detach()))
            errors.append(F.mse_loss(s, t))
    weights = [0.5**k for k in range(len(errors))]
    weighted = [weight * error for weight, error in zip(weights, errors, strict=True)]
    return torch.stack(weighted).sum() / sum(weights)


def factor_l1(student: Tensor, teacher: Tensor) -> Tensor:
    """mean over all entries of |u_s - u_t|, u the factor flattened and divided by its L2 norm.

    `student`, `teacher`: factors (B, C, H, W). Kim et al. 2018, equation 4 with p = 1, with a
    mean where the paper has the sum.
    """
    dims("B C H W", student=student, teacher=teacher)
    return F.l1_loss(unit(student.flatten(1)), unit(teacher.detach().flatten(1)))


def factor_attention_l1(student: Tensor, teacher: Tensor) -> Tensor:
    """mean over B and positions of |q_s - q_t|, q the `attention` of a factor.

    `student`, `teacher`: factors (B, c, H, W). RepDistiller's form of `factor_l1`.
    """
    dims("B c H W", student=student, teacher=teacher)
    return F.l1_loss(attention(student), attention(teacher.detach()))


def normalised_smooth_l1(student: Tensor, teacher: Tensor) -> Tensor:
    """mean over all entries of huber(s - n(t)); n subtracts a vector's mean and divides by its
    deviation (layer normalisation without weights).

    `student`, `teacher`: vectors (B, D). Miles et al. 2024 (VkD), section 3.2.
    """
    dims("B D", student=student, teacher=teacher)
    return F.smooth_l1_loss(student, F.layer_norm(teacher.detach(), teacher.shape[1:]))


def log_power_error(student: Tensor, teacher: Tensor, power: float = 4.0) -> Tensor:
    """log of the sum over B and D of |n(s) - n(t)|**power; n normalises each dimension over the
    batch (eps 1e-4, no weights).

    `student`, `teacher`: vectors (B, D). 1e-6 in the logarithm keeps it finite where the two
    are equal. Miles and Mikolajczyk 2024 (SRD), equation 6.
    """
    dims("B D", student=student, teacher=teacher)

    def normalise(x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=0, correction=0)
        return (x - mean) * (variance + 1e-4).rsqrt()

    error = (normalise(student) - normalise(teacher.detach())).abs()
    return (error.pow(power).sum() + 1e-6).log()


def norm_and_direction(student: Tensor, teacher: Tensor, centres: Tensor, target: Tensor) -> Tensor:
    """1 - <s, e_y> / max(|s|, |t|), mean over the batch, with e_y = c_y / |c_y|.

    `student`, `teacher`: embeddings s, t (B, D); `centres`: the teacher's mean embedding c of
    each class (C, D); `target`: labels y (B). Wang et al. 2024, equation 8.
    """
    dims("B D", student=student, teacher=teacher)
    check_labels(student, target)
    direction = unit(centres.detach())[target]
    norms = (torch.linalg.vector_norm(x, dim=1) for x in (student, teacher.detach()))
    longer = torch.maximum(*norms)
    zero = longer == 0
    return (1 - (student * direction).sum(dim=1) / (longer + zero)).mean()


def calibrated_mse(errors: Tensor, attention: Tensor) -> Tensor:
    """sum over the teacher's stages of attention * error, mean over B and the student's stages.

    `errors`, `attention`: (B, stages of the student, stages of the teacher); neither is
    detached, as both are made from helper modules. Chen et al. 2021 (SemCKD), equation 6.
    """
    dims("B S T", errors=errors, attention=attention)
    return (errors * attention).sum(dim=2).mean()
