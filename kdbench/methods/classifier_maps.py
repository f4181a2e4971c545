"""Finding the map that a network's classifier reads."""

from collections.abc import Iterable, Mapping
from math import isqrt

from torch import Tensor, nn

from kdbench import losses
from kdbench.methods.base import Incompatible
from kdbench.methods.common import parameter_shape, shape, stages
from kdbench.methods.review import as_maps
from kdbench.methods.types import Shapes
from kdbench.models.output import Output


def check_classifier_maps(shapes: Shapes, roles: Iterable[str], pattern: str) -> None:
    """Raise `Incompatible` unless the classifier of each role reads the channels of the last
    stage: their means over positions, or a square of positions, flattened."""
    last = stages(shapes, roles, pattern)[-1]
    for role in roles:
        channels = shape(shapes, role, last)[0]
        width = parameter_shape(shapes, role, "classifier.weight")[1]
        positions, rest = divmod(width, channels)
        if rest or isqrt(positions) ** 2 != positions:
            raise Incompatible(
                f"the classifier of the {role} reads {width} values, which do not come from the "
                f"{channels} channels of {last}"
            )


def class_activations(output: Output, last: str) -> Tensor:
    """The class activation maps of a network (batch x classes x height x width)."""
    maps, weight = output.features[last], output.parameters["classifier.weight"]
    channels = maps.shape[1]
    if weight.shape[1] != channels:
        side = isqrt(weight.shape[1] // channels)
        maps = output.features["embedding"].reshape(-1, channels, side, side)
    return losses.class_maps(maps, weight)


def regions(output: Output, last: str, scales: int) -> Tensor:
    """The logits of a network for the regions of grids of 1x1, 2x2, 4x4 .. cells (batch x
    classes x regions)."""
    bias = output.parameters["classifier.bias"]
    grids = tuple(2**scale for scale in range(scales))
    return losses.region_logits(class_activations(output, last), bias, grids)


class ClassifierInput(nn.Module):
    """Predicts what the teacher's classifier reads from the student's features at `layer`, by a
    `projector` between maps; a vector is a map of one position."""

    def __init__(self, layer: str, projector: nn.Module) -> None:
        super().__init__()
        self.layer, self.projector = layer, projector

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """batch x channels x height x width; the classifier reads the mean over positions."""
        predicted: Tensor = self.projector(as_maps(features[self.layer]))
        return predicted


def classifier_source(shapes: Shapes, pattern: str) -> tuple[str, int, int]:
    """The student's layer from which to predict what the teacher's classifier reads, its
    channels, and the width of the classifier: the last stage where the classifier reads the
    means of a stage's channels, else the embedding."""
    last = stages(shapes, ("student", "teacher"), pattern)[-1]
    width = parameter_shape(shapes, "teacher", "classifier.weight")[1]
    layer = last if width == shape(shapes, "teacher", last)[0] else "embedding"
    return layer, shape(shapes, "student", layer)[0], width
