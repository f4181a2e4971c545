"""What every model owes."""

import copy
import pickle
from collections.abc import Sequence
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from kdbench.models import build, feature_shapes, macs, with_features
from kdbench.models.zoo import MODELS, ImageShape
from kdbench.testing.report import Checks, require

#: Images a forward.
BATCH = 4


class Subject:
    """A model by name, for images of one shape."""

    def __init__(self, name: str, image_shape: ImageShape, classes: int) -> None:
        MODELS[name]
        self.name, self.image_shape, self.classes = name, image_shape, classes

    def build(self, seed: int = 0) -> nn.Module:
        """The model with the first weights of a seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build(self.name, self.image_shape, self.classes)

    @cached_property
    def images(self) -> Tensor:
        """Random images, batch x channels x height x width."""
        generator = torch.Generator().manual_seed(1)
        return torch.randn(BATCH, *self.image_shape, generator=generator)

    @cached_property
    def layers(self) -> dict[str, tuple[int, ...]]:
        """The shape of each layer."""
        return feature_shapes(self.name, self.image_shape, self.classes)


def check_layers(subject: Subject) -> None:
    """Every layer can be read and has the shape that it is said to have."""
    output = with_features(subject.build().eval(), list(subject.layers))(subject.images)
    expected = (BATCH, subject.classes)
    require(output.logits.shape == expected, f"logits are {tuple(output.logits.shape)}")
    for layer, shape in subject.layers.items():
        actual = tuple(output.features[layer].shape[1:])
        require(actual == shape, f"{layer} has shape {actual}, said to be {shape}")
        dimensions = 1 if layer == "embedding" else 3
        standard = layer == "embedding" or layer.startswith("stage")
        require(
            not standard or len(shape) == dimensions,
            f"{layer} has shape {shape}, expected {dimensions} dimensions",
        )
        if layer.endswith("_pre"):
            negative = bool((output.features[layer] < 0).any())
            require(negative, f"{layer} has no negative value: is it before the activation?")
    require("embedding" in subject.layers, "`nodes` names no `embedding`")


def check_logits(subject: Subject) -> None:
    """Logits, gradients and buffers do not depend on the layers that are asked for."""
    every = sorted(subject.layers)
    choices: list[Sequence[str] | None] = [None, [], every, every[::-1]]
    for training in (False, True):
        results = [_step(subject, layers, training) for layers in choices]
        for other in results[1:]:
            same = all(map(torch.equal, results[0], other))
            mode = "train" if training else "eval"
            require(same, f"asking for layers changes logits or gradients in {mode} mode")


def _step(subject: Subject, layers: Sequence[str] | None, training: bool) -> list[Tensor]:
    model = subject.build()
    network = model if layers is None else with_features(model, layers)
    network.train(training)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)  # dropout
        output = network(subject.images)
    logits = output if layers is None else output.logits
    logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        require(parameter.grad is not None, f"no gradient reaches {name}")
    return [logits, *(p.grad for p in model.parameters() if p.grad is not None), *model.buffers()]


def check_first_weights(subject: Subject) -> None:
    """First weights depend on torch's seed and on nothing else."""
    first, again, other = (subject.build(seed).state_dict() for seed in (0, 0, 1))
    require(all(torch.equal(first[k], again[k]) for k in first), "one seed gives two networks")
    require(any(not torch.equal(first[k], other[k]) for k in first), "the seed changes nothing")


def check_eval_mode(subject: Subject) -> None:
    """Evaluation draws no random numbers and moves no buffer."""
    network = with_features(subject.build()).eval()
    before = [b.clone() for b in network.buffers()]
    first, second = network(subject.images).logits, network(subject.images).logits
    require(torch.equal(first, second), "two forwards in eval mode differ")
    require(all(map(torch.equal, network.buffers(), before)), "eval mode changes a buffer")
    network.train()
    require(all(m.training for m in network.modules()), "train() leaves a module in eval mode")


def check_names(subject: Subject) -> None:
    """Weights have the model's own names, whichever layers are asked for, and load strictly."""
    model = subject.build()
    network = with_features(model, list(subject.layers))
    require(list(network.state_dict()) == list(model.state_dict()), "weights change their names")
    subject.build(seed=1).load_state_dict(network.state_dict(), strict=True)


def check_copies(subject: Subject) -> None:
    """A deep copy and a pickled copy give the same and share no tensor."""
    network = with_features(subject.build(), list(subject.layers)).eval()
    expected = network(subject.images).logits
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        require(torch.equal(twin(subject.images).logits, expected), "a copy gives other logits")
        addresses = {t.data_ptr() for t in network.state_dict().values()}
        shared = addresses & {t.data_ptr() for t in twin.state_dict().values()}
        require(not shared, "a copy shares a tensor")


def check_in_place(subject: Subject) -> None:
    """No layer works in place, since features at named layers are read after it."""
    for name, module in subject.build().named_modules():
        require(not getattr(module, "inplace", False), f"{name} works in place")


def check_tracing(subject: Subject) -> None:
    """Asking for layers, shapes and cost draws no random number."""
    model, state = subject.build(), torch.get_rng_state()
    with_features(model, list(subject.layers))
    count = macs(subject.name, subject.image_shape, subject.classes)
    require(count > 0, "a forward costs no multiplication")
    require(torch.equal(torch.get_rng_state(), state), "torch's global generator has advanced")


MODEL = (
    check_layers,
    check_logits,
    check_first_weights,
    check_eval_mode,
    check_names,
    check_copies,
    check_in_place,
    check_tracing,
)


def model_checks(name: str, image_shape: ImageShape, classes: int) -> Checks:
    """The checks of a model, by name."""
    subject = Subject(name, image_shape, classes)
    return {check.__name__.removeprefix("check_"): partial(check, subject) for check in MODEL}
