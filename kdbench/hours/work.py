"""The work of a training step, counted on tensors that have shapes but no values.

The step of a run is taken once: its networks, its method's helpers and loss, the backward. So
whatever a method adds to its student is counted, and no method has to say what it costs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from kdbench import models
from kdbench.methods import METHODS
from kdbench.methods.base import Method
from kdbench.methods.image_gradients import with_image_gradient
from kdbench.methods.layers import answered, resolve_layers, shapes_of_run
from kdbench.methods.networks import Frozen, Shared, Trained
from kdbench.methods.types import Batch, Examples, Progress
from kdbench.models.output import Output
from kdbench.models.zoo import ImageShape
from kdbench.records.spec import RunSpec

#: Values that an optimiser reads and writes for each parameter, the gradient included.
OPTIMIZER_VALUES = {"sgd": 5, "adam": 7, "adamw": 7}
#: Operations that read or write a few rows of their first argument.
ROWS_OF = ("aten::index", "aten::gather", "aten::embedding", "aten::scatter")
#: Operations that compute nothing.
FREE = ("prim::", "aten::detach", "aten::empty", "aten::lift_fresh", "aten::_unsafe_view")


@dataclass(frozen=True)
class Work:
    """Operations that compute, the floating-point operations of their convolutions and matrix
    products (a multiplication and an addition are two), and the bytes of all their inputs and
    outputs."""

    calls: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.calls + other.calls, self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, factor: float) -> "Work":
        return Work(self.calls * factor, self.flops * factor, self.bytes * factor)


@dataclass(frozen=True)
class Images:
    """What networks are shown: the shape of an image, the number of classes, and that of the
    images of the training file."""

    shape: ImageShape
    classes: int
    examples: int


class _Counter(TorchDispatchMode):
    """Counts the work that is done while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.flops = self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func.name()
        if count := flop_registry.get(func._overloadpacket):
            self.flops += count(*args, **kwargs, out_val=out)
        if not func.is_view and not name.startswith(FREE):
            self.calls += 1
            self.bytes += _moved(name, args, out)
        return out

    def work(self) -> Work:
        """What was counted."""
        return Work(self.calls, self.flops, self.bytes)


def _moved(name: str, args: tuple[Any, ...], out: Any) -> int:
    """The bytes that an operation reads and writes."""
    if not name.startswith(ROWS_OF):
        return _size(args) + _size(out)
    rest = _size(args[1:])
    return rest + 2 * (rest if out is args[0] else _size(out))


def _size(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(_size, value)) if isinstance(value, list | tuple) else 0


def forward_work(model: str, images: Images, batch: int, layers: tuple[str, ...] = ()) -> Work:
    """The work of a forward of `batch` images in evaluation mode, float32, without gradients."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        network = models.with_features(_built(model, images), layers).eval()
        shown = _shown(images, batch)
        with _Counter() as counter:
            network(shown)
    return counter.work()


def step_work(spec: RunSpec, role_models: Mapping[str, str], images: Images, batch: int) -> Work:
    """The work of a training step of a run on `batch` images, the optimiser's included;
    `role_models` names the model of each role.

    The forward of a frozen network is not in it, unless the run has to ask it alone.
    """
    method = METHODS[spec.method](**spec.hparams)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.random.fork_rng(devices=[]):
        step = _Step(spec, method, role_models, images, batch)
        frozen = {
            role: step.ask(role)
            for role, source in method.networks().items()
            if isinstance(source, Frozen) and method.image_score() is None
        }
        with _Counter() as counter:
            step.take(frozen)
    moved = 4 * OPTIMIZER_VALUES[spec.recipe.optimizer] * step.parameters()
    return counter.work() + Work(calls=1, bytes=moved)


class _Step:
    """The networks of a run, a batch of images, and the step that they take."""

    def __init__(
        self,
        spec: RunSpec,
        method: Method,
        role_models: Mapping[str, str],
        images: Images,
        batch: int,
    ) -> None:
        self.spec, self.method, self.sources = spec, method, method.networks()
        known = {
            role: models.feature_shapes(model, images.shape, images.classes)
            for role, model in role_models.items()
        }
        layers = resolve_layers(method.layers(), known, role_models)
        sizes = shapes_of_run(role_models, layers, images.shape, images.classes, images.examples)
        self.helpers = method.helpers(sizes)
        self.networks: dict[str, nn.Module] = {}
        for role, source in self.sources.items():
            if not isinstance(source, Shared):
                network = models.with_features(_built(role_models[role], images), layers)
                self.networks[role] = network.train(isinstance(source, Trained))
        self.images, self.batch = _shown(images, batch), batch
        self.labels = torch.randint(images.classes, (batch,))

    def ask(self, role: str) -> Output:
        """What the network of a role answers, in float32."""
        source = self.sources[role]
        network = self.networks[source.of if isinstance(source, Shared) else role]
        ask = partial(self._forward, network, bf16=not isinstance(source, Frozen))
        if (score := self.method.image_score()) is not None:
            return with_image_gradient(ask, self.images, self.labels, score, source.gradient)
        with torch.set_grad_enabled(source.gradient):
            return ask(self.images)

    def _forward(self, network: nn.Module, images: Tensor, bf16: bool) -> Output:
        wanted = bf16 and self.spec.recipe.precision == "bf16"
        with torch.autocast("cpu", torch.bfloat16, enabled=wanted):
            output: Output = network(images)
        features = {layer: value.float() for layer, value in output.features.items()}
        return Output(output.logits.float(), features, output.parameters)

    def take(self, frozen: Mapping[str, Output]) -> None:
        """Forward, loss and backward."""
        out = {role: frozen.get(role) or self.ask(role) for role in self.sources}
        out = answered(self.method, out, self.helpers)
        position = torch.arange(self.batch)
        previous = Examples(self.labels, position)
        batch = Batch(self.images, self.labels, position, torch.Generator(), previous)
        half = Progress(0.5, 0.5, 0.5)
        terms = self.method.loss(out, batch, self.helpers, half)
        torch.stack(list(terms.values())).sum().backward()

    def parameters(self) -> int:
        """How many values the optimiser moves."""
        trained = [self.networks[r] for r, s in self.sources.items() if isinstance(s, Trained)]
        return sum(p.numel() for m in (*trained, self.helpers) for p in m.parameters())


def _built(model: str, images: Images) -> nn.Module:
    return models.build(model, images.shape, images.classes)


def _shown(images: Images, batch: int) -> Tensor:
    return torch.randn(batch, *images.shape)
