"""Distillation losses: pure functions, tensors in, one scalar out.

Every loss takes the student first and what the student is compared with second; the
second is detached, so no gradient reaches a teacher, a peer or a snapshot. Sizes that do
not match raise `ValueError`. The losses apply no weights: those belong to the methods.
"""

from kdbench.losses.affinities import affinity_kl, correlation_congruence, rbf_mse
from kdbench.losses.channels import channel_correlation, selectivity
from kdbench.losses.features import (
    activation_boundary,
    attention,
    attention_transfer,
    cosine,
    feature_mse,
    pool,
    pool_width,
    smaller_size,
)
from kdbench.losses.gaussians import gaussian_nll, wasserstein
from kdbench.losses.logits import (
    decoupled_kl,
    kl,
    kl_to_log_probs,
    log_mean_probs,
    logit_mse,
    min_logit,
    probability_mse,
    soft_cross_entropy,
    uniform_cross_entropy,
)
from kdbench.losses.relations import angle, distance, flow, flow_mse, similarity

__all__ = [
    "activation_boundary",
    "affinity_kl",
    "angle",
    "attention",
    "attention_transfer",
    "channel_correlation",
    "correlation_congruence",
    "cosine",
    "decoupled_kl",
    "distance",
    "feature_mse",
    "flow",
    "flow_mse",
    "gaussian_nll",
    "kl",
    "kl_to_log_probs",
    "log_mean_probs",
    "logit_mse",
    "min_logit",
    "pool",
    "pool_width",
    "probability_mse",
    "rbf_mse",
    "selectivity",
    "similarity",
    "smaller_size",
    "soft_cross_entropy",
    "uniform_cross_entropy",
    "wasserstein",
]
