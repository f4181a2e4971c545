"""Heads that students are deployed with."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdbench import losses
from kdbench.methods.projections import conv_bn
from kdbench.methods.review import as_maps
from kdbench.models.output import Output


def bottleneck(source: int, target: int, factor: int) -> nn.Sequential:
    """1x1, 3x3 and 1x1 convolutions, each with batch normalisation and ReLU; between them there
    are `factor` times fewer channels than `target`."""
    between = max(1, target // factor)
    return nn.Sequential(
        conv_bn(source, between, running=True),
        nn.ReLU(),
        conv_bn(between, between, 3, running=True),
        nn.ReLU(),
        conv_bn(between, target, running=True),
        nn.ReLU(),
    )


class ReusedClassifier(nn.Module):
    """Answers with a teacher's linear classifier on the means over positions of what `projector`
    makes of the student's map at `layer`, average-pooled to `size`; a vector is a map of one
    position. The loss reads the projected map as `projected`.

    The teacher's weight and bias are buffers, 0 until the first `reuse`.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self, layer: str, projector: nn.Module, size: tuple[int, int], classifier: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.layer, self.projector, self.size = layer, projector, size
        self.register_buffer("weight", torch.zeros(classifier))
        self.register_buffer("bias", torch.zeros(classifier[0]))

    def reuse(self, weight: Tensor, bias: Tensor) -> None:
        """Take a teacher's classifier."""
        with torch.no_grad():
            self.weight.copy_(weight)
            self.bias.copy_(bias)

    def forward(self, features: Mapping[str, Tensor], _: Mapping[str, Tensor]) -> Output:
        projected = self.projector(losses.pool(as_maps(features[self.layer]), self.size))
        logits = F.linear(projected.mean(dim=(2, 3)), self.weight, self.bias)
        return Output(logits, {"projected": projected})


class FeatureTransform(nn.Module):
    """Adds to the student's map what a linear expansion to `expanded` channels and a linear
    contraction make of it, before the student's own classifier; the loss reads `expanded`."""

    def __init__(self, layer: str, channels: int, expanded: int) -> None:
        super().__init__()
        self.layer = layer
        self.expand = conv_bn(channels, expanded, running=True)
        self.contract = conv_bn(expanded, channels, running=True)

    def forward(self, features: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> Output:
        maps = as_maps(features[self.layer])
        expanded = self.expand(maps)
        vector = (maps + self.contract(expanded)).mean(dim=(2, 3))
        weight, bias = (parameters[f"classifier.{p}"] for p in ("weight", "bias"))
        return Output(F.linear(vector, weight, bias), {"expanded": expanded})
