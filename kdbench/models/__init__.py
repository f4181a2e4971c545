"""The model zoo: networks by name, each with named taps.

A model is an `nn.Module` from normalised images (batch x channels x height x width) to
logits (batch x classes) with an attribute `nodes` that maps tap names to node names of
`torchvision.models.feature_extraction`: `stage1..n` (feature maps), `stage1_pre..n`
(before the activation), `embedding` (the vector before the classifier) and `logits`.

Other packages join through the entry-point group `kdbench.models`: the entry's name is
the model's, its object a callable `(image_shape, classes) -> nn.Module` of that kind. An
attribute `paper` of the object says where the model comes from.
"""

from kdbench.models.output import Output
from kdbench.models.tapped import Tapped, macs, tapped, taps_of, to_device
from kdbench.models.zoo import MODELS, build, paper_of

__all__ = [
    "MODELS",
    "Output",
    "Tapped",
    "build",
    "macs",
    "paper_of",
    "tapped",
    "taps_of",
    "to_device",
]
