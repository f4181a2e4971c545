"""Losses that tell an example's own pair from those of other examples."""

import torch
from torch import Tensor

from kdbench.losses._checks import dims

#: Guards the division, as in the authors' code.
EPS = 1e-7


def noise_contrastive(scores: Tensor, examples: int) -> Tensor:
    """-log(h(p_0)) - sum over k > 0 of log(1 - h(p_k)), mean over the batch, with
    h(p) = p / (p + K / N).

    `scores`: unnormalised probabilities p (B, K + 1) of the example's own pair, first, and of K
    others; `examples`: N, among which the others are drawn. Tian et al. 2020 (CRD), equation
    18, with the authors' noise probability of 1 / N.
    """
    dims("B k", scores=scores)
    noise = (scores.shape[1] - 1) / examples
    own, others = scores[:, 0], scores[:, 1:]
    paired = (own / (own + noise + EPS)).log()
    unpaired = (noise / (others + noise + EPS)).log().sum(dim=1)
    return -(paired + unpaired).mean()


def pair_scores(vectors: Tensor, memory: Tensor, index: Tensor, temperature: float) -> Tensor:
    """exp(<x_b, m_i> / temperature) for each i in the row of the index: (B, K + 1).

    `vectors`: (B, D); `memory`: rows m of all examples (N, D), constants; `index`: examples
    (B, K + 1).
    """
    dims("B D", vectors=vectors)
    dims("B k", index=index, **{"the vectors' batch": vectors[:, :1]})
    # All products at once: they take less memory than K + 1 rows for each example.
    return ((vectors @ memory.detach().T).gather(1, index) / temperature).exp()


def other_class_examples(labels: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """For each of `share` (B, K), uniform in [0, 1), one of the examples whose label is known
    and not y (B, K); the last example of all where there is none.

    `labels`: of all examples, -1 where unknown (N); `target`: labels y (B).
    """
    known = (labels != target[:, None]) & (labels >= 0)
    counts, last = known.cumsum(dim=1), len(labels)
    # A row's examples in order, all others written to a column that is never read.
    place = torch.where(known, counts - 1, last)
    examples = torch.arange(last, device=labels.device).expand_as(place)
    found = torch.full((len(target), last + 1), last - 1, device=labels.device)
    return found.scatter(1, place, examples).gather(1, (share * counts[:, -1:]).long())
