"""The zoo: sizes against hand arithmetic, layers against their definition, and that asking for
layers changes nothing."""

import copy
import itertools
import math
import pickle
import re
from importlib.metadata import EntryPoint

import pytest
import torch
from torch import nn
from torch.nn import functional

from kdbench.models import zoo
from kdbench.models.features import _forwards as traced
from kdbench.models.features import feature_shapes, macs, to_device, with_features
from kdbench.models.resnet import PAPER as RESNET
from kdbench.models.zoo import MODELS, build, paper_of
from kdbench.registry import Registry

DIGITS, MNIST, CIFAR = (1, 8, 8), (1, 28, 28), (3, 32, 32)


def setting(name):
    """The image shape and the classes a model is usually used with."""
    if name.startswith("digits"):
        return DIGITS, 10
    if name.startswith("mnist"):
        return MNIST, 10
    return CIFAR, 10 if name in ("deepnn", "lightnn") else 100


EVERY = sorted(MODELS)
#: Deep models whose layers are of the kinds that the shallow ones of their family have.
DEEP = {n for n in EVERY if re.match(r"resnet(32|44|56|110)|wrn-40|vgg13", n)}
SMALL = [
    "lightnn",
    "mnist-cnn",
    "mnist-mlp",
    "digits-cnn",
    "digits-cnn-small",
    "resnet8",
    "wrn-16-1",
]


def make(name, seed=0):
    torch.manual_seed(seed)
    return build(name, *setting(name))


def images(name, count=4, seed=1):
    shape, _ = setting(name)
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def count(model):
    return sum(p.numel() for p in model.parameters())


# --- sizes ------------------------------------------------------------------------------


def conv(inputs, outputs, side=3, bias=False):
    return inputs * outputs * side * side + (outputs if bias else 0)


def linear(inputs, outputs):
    return inputs * outputs + outputs


def resnet_size(depth, channels, classes):
    blocks = (depth - 2) // 6
    total = conv(3, channels[0]) + 2 * channels[0]
    for before, here in itertools.pairwise(channels):
        total += conv(before, here) + conv(here, here) + 4 * here
        total += (blocks - 1) * (2 * conv(here, here) + 4 * here)
        # The second and third stage always change the height, the first only the channels.
        if before != here or here != channels[1]:
            total += conv(before, here, side=1) + 2 * here
    return total + linear(channels[-1], classes)


def wrn_size(depth, width, classes):
    blocks = (depth - 4) // 6
    total, before = conv(3, 16), 16
    for here in (16 * width, 32 * width, 64 * width):
        total += 2 * before + conv(before, here) + 2 * here + conv(here, here)
        total += (blocks - 1) * (2 * conv(here, here) + 4 * here)
        total += conv(before, here, side=1) if before != here else 0
        before = here
    return total + 2 * before + linear(before, classes)


def digits_size(depth):
    """`depth` convolutions a stage, each with a batch normalisation's scale and shift."""
    first = conv(1, 16) + (depth - 1) * conv(16, 16) + depth * 2 * 16
    second = conv(16, 32) + (depth - 1) * conv(32, 32) + depth * 2 * 32
    return first + second + linear(32 * 2 * 2, 10)


THIN, WIDE = (16, 16, 32, 64), (32, 64, 128, 256)
SIZES = {
    # Printed by the tutorial itself.
    "deepnn": 1_186_986,
    "lightnn": 267_738,
    "mnist-cnn": conv(1, 16, bias=True)
    + conv(16, 32, bias=True)
    + linear(32 * 7 * 7, 128)
    + linear(128, 10),
    "mnist-mlp": linear(784, 128) + linear(128, 10),
    "digits-cnn": digits_size(depth=3),
    "digits-cnn-medium": digits_size(depth=2),
    "digits-cnn-small": conv(1, 16, bias=True) + conv(16, 32, bias=True) + linear(128, 10),
    **{f"resnet{d}": resnet_size(d, THIN, 100) for d in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{d}x4": resnet_size(d, WIDE, 100) for d in (8, 32)},
    **{f"wrn-{d}-{w}": wrn_size(d, w, 100) for d in (16, 40) for w in (1, 2)},
    # Those of RepDistiller's networks.
    "resnet50": 23_705_252,
    "vgg8": 3_965_028,
    "vgg13": 9_462_180,
    "mobilenetv2": 812_836,
    "shufflenetv1": 949_258,
    "shufflenetv2": 1_355_528,
}
#: Millions, for 100 classes, as the tables of the distillation literature give them.
PUBLISHED = {
    "resnet8": 0.08,
    "resnet20": 0.28,
    "resnet32": 0.47,
    "resnet44": 0.67,
    "resnet56": 0.86,
    "resnet110": 1.74,
    "resnet8x4": 1.23,
    "resnet32x4": 7.43,
    "wrn-16-1": 0.18,
    "wrn-16-2": 0.70,
    "wrn-40-1": 0.57,
    "wrn-40-2": 2.26,
    "resnet50": 23.71,
    "vgg8": 3.97,
    "vgg13": 9.46,
    "mobilenetv2": 0.81,
    "shufflenetv1": 0.95,
    "shufflenetv2": 1.36,
}


@pytest.mark.parametrize("name", SIZES)
def test_parameter_count(name):
    with torch.device("meta"):
        assert count(build(name, *setting(name))) == SIZES[name]


@pytest.mark.parametrize(("name", "millions"), PUBLISHED.items())
def test_parameter_count_of_the_literature(name, millions):
    assert round(SIZES[name] / 1e6, 2) == millions


def test_multiply_accumulates_by_hand():
    light = 32 * 32 * conv(3, 16) + 16 * 16 * conv(16, 16) + 1024 * 256 + 256 * 10
    assert macs("lightnn", CIFAR, 10) == light
    assert macs("mnist-mlp", MNIST, 10) == 784 * 128 + 128 * 10
    here = 32 * 32 * (conv(3, 16) + 2 * conv(16, 16))
    here += 16 * 16 * (conv(16, 32) + conv(32, 32) + conv(16, 32, side=1))
    here += 8 * 8 * (conv(32, 64) + conv(64, 64) + conv(32, 64, side=1))
    assert macs("resnet8", CIFAR, 100) == here + 64 * 100


# --- layers -------------------------------------------------------------------------------


def stages(*shapes, pre=None, embedding):
    before = pre or shapes
    found = {f"stage{n}": shape for n, shape in enumerate(shapes, 1)}
    found |= {f"stage{n}_pre": shape for n, shape in enumerate(before, 1)}
    return found | {"embedding": (embedding,)}


def residual(first, second, third):
    return stages((first, 32, 32), (second, 16, 16), (third, 8, 8), embedding=third)


LAYERS = {
    "deepnn": stages((64, 16, 16), (32, 8, 8), pre=((64, 32, 32), (32, 16, 16)), embedding=2048),
    "lightnn": stages((16, 16, 16), (16, 8, 8), pre=((16, 32, 32), (16, 16, 16)), embedding=1024),
    "mnist-cnn": stages((16, 14, 14), (32, 7, 7), pre=((16, 28, 28), (32, 14, 14)), embedding=128),
    "mnist-mlp": {"embedding": (128,)},
    "digits-cnn": stages((16, 8, 8), (32, 4, 4), embedding=128),
    "digits-cnn-medium": stages((16, 8, 8), (32, 4, 4), embedding=128),
    "digits-cnn-small": stages((16, 8, 8), (32, 4, 4), embedding=128),
    **{f"resnet{d}": residual(16, 32, 64) for d in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{d}x4": residual(64, 128, 256) for d in (8, 32)},
    **{f"wrn-{d}-{w}": residual(16 * w, 32 * w, 64 * w) for d in (16, 40) for w in (1, 2)},
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_shapes(name):
    assert feature_shapes(name, *setting(name)) == LAYERS[name]


@pytest.mark.parametrize(
    "name", [n if n not in DEEP else pytest.param(n, marks=pytest.mark.long) for n in EVERY]
)
def test_layers_are_what_they_are_called(name):
    model = make(name).eval()
    layers = feature_shapes(name, *setting(name))
    output = with_features(model, list(layers))(images(name, 2))
    assert {layer: tuple(value.shape[1:]) for layer, value in output.features.items()} == layers
    for layer in layers:
        if not layer.endswith("_pre"):
            continue
        active = functional.relu(output.features[layer])
        after = output.features[layer.removesuffix("_pre")]
        if active.shape != after.shape:
            active = functional.max_pool2d(active, 2)
        assert torch.equal(after, active)
        assert (output.features[layer] < 0).any(), (
            "a layer before the activation has negative values"
        )
    assert torch.equal(model.classifier(output.features["embedding"]), output.logits)
    if name.startswith(("resnet", "wrn")):
        last = max(layer for layer in layers if re.fullmatch(r"stage\d", layer))
        torch.testing.assert_close(output.features["embedding"], output.features[last].mean((2, 3)))


def test_stages_of_a_resnet_are_the_blocks_outputs():
    model = make("resnet14").eval()
    seen = {}
    for n in (1, 2, 3):
        stage = getattr(model, f"stage{n}")
        stage.register_forward_hook(lambda _m, _i, out, n=n: seen.update({f"stage{n}": out}))
    batch = images("resnet14")
    model(batch)
    output = with_features(model, ["stage1", "stage2", "stage3"])(batch)
    assert all(torch.equal(seen[layer], value) for layer, value in output.features.items())


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "layout",
    [torch.channels_last, pytest.param(torch.contiguous_format, marks=pytest.mark.long)],
)
def test_logits_do_not_depend_on_the_layers(name, training, layout):
    every = sorted(feature_shapes(name, *setting(name)))
    batch = images(name).contiguous(memory_format=layout)
    found = []
    for layers in (None, [], ["embedding"], every, every[::-1]):
        model = make(name).to(memory_format=layout)
        network = model if layers is None else with_features(model, layers)
        network.train(training)
        torch.manual_seed(7)  # dropout
        output = network(batch)
        logits = output if layers is None else output.logits
        logits.square().sum().backward()
        gradients = [p.grad for p in model.parameters()]
        found.append((logits, *gradients, *model.buffers()))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("name", ["lightnn", "resnet8"])
def test_train_and_eval_act_on_dropout_and_batch_normalisation(name):
    network = with_features(make(name), ["embedding"])
    batch = images(name, 16)
    assert network.training
    buffers = [b.clone() for b in network.buffers()]
    first, second = network(batch).logits, network(batch).logits
    if name == "lightnn":
        assert not torch.equal(first, second)
    else:
        moved = [torch.equal(a, b) for a, b in zip(buffers, network.buffers(), strict=True)]
        assert not any(moved)
    network.eval()
    buffers = [b.clone() for b in network.buffers()]
    assert torch.equal(network(batch).logits, network(batch).logits)
    assert all(torch.equal(a, b) for a, b in zip(buffers, network.buffers(), strict=True))
    network.train()
    assert all(m.training for m in network.modules())


@pytest.mark.parametrize("name", EVERY)
def test_weights_have_the_models_own_names(name):
    with torch.device("meta"):
        model = build(name, *setting(name))
        network = with_features(model, ["embedding"])
    assert list(network.state_dict()) == list(model.state_dict())
    shared = zip(network.named_parameters(), model.named_parameters(), strict=True)
    assert all(a == b and p is q for (a, p), (b, q) in shared)


def test_weights_trained_with_features_load_into_a_plain_model():
    network = with_features(make("resnet8"), ["stage2", "embedding"])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(images("resnet8")).logits.square().sum().backward()
    optimizer.step()
    plain = make("resnet8", seed=5)
    plain.load_state_dict(network.state_dict(), strict=True)
    batch = images("resnet8", seed=3)
    assert torch.equal(plain.eval()(batch), network.eval()(batch).logits)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_are_whole_and_independent(copied):
    network = with_features(make("resnet8"), ["stage1_pre"]).eval()
    batch = images("resnet8")
    before = network(batch)
    twin = copied(network)
    own = {t.data_ptr() for t in network.state_dict().values()}
    assert own.isdisjoint(t.data_ptr() for t in twin.state_dict().values())
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.add_(1.0)
    after = twin(batch)
    assert torch.equal(after.logits, before.logits)
    assert torch.equal(after.features["stage1_pre"], before.features["stage1_pre"])
    assert not twin.training


def test_gradients_reach_the_weights_through_a_layer():
    network = with_features(make("digits-cnn-small"), ["stage1_pre"])
    network(images("digits-cnn-small")).features["stage1_pre"].sum().backward()
    reached = {name for name, p in network.named_parameters() if p.grad is not None}
    assert reached == {"stage1.pre.weight", "stage1.pre.bias"}


@pytest.mark.parametrize("name", EVERY)
def test_no_layer_works_in_place(name):
    with torch.device("meta"):
        model = build(name, *setting(name))
    assert not any(getattr(module, "inplace", False) for module in model.modules())


def test_asking_for_layers_draws_no_random_number_and_traces_once():
    model = make("resnet20")
    state = torch.get_rng_state()
    with_features(model, ["stage1", "stage3"])
    feature_shapes("resnet20", CIFAR, 100)
    macs("resnet20", CIFAR, 100)
    assert torch.equal(torch.get_rng_state(), state)
    traces = traced.cache_info().misses
    for seed in range(3):
        with_features(make("resnet20", seed), ["stage3", "stage1"])
    assert traced.cache_info().misses == traces


def test_layers_that_name_one_node_are_both_given():
    model = make("mnist-mlp").eval()
    output = with_features(model, ["embedding", "embedding"])(images("mnist-mlp"))
    assert list(output.features) == ["embedding"]


# --- building ---------------------------------------------------------------------------


def test_first_weights_come_from_the_global_seed():
    same = zip(make("wrn-16-1").parameters(), make("wrn-16-1").parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert not torch.equal(make("resnet8").conv.weight, make("resnet8", seed=1).conv.weight)


@pytest.mark.parametrize("name", ["resnet8x4", "wrn-16-2"])
def test_first_weights_of_residual_networks(name):
    for module in make(name).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            spread = math.sqrt(2 / (module.out_channels * math.prod(module.kernel_size)))
            assert module.weight.std().item() == pytest.approx(spread, rel=0.05)
            assert module.bias is None
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("lightnn", (1, 8, 8)),
        ("resnet8", (1, 8, 8)),
        ("wrn-16-1", (2, 20, 12)),
        ("mnist-mlp", CIFAR),
    ],
)
def test_other_image_shapes(name, shape):
    model = to_device(build(name, shape, 3), "cpu").eval()
    batch = torch.randn(2, *shape).contiguous(memory_format=torch.channels_last)
    assert with_features(model, list(feature_shapes(name, shape, 3)))(batch).logits.shape == (2, 3)


def test_unknown_model_names_the_nearest():
    with pytest.raises(ValueError, match=r"unknown model 'lightn' \(did you mean 'lightnn'"):
        build("lightn", CIFAR, 10)
    with pytest.raises(ValueError, match="unknown model 'qqqq'; known: deepnn, digits-cnn"):
        feature_shapes("qqqq", CIFAR, 10)


def test_images_too_small():
    message = r"model resnet20 cannot take images of 3x2x32: needs .* at least 1x4x4"
    with pytest.raises(ValueError, match=message):
        build("resnet20", (3, 2, 32), 10)


def test_too_few_classes():
    with pytest.raises(ValueError, match="model lightnn needs at least 2 classes; given 1"):
        build("lightnn", CIFAR, 1)


def test_unknown_layer_lists_those_there_are():
    there = "embedding, stage1, stage1_pre, stage2, stage2_pre"
    message = f"model lightnn has no layer 'stage9'; it has {there}"
    with pytest.raises(ValueError, match=message):
        with_features(make("lightnn"), ["stage1", "stage9"])
    with pytest.raises(ValueError, match="has no layer 'logits'"):
        with_features(make("lightnn"), ["logits"])


def test_a_model_from_elsewhere_is_refused():
    with pytest.raises(ValueError, match="Linear does not come from"):
        with_features(nn.Linear(2, 2), [])


# --- other packages ---------------------------------------------------------------------


class Foreign(nn.Module):
    """A model as another package may have it: functional, with a parameter of its own."""

    nodes = {"embedding": "flatten", "logits": "mul"}  # noqa: RUF012

    def __init__(self, image_shape, classes):
        super().__init__()
        self.layer = nn.Linear(math.prod(image_shape), classes)
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, x):
        x = functional.dropout(x.flatten(1), 0.5, training=self.training)
        return self.layer(x) * self.scale


def test_a_foreign_model_joins(monkeypatch):
    monkeypatch.setitem(MODELS, "foreign", Foreign)
    model = build("foreign", DIGITS, 10)
    network = with_features(model, ["embedding"])
    assert sorted(network.state_dict()) == ["layer.bias", "layer.weight", "scale"]
    assert list(network.state_dict()) == list(model.state_dict())
    batch = images("digits-cnn")
    assert feature_shapes("foreign", DIGITS, 10) == {"embedding": (64,)}
    assert not torch.equal(network(batch).logits, network(batch).logits)
    network.eval()
    assert torch.equal(network(batch).logits, model.eval()(batch))


def test_a_foreign_model_without_logits_is_refused(monkeypatch):
    monkeypatch.setitem(MODELS, "bare", lambda image_shape, classes: nn.Flatten())
    with pytest.raises(ValueError, match="model bare has no attribute `nodes`"):
        build("bare", DIGITS, 10)


def entry(name, value):
    return EntryPoint(name, value, "kdbench.models")


def joined(*entries):
    return Registry("model", "kdbench.models", MODELS.builtin, zoo._check, entries)


def test_entry_points_join_unloaded():
    models = joined(entry("theirs", "no_such_package:net"))
    assert list(models) == [*MODELS.builtin, "theirs"]
    with pytest.raises(ImportError, match="no_such_package"):
        models["theirs"]


@pytest.mark.parametrize("first", ["lightnn", "theirs"])
def test_entry_points_that_clash(first):
    with pytest.raises(ValueError, match=f"the name '{first}' is taken by"):
        joined(entry(first, "a:net"), entry("theirs", "b:net"))


# --- where a model comes from -----------------------------------------------------------


def test_all_but_our_own_small_nets_have_a_paper():
    named = {name for name in SIZES if paper_of(name)}
    assert named == {name for name in SIZES if not name.startswith(("digits", "mnist"))}
    assert paper_of("lightnn") == paper_of("deepnn")
    assert paper_of("resnet20").key == "he2016deep"
    assert paper_of("resnet8x4").key == "tian2020contrastive"
    assert paper_of("wrn-40-2").key == "zagoruyko2016wide"
    assert paper_of("digits-cnn") is None


def theirs(image_shape, classes):
    """A builder as a plug-in brings it."""


def test_a_plug_in_may_name_its_paper(monkeypatch):
    monkeypatch.setitem(MODELS, "theirs", theirs)
    assert paper_of("theirs") is None
    monkeypatch.setattr(theirs, "paper", RESNET, raising=False)
    assert paper_of("theirs").key == "he2016deep"


# --- the digits student learns ----------------------------------------------------------


@pytest.mark.long
def test_the_digits_student_learns():
    from kdbench.data import Views
    from kdbench.data.load import load, split

    data = load("digits")
    views = Views(data)
    torch.manual_seed(0)
    network = with_features(to_device(build("digits-cnn-small", data.shape, data.classes), "cpu"))
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    fit, held_out = split(data.labels, 200, 0)
    for _ in range(20):
        for batch in fit[torch.randperm(1000)].split(64):
            optimizer.zero_grad()
            logits = network(views.take(batch)).logits
            functional.cross_entropy(logits, views.labels[batch]).backward()
            optimizer.step()
    network.eval()
    right = network(views.take(held_out)).logits.argmax(1) == views.labels[held_out]
    assert right.float().mean() >= 0.95
