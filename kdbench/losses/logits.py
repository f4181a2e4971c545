"""Losses between class distributions or logits."""

from torch import Tensor
from torch.nn import functional as F

from kdbench.losses._checks import dims


def kl_to_log_probs(student: Tensor, target: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """KL(q || p) with p = softmax(z_s / T) and q = exp(target), mean over the batch.

    `student`: logits z_s (B, C). `target`: log-probabilities log q (B, C), already at
    temperature T. No T**2. The reduction is `batchmean`: PyTorch's `mean` would divide
    by the class count as well.
    """
    dims("B C", student=student, target=target)
    log_probs = F.log_softmax(student / temperature, dim=1)
    return F.kl_div(log_probs, target.detach(), reduction="batchmean", log_target=True)


def kl(student: Tensor, teacher: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """KL(p_t || p_s) with p = softmax(z / T), mean over the batch; no T**2.

    `student`, `teacher`: logits (B, C). Hinton, Vinyals, Dean 2015, section 2.
    """
    dims("B C", student=student, teacher=teacher)
    return kl_to_log_probs(student, F.log_softmax(teacher / temperature, dim=1), temperature)


def soft_cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """-sum_c p_t(c) log p_s(c), mean over the batch.

    `student`, `teacher`: logits (B, C). It differs from `kl` at temperature 1 by the
    entropy of p_t: the gradient is the same. Kim et al. 2021 (PS-KD), equation 3.
    """
    dims("B C", student=student, teacher=teacher)
    return F.cross_entropy(student, F.softmax(teacher.detach(), dim=1))


def uniform_cross_entropy(student: Tensor) -> Tensor:
    """-(1 / C) sum_c log p_s(c), mean over the batch: cross-entropy against the uniform
    distribution over all C classes.

    `student`: logits (B, C). Szegedy et al. 2016, section 7.
    """
    dims("B C", student=student)
    return -F.log_softmax(student, dim=1).mean()


def probability_mse(student: Tensor, teacher: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """mean over B and C of (p_s - p_t)**2 with p = softmax(z / T); no T**2.

    `student`, `teacher`: logits (B, C). KD_Lib's soft loss without its weight.
    """
    dims("B C", student=student, teacher=teacher)
    target = F.softmax(teacher.detach() / temperature, dim=1)
    return F.mse_loss(F.softmax(student / temperature, dim=1), target)


def logit_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """mean over B and C of (z_s - z_t)**2.

    `student`, `teacher`: logits (B, C). Ba and Caruana 2014, equation 1 (there the sum
    over classes); Kim et al. 2021.
    """
    dims("B C", student=student, teacher=teacher)
    return F.mse_loss(student, teacher.detach())
