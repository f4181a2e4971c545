"""Distillation losses: pure functions, tensors in, one scalar out.

Every loss takes the student first and what the student is compared with second; the
second is detached, so no gradient reaches a teacher, a peer or a snapshot. Sizes that do
not match raise `ValueError`. The losses apply no weights: those belong to the methods.
"""

from kdbench.losses.class_relations import (
    correlation_distance,
    gram_distance,
)
from kdbench.losses.divergences import (
    alpha_beta_divergence,
    binary_kl,
    logit_variance,
    transformed_kl,
    weighted_transformed_kl,
)
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
from kdbench.losses.refined_targets import (
    enhanced_cross_entropy,
    normalised_cross_entropy,
    refined_kl,
    virtual_teacher,
    weighted_soft_cross_entropy,
)
from kdbench.losses.relations import angle, distance, flow, flow_mse, similarity
from kdbench.losses.scales import (
    normalised_kl,
    scale_gradient,
    standardise,
    tempered_kl,
)

__all__ = [
    "activation_boundary",
    "alpha_beta_divergence",
    "angle",
    "attention",
    "attention_transfer",
    "binary_kl",
    "correlation_distance",
    "cosine",
    "decoupled_kl",
    "distance",
    "enhanced_cross_entropy",
    "feature_mse",
    "flow",
    "flow_mse",
    "gram_distance",
    "kl",
    "kl_to_log_probs",
    "log_mean_probs",
    "logit_mse",
    "logit_variance",
    "min_logit",
    "normalised_cross_entropy",
    "normalised_kl",
    "pool",
    "pool_width",
    "probability_mse",
    "refined_kl",
    "scale_gradient",
    "similarity",
    "smaller_size",
    "soft_cross_entropy",
    "standardise",
    "tempered_kl",
    "transformed_kl",
    "uniform_cross_entropy",
    "virtual_teacher",
    "weighted_soft_cross_entropy",
    "weighted_transformed_kl",
]
