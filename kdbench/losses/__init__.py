"""Distillation losses: pure functions, tensors in, one scalar out.

Every loss takes the student first and what it is compared with second; the second is
detached inside, so that no loss can send a gradient into a teacher, a peer or a
snapshot. Sizes that do not fit raise `ValueError`. No weight is applied unless the
function says so: weights belong to the methods.
"""

from kdbench.losses.activations import activation_boundary
from kdbench.losses.attention import attention, attention_transfer
from kdbench.losses.decoupled import decoupled_kl
from kdbench.losses.features import cosine, feature_mse
from kdbench.losses.logits import (
    kl,
    kl_to_log_probs,
    logit_mse,
    probability_mse,
    soft_cross_entropy,
    uniform_cross_entropy,
)
from kdbench.losses.pooling import pool, pool_width, smaller_size
from kdbench.losses.relations import angle, distance, flow, flow_mse, similarity
from kdbench.losses.targets import log_mean_probs, min_logit

__all__ = [
    "activation_boundary",
    "angle",
    "attention",
    "attention_transfer",
    "cosine",
    "decoupled_kl",
    "distance",
    "feature_mse",
    "flow",
    "flow_mse",
    "kl",
    "kl_to_log_probs",
    "log_mean_probs",
    "logit_mse",
    "min_logit",
    "pool",
    "pool_width",
    "probability_mse",
    "similarity",
    "smaller_size",
    "soft_cross_entropy",
    "uniform_cross_entropy",
]
