"""Networks that answer through a head in place of their own classifier."""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from kdbench.models.features import FeatureModel, count_macs, features_alone, with_features
from kdbench.models.output import Output
from kdbench.models.parameters import own_parameters
from kdbench.models.zoo import ImageShape, _triple, skeleton


class HeadedModel(nn.Module):
    """A network whose logits come from a `head`; its own classifier is not computed. Returns
    `Output`, see `answer`."""

    def __init__(self, network: FeatureModel, head: nn.Module) -> None:
        super().__init__()
        self.network, self.head = network, head

    def forward(self, images: Tensor) -> Output:
        features = features_alone(self.network, images)
        return answer(self.head, features, own_parameters(self.network))


class DeployedModel(nn.Module):
    """A network with its head: images to logits, as any model."""

    def __init__(self, headed: HeadedModel) -> None:
        super().__init__()
        self.headed = headed

    @property
    def network(self) -> FeatureModel:
        """The network without its head."""
        return self.headed.network

    def forward(self, images: Tensor) -> Tensor:
        output: Output = self.headed(images)
        return output.logits

    def with_features(self, layers: Sequence[str]) -> HeadedModel:
        """The same network, so that it also returns the features of `layers`."""
        return with_head(self.network, (*self.network.layer_names, *layers), self.headed.head)


def answer(
    head: nn.Module, features: Mapping[str, Tensor], parameters: Mapping[str, Tensor]
) -> Output:
    """The output of a network that answers through a head: the head's logits, and its features
    beside the network's own."""
    answered: Output = head(features, parameters)
    return Output(answered.logits, {**features, **answered.features}, parameters)


def with_head(model: nn.Module, layers: Sequence[str], head: nn.Module) -> HeadedModel:
    """A `model` made by `build` that answers through a `head`, which reads features of `layers`.

    Shares the tensors of both. Raises `ValueError` for a layer that the model lacks.
    """
    return HeadedModel(with_features(model, layers, classifier=False), head)


def headed_macs(
    name: str, image_shape: ImageShape, classes: int, layers: Sequence[str], head: nn.Module
) -> int:
    """The multiply-accumulates of one image's forward through the model `name` and a head."""
    return count_macs(*_skeleton(name, image_shape, classes, layers, head))


def unused_parameters(
    name: str, image_shape: ImageShape, classes: int, layers: Sequence[str], head: nn.Module
) -> set[str]:
    """The names of the parameters of the model `name` on which the logits of a head do not
    depend: those of the classifier that it replaces."""
    headed, images = _skeleton(name, image_shape, classes, layers, head)
    headed(images).logits.sum().backward()
    return {name for name, p in headed.network.named_parameters() if p.grad is None}


def _skeleton(
    name: str, image_shape: ImageShape, classes: int, layers: Sequence[str], head: nn.Module
) -> tuple[HeadedModel, Tensor]:
    """The model with a copy of the head, without storage, and one image."""
    model = skeleton(name, _triple(image_shape), classes)
    headed = with_head(model, layers, copy.deepcopy(head).to("meta"))
    return headed.eval(), torch.zeros(1, *image_shape, device="meta")
