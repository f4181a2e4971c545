"""The output of a network."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Output:
    """The output of one network for one batch.

    `logits` is batch x classes. `features` holds the feature maps (batch x channels x
    height x width) and embeddings (batch x width) that the method asked for, by layer.
    `parameters` are some of the network's own, by name, as `kdbench.models.parameter_shapes`
    describes them: a gradient reaches those of a trained network. `image_gradient` (as the images)
    is the gradient with respect to the images that the method asked for
    (`Method.image_score`), None where it asked for none.
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    image_gradient: Tensor | None = None
