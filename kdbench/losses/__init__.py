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
from kdbench.losses.projected import (
    calibrated_mse,
    factor_attention_l1,
    factor_l1,
    feature_sse,
    hierarchical_context,
    log_power_error,
    norm_and_direction,
    normalised_smooth_l1,
)
from kdbench.losses.relations import angle, distance, flow, flow_mse, similarity

__all__ = [
    "activation_boundary",
    "affinity_kl",
    "angle",
    "attention",
    "attention_transfer",
    "calibrated_mse",
    "channel_correlation",
    "correlation_congruence",
    "cosine",
    "decoupled_kl",
    "distance",
    "factor_attention_l1",
    "factor_l1",
    "feature_mse",
    "feature_sse",
    "flow",
    "flow_mse",
    "gaussian_nll",
    "hierarchical_context",
    "kl",
    "kl_to_log_probs",
    "log_mean_probs",
    "log_power_error",
    "logit_mse",
    "min_logit",
    "norm_and_direction",
    "normalised_smooth_l1",
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
