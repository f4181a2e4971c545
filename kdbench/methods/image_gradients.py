"""Gradients with respect to images, for the methods that read them."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from kdbench.methods.types import Score
from kdbench.models.output import Output


def with_image_gradient(
    network: Callable[[Tensor], Output],
    images: Tensor,
    labels: Tensor,
    score: Score,
    trained: bool,
) -> Output:
    """What `network` answers to `images`, with the gradient of the sum of `score` over the batch
    with respect to them.

    A gradient of the loss passes through all of it where the network is `trained`, and through
    nothing of it otherwise.
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        output = network(images)
        total = score(output.logits, labels).sum()
        (gradient,) = torch.autograd.grad(total, images, create_graph=trained)
    if trained:
        return replace(output, image_gradient=gradient)
    features = {layer: value.detach() for layer, value in output.features.items()}
    return Output(output.logits.detach(), features, output.parameters, gradient)
