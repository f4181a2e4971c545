"""What a network answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Output:
    """What one network said about one batch.

    `logits` is batch x classes. `features` holds the feature maps (batch x channels x
    height x width) and embeddings (batch x width) that the method asked for, by name.
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)
