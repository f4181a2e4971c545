"""Networks that answer through a head in place of their own classifier."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdbench import models
from kdbench.models import Output

SHAPE, CLASSES = (3, 16, 16), 10


class OwnClassifier(nn.Module):
    """The network's own classifier as a head."""

    def forward(self, features, parameters):
        weight, bias = (parameters[f"classifier.{p}"] for p in ("weight", "bias"))
        logits = F.linear(features["embedding"], weight, bias)
        return Output(logits, {"doubled": 2 * features["embedding"]})


class Fresh(nn.Module):
    """A classifier of its own on the first stage."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, CLASSES)

    def forward(self, features, parameters):
        return Output(self.layer(features["stage1"].mean(dim=(2, 3))))


@pytest.fixture
def network():
    return models.build("resnet8", SHAPE, CLASSES)


def test_the_logits_come_from_the_head(network):
    images = torch.randn(4, *SHAPE)
    output = models.with_head(network, ["embedding", "stage1"], OwnClassifier())(images)
    plain = models.with_features(network, ["embedding", "stage1"])(images)
    torch.testing.assert_close(output.logits, plain.logits)
    assert set(output.features) == {"embedding", "stage1", "doubled"}
    torch.testing.assert_close(output.features["doubled"], 2 * plain.features["embedding"])
    assert output.parameters.keys() == plain.parameters.keys()


def test_a_network_may_have_a_part_called_features():
    network = models.build("lightnn", SHAPE, CLASSES)
    output = models.with_head(network, ["stage1"], Fresh())(torch.randn(2, *SHAPE))
    assert output.logits.shape == (2, CLASSES)


def test_what_no_head_reads_is_not_computed(network):
    network.classifier.register_forward_hook(lambda *_: pytest.fail("computed"))
    network.stage2.register_forward_hook(lambda *_: pytest.fail("computed"))
    models.with_head(network, ["stage1"], Fresh())(torch.randn(2, *SHAPE))


def test_it_shares_the_networks_tensors_and_modes(network):
    head = Fresh()
    headed = models.with_head(network, ["stage1"], head)
    headed.eval()
    assert not network.conv.training
    assert not head.training
    headed(torch.randn(2, *SHAPE)).logits.sum().backward()
    assert network.conv.weight.grad is not None
    assert head.layer.weight.grad is not None
    assert network.classifier.weight.grad is None


def test_a_deployed_network_gives_logits_and_more_layers_when_asked(network):
    images = torch.randn(4, *SHAPE)
    deployed = models.DeployedModel(models.with_head(network, ["stage1"], Fresh())).eval()
    output = deployed.with_features(["stage3"]).eval()(images)
    assert torch.equal(deployed(images), output.logits)
    assert set(output.features) == {"stage1", "stage3"}
    assert output.parameters.keys() == models.own_parameters(network).keys()
    twin = copy.deepcopy(deployed)
    assert torch.equal(twin(images), deployed(images))
    with torch.no_grad():
        network.conv.weight.zero_()
    assert not torch.equal(twin(images), deployed(images))


def test_unused_parameters_are_those_the_logits_do_not_depend_on(network):
    setting = "resnet8", SHAPE, CLASSES
    own = OwnClassifier()
    assert models.unused_parameters(*setting, ["embedding"], own) == set()
    unused = models.unused_parameters(*setting, ["stage1", "embedding"], Fresh())
    later = ("stage2", "stage3", "classifier")
    names = dict(network.named_parameters())
    assert unused == {n for n in names if n.startswith(later)}


def test_macs_are_those_of_what_is_computed():
    setting = "resnet8", SHAPE, CLASSES
    own = models.headed_macs(*setting, ["embedding"], OwnClassifier())
    assert own == models.macs(*setting)
    stage1 = (3 * 16 + 2 * 16 * 16) * 9 * 16 * 16
    assert models.headed_macs(*setting, ["stage1"], Fresh()) == stage1 + 16 * CLASSES


def test_a_layer_that_is_not_there_is_named(network):
    with pytest.raises(ValueError, match="resnet8 has no layer 'stage7'"):
        models.with_head(network, ["stage7"], Fresh())
