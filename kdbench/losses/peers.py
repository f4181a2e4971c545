"""Targets that networks or branches make together."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kdbench.losses._checks import dims


def gated_logits(logits: Sequence[Tensor], gate: Tensor) -> Tensor:
    """sum_i g_i z_i: the logits (B, C) of an ensemble of n branches.

    `logits`: n tensors (B, C); `gate`: the branches' weights g (B, n). Nothing is detached.
    Lan et al. 2018, equation 3.
    """
    if gate.shape[1:] != (len(logits),):
        raise ValueError(f"the gate has shape {tuple(gate.shape)} for {len(logits)} branches")
    dims("B C", **{f"branch {i}": z for i, z in enumerate(logits, 1)})
    return torch.einsum("bn,nbc->bc", gate, torch.stack(list(logits)))


def attended_logits(logits: Sequence[Tensor], queries: Tensor, keys: Tensor) -> list[Tensor]:
    """For each peer a: sum_b a_ab z_b with a_ab = softmax over b of <q_a, k_b>.

    `logits`: n tensors (B, C); `queries`, `keys`: n projected embeddings (n, B, D). Nothing is
    detached. Chen et al. 2020 (OKDDip), equations 4 and 5.
    """
    dims("N B D", queries=queries, keys=keys)
    dims("B C", **{f"peer {i}": z for i, z in enumerate(logits, 1)})
    attention = torch.einsum("abd,cbd->bac", queries, keys).softmax(dim=2)
    return list(torch.einsum("bac,cbk->abk", attention, torch.stack(list(logits))))


def mutual_kl(
    student: Tensor, target: Tensor, temperature: float | Tensor = 1.0, eps: float = 1e-7
) -> Tensor:
    """sum_c (p_t(c) + eps) log((p_t(c) + eps) / p_s(c)) with p = softmax(z / T), mean over the
    batch; no T**2. The target is not detached: a gradient reaches it too.

    `student`, `target`: logits (B, C). Up to eps the KL(p_t || p_s), as in the authors' code of
    ONE (Lan et al. 2018) and OKDDip (Chen et al. 2020).
    """
    dims("B C", student=student, target=target)
    ours = F.log_softmax(student / temperature, dim=1)
    theirs = F.softmax(target / temperature, dim=1) + eps
    return F.kl_div(ours, theirs, reduction="batchmean")
