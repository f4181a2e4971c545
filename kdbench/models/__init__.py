"""The model zoo: networks by name, each with named layers.

A model is an `nn.Module` from normalised images (batch x channels x height x width) to
logits (batch x classes) with an attribute `nodes` that maps layer names to node names of
`torchvision.models.feature_extraction`: `stage1..n` (feature maps), `stage1_pre..n`
(before the activation), `embedding` (the vector before the classifier) and `logits`.

An optional attribute `norms` maps layers before the activation to the names of the batch
normalisations that scale and shift them.

Other packages add models through the entry-point group `kdbench.models`: the name of the
entry is that of the model, its object a callable `(image_shape, classes) -> nn.Module`
that returns such a module. An optional attribute `paper` of the object is the model's
paper.
"""

from kdbench.models.features import (
    FeatureModel,
    feature_shapes,
    macs,
    to_device,
    with_features,
)
from kdbench.models.headed import (
    DeployedModel,
    HeadedModel,
    answer,
    headed_macs,
    unused_parameters,
    with_head,
)
from kdbench.models.output import Output
from kdbench.models.parameters import own_parameters, parameter_shapes
from kdbench.models.zoo import MODELS, BrokenModel, Builder, ImageShape, build, paper_of
from kdbench.registry import Paper

__all__ = [
    "MODELS",
    "BrokenModel",
    "Builder",
    "DeployedModel",
    "FeatureModel",
    "HeadedModel",
    "ImageShape",
    "Output",
    "Paper",
    "answer",
    "build",
    "feature_shapes",
    "headed_macs",
    "macs",
    "own_parameters",
    "paper_of",
    "parameter_shapes",
    "to_device",
    "unused_parameters",
    "with_features",
    "with_head",
]
