"""A network that sees other images than the study's: scaled to its own size, and normalised by the
mean and standard deviation that it was trained with."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdbench.models.names import NetworkInput


class InputLayer(nn.Module):
    """Images of the study (B x channels x height x width, normalised by its data) as the network
    takes them. Holds nothing that is trained or saved."""

    scale: Tensor
    shift: Tensor

    def __init__(self, given: NetworkInput) -> None:
        super().__init__()
        self.size, self.normalises = given.size, bool(given.scale)
        for name, values in (("scale", given.scale), ("shift", given.shift)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Scaled (bilinear, antialiased), then normalised anew."""
        if self.size:
            size = (self.size, self.size)
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        return images * self.scale + self.shift if self.normalises else images


def with_input_layer(model: nn.Module, given: NetworkInput) -> nn.Module:
    """`model` itself, which passes its images through an `InputLayer` first.

    Its class is replaced by one derived from it, so that the names of its layers and weights
    stay as they are.
    """
    kind: Any = type(model)

    def forward(self: Any, images: Tensor) -> Any:
        return kind.forward(self, self.input_layer(images))

    def layers(self: Any) -> Iterator[nn.Module]:
        # nn.Sequential runs what it iterates over; the images have been through this one.
        return (m for name, m in self._modules.items() if name != "input_layer")

    own = {"__iter__": layers} if isinstance(model, nn.Sequential) else {}
    model.input_layer = InputLayer(given)
    model.__class__ = type(kind.__name__, (kind,), {"forward": forward, **own})
    return model
