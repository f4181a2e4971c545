"""Distillation losses: pure functions, tensors in, one scalar out.

Every loss takes the student first and what the student is compared with second; the
second is detached, so no gradient reaches a teacher, a peer or a snapshot. Sizes that do
not match raise `ValueError`. The losses apply no weights: those belong to the methods.
"""

from kdbench.losses.affinities import affinity_kl, correlation_congruence, rbf_mse
from kdbench.losses.channels import channel_correlation, selectivity
from kdbench.losses.class_relations import (
    correlation_distance,
    gram_distance,
)
from kdbench.losses.classifiers import (
    class_costs,
    class_map_mse,
    class_maps,
    region_decoupled_kl,
    region_kl,
    region_logits,
    wasserstein_of_others,
)
from kdbench.losses.contrast import noise_contrastive, other_class_examples, pair_scores
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
    feature_norm,
    n_to_one,
    pool,
    pool_width,
    smaller_size,
)
from kdbench.losses.gaussians import gaussian_nll, wasserstein
from kdbench.losses.image_gradients import (
    cross_entropies,
    gradient_direction_mse,
    gradient_distance,
    label_logits,
)
from kdbench.losses.information import (
    correlation_entropy,
    direction_gap,
    mutual_information,
    relation_cross_entropy,
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
from kdbench.losses.margins import margins, partial_l2
from kdbench.losses.peers import attended_logits, gated_logits, mutual_kl
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
from kdbench.losses.refined_targets import (
    enhanced_cross_entropy,
    normalised_cross_entropy,
    refined_kl,
    sure_cross_entropy,
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
from kdbench.losses.self_targets import masked_cross_entropy, masked_kl, mean_gap

__all__ = [
    "activation_boundary",
    "affinity_kl",
    "alpha_beta_divergence",
    "angle",
    "attended_logits",
    "attention",
    "attention_transfer",
    "binary_kl",
    "calibrated_mse",
    "channel_correlation",
    "class_costs",
    "class_map_mse",
    "class_maps",
    "correlation_congruence",
    "correlation_distance",
    "correlation_entropy",
    "cosine",
    "cross_entropies",
    "decoupled_kl",
    "direction_gap",
    "distance",
    "enhanced_cross_entropy",
    "factor_attention_l1",
    "factor_l1",
    "feature_mse",
    "feature_norm",
    "feature_sse",
    "flow",
    "flow_mse",
    "gated_logits",
    "gaussian_nll",
    "gradient_direction_mse",
    "gradient_distance",
    "gram_distance",
    "hierarchical_context",
    "kl",
    "kl_to_log_probs",
    "label_logits",
    "log_mean_probs",
    "log_power_error",
    "logit_mse",
    "logit_variance",
    "margins",
    "masked_cross_entropy",
    "masked_kl",
    "mean_gap",
    "min_logit",
    "mutual_information",
    "mutual_kl",
    "n_to_one",
    "noise_contrastive",
    "norm_and_direction",
    "normalised_cross_entropy",
    "normalised_kl",
    "normalised_smooth_l1",
    "other_class_examples",
    "pair_scores",
    "partial_l2",
    "pool",
    "pool_width",
    "probability_mse",
    "rbf_mse",
    "refined_kl",
    "region_decoupled_kl",
    "region_kl",
    "region_logits",
    "relation_cross_entropy",
    "scale_gradient",
    "selectivity",
    "similarity",
    "smaller_size",
    "soft_cross_entropy",
    "standardise",
    "sure_cross_entropy",
    "tempered_kl",
    "transformed_kl",
    "uniform_cross_entropy",
    "virtual_teacher",
    "wasserstein",
    "wasserstein_of_others",
    "weighted_soft_cross_entropy",
    "weighted_transformed_kl",
]
