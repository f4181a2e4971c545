"""Losses that read the networks' classifiers."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kdbench.losses._checks import check_labels, dims
from kdbench.losses.affinities import unit
from kdbench.losses.features import pool
from kdbench.losses.logits import binary, other_classes, ranking

#: Guards the divisions of Sinkhorn's iterations, as in the authors' code.
SINKHORN_EPS = 1e-8


def class_maps(maps: Tensor, weight: Tensor) -> Tensor:
    """What each position of a map adds to each logit, times the number of positions: the mean
    over positions is the logits less the bias. Class activation maps (B, K, H, W).

    `maps`: (B, C, H, W); `weight` of the classifier: (K, C), where it reads the mean over
    positions, or (K, C * H * W), where it reads the flattened map. Zhou et al. 2016.
    """
    _, channels, height, width = maps.shape
    if weight.shape[1] == channels:
        return torch.einsum("bchw,kc->bkhw", maps, weight)
    if weight.shape[1] != channels * height * width:
        raise ValueError(
            f"the classifier reads {weight.shape[1]} values, the map has {channels} channels and "
            f"{height} x {width} positions"
        )
    each = weight.reshape(-1, channels, height, width)
    return torch.einsum("bchw,kchw->bkhw", maps, each) * (height * width)


def class_map_mse(
    student: Tensor, teacher: Tensor, resolution: int = 2, normalised: bool = False
) -> Tensor:
    """mean over all entries of (A_s - A_t)**2, A the class activation maps, average-pooled to
    `resolution` x `resolution` and, if `normalised`, each divided by its L2 norm.

    `student`, `teacher`: class activation maps (B, K, h, w). Guo et al. 2023 (CAT-KD),
    equation 6.
    """
    dims("B K h w", student=student, teacher=teacher)
    size = resolution, resolution
    ours, theirs = (pool(maps, size).flatten(2) for maps in (student, teacher.detach()))
    return F.mse_loss(unit(ours), unit(theirs)) if normalised else F.mse_loss(ours, theirs)


def region_logits(maps: Tensor, bias: Tensor, scales: tuple[int, ...]) -> Tensor:
    """The classifier's logits for regions of the image (B, K, R): class activation maps
    averaged over the cells of a grid for each of `scales`, in row order, plus the bias.

    `maps`: class activation maps (B, K, H, W); `bias`: (K).
    """
    cells = [pool(maps, (scale, scale)).flatten(2) for scale in scales]
    return torch.cat(cells, dim=2) + bias[:, None]


def region_kl(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float | Tensor = 1.0
) -> Tensor:
    """w KL(p_t || p_s) with p = softmax(z / T), mean over batch and regions; no T**2.

    w is 2 where the teacher is right about the whole image and wrong about the region or the
    other way round, else 1. `student`, `teacher`: region logits (B, K, R), region 0 the whole
    image; `target`: labels y (B). Wei et al. 2024 (SDD), equation 9.
    """
    dims("B K R", student=student, teacher=teacher)
    check_labels(student, target)
    pair = student, teacher.detach()
    ours, theirs = (F.log_softmax(z / temperature, dim=1) for z in pair)
    return (_complementary(teacher, target) * _kl(ours, theirs)).mean()


def region_decoupled_kl(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float | Tensor = 1.0
) -> tuple[Tensor, Tensor]:
    """(w TCKD, w NCKD), means over batch and regions; no T**2: the two terms of `decoupled_kl`
    with the weights w of `region_kl`.

    `student`, `teacher`: region logits (B, K, R), region 0 the whole image; `target`: labels y
    (B). Wei et al. 2024 (SDD), section 3.3.
    """
    dims("B K R", student=student, teacher=teacher)
    check_labels(student, target)
    classes, regions = student.shape[1:]
    weights = _complementary(teacher, target).flatten()
    labels = target.repeat_interleave(regions)
    others = other_classes(labels, classes)
    rows = [z.transpose(1, 2).reshape(-1, classes) for z in (student, teacher.detach())]
    label = _kl(*(binary(z / temperature, labels, others) for z in rows))
    rest = _kl(*(ranking(z / temperature, others) for z in rows))
    return (weights * label).mean(), (weights * rest).mean()


def _complementary(teacher: Tensor, target: Tensor) -> Tensor:
    """The weights of the regions (B, R)."""
    right = teacher.detach().argmax(dim=1) == target[:, None]
    return 1 + (right != right[:, :1]).to(teacher.dtype)


def _kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL of log-probabilities over the classes, of each row or region."""
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)


def class_costs(weight: Tensor, sharpness: float = 1.0) -> Tensor:
    """1 - exp(-sharpness * (1 - cos(w_i, w_j))): how unlike two classes are (K, K).

    `weight` of a classifier: (K, C). Lv et al. 2024 (WKD), section 3.1.
    """
    rows = unit(weight.detach())
    return 1 - (-sharpness * (1 - rows @ rows.T)).exp()


def wasserstein_of_others(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    costs: Tensor,
    temperature: float | Tensor = 1.0,
    regularisation: float = 0.05,
    iterations: int = 10,
) -> Tensor:
    """sum of flow * cost, mean over the batch, for the flow between the distributions of
    student and teacher over the classes other than y that Sinkhorn's iterations find.

    The distributions are the softmax of z / T. `student`, `teacher`: logits (B, C); `target`:
    labels y (B); `costs`: between classes (C, C). Lv et al. 2024 (WKD), equation 4.
    """
    dims("B C", student=student, teacher=teacher)
    check_labels(student, target)
    others = other_classes(target, student.shape[1])
    ours, theirs = (
        F.softmax(z.gather(1, others) / temperature, dim=1)[:, :, None]
        for z in (student, teacher.detach())
    )
    cost = costs.detach()[others[:, :, None], others[:, None, :]].clamp(min=0) + 1e-8
    kernel = (-cost / regularisation).exp()
    rows = torch.full_like(ours, 1 / ours.shape[1])
    for _ in range(iterations):
        columns = theirs / (kernel.mT @ rows + SINKHORN_EPS)
        rows = ours / (kernel @ columns + SINKHORN_EPS)
    return (rows * kernel * columns.mT * cost).sum(dim=(1, 2)).mean()
