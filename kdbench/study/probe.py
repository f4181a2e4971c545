"""One forward and one backward on two images, which show what is wrong with a method before a
run is trained with it."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kdbench import models
from kdbench.data.load import TrainingData
from kdbench.errors import KdbenchError, one_line
from kdbench.methods import METHODS
from kdbench.methods.base import Method
from kdbench.methods.image_gradients import with_image_gradient
from kdbench.methods.layers import answered, layers_of_run, shapes_of_run
from kdbench.methods.networks import RoleModels
from kdbench.methods.terms import wrong_terms, wrong_weights
from kdbench.methods.types import Batch, Examples, Progress
from kdbench.models.output import Output
from kdbench.records.spec import Recipe
from kdbench.study.load import StudyError
from kdbench.study.plan import Node, Plan
from kdbench.study.planner import Planner

#: Two, as batch normalisation and relations between images need that many.
IMAGES = 2


class BrokenMethod(KdbenchError):
    """A method that cannot train with these models; the message says what is wrong."""


def probe_methods(planner: Planner, plan: Plan, nodes: Iterable[Node]) -> None:
    """Probe the method of each of `nodes` once with its models, on random images.

    Leaves torch's random numbers as they were. Raises `StudyError` with a line for each method
    that fails.
    """
    faults: dict[tuple[object, ...], str | None] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        probe = _Probe(planner.data, plan)
        for node in nodes:
            role_models = probe.role_models(node)
            key = (node.listing.label, node.spec.method, *role_models.items())
            if key not in faults:
                faults[key] = None
                try:
                    probe.run(node, role_models)
                except BrokenMethod as error:
                    faults[key] = f"{_place(node)}: {error} (data: {planner.data.name})"
    if found := [fault for fault in faults.values() if fault]:
        raise StudyError(planner.study.name, found)


def _place(node: Node) -> str:
    """The key of the study that names the method of a run."""
    listing, method = node.listing, node.spec.method
    place = "teacher.method" if listing.kind == "teacher" else f"methods ({listing.label})"
    return place if listing.label == method else f"{place}, method {method}"


@contextmanager
def _part(name: str) -> Iterator[None]:
    """Have an error of the method's own code raised as `BrokenMethod`."""
    try:
        yield
    except Exception as error:  # the code of another package can raise anything
        raise BrokenMethod(f"{name} raises {one_line(error)}") from error


class _Probe:
    """Two images, and the networks that have been built for them so far."""

    def __init__(self, data: TrainingData, plan: Plan) -> None:
        self.data, self.plan = data, plan
        self.images = torch.randn(IMAGES, *data.shape)
        self._networks: dict[tuple[str, str], nn.Module] = {}

    def role_models(self, node: Node) -> dict[str, str]:
        """The model of each role of a run."""
        spec = node.spec
        return RoleModels(
            _method(node).networks(),
            in_slot=spec.models.__getitem__,
            of_frozen=lambda role, _: self._frozen_model(spec.frozen_runs[role]),
        ).by_role()

    def _frozen_model(self, run: str) -> str:
        return self.plan.nodes[run].spec.models["student"]

    def run(self, node: Node, role_models: Mapping[str, str]) -> None:
        """One step of a run without an optimiser. Raises `BrokenMethod`."""
        method, data = _method(node), self.data
        layers = layers_of_run(node.spec, method, self._frozen_model, data.shape, data.classes)
        outputs = {
            role: self._output(role, model, layers, method) for role, model in role_models.items()
        }
        examples = len(data.labels)
        sizes = shapes_of_run(role_models, layers, data.shape, data.classes, examples)
        with _part("helpers()"):
            helpers = method.helpers(sizes)
        with _part("head()"):
            outputs = answered(method, outputs, helpers)
        position = torch.arange(IMAGES)
        batch = Batch(
            self.images, position, position, torch.Generator(), Examples(position, position)
        )
        start = Progress(0.0, 1 / node.spec.recipe.epochs, 0.0)
        with _part("loss()"):
            terms = method.loss(outputs, batch, helpers, start)
        with _part("loss_weights()"):
            weights = method.loss_weights()
        if wrong := wrong_terms(terms) or wrong_weights(weights):
            raise BrokenMethod(wrong)
        self._backward(torch.stack(list(terms.values())).sum(), role_models["student"])
        if weights.get("task"):
            _check_targets(node.spec.recipe, method, outputs, batch, helpers)

    def _output(self, role: str, model: str, layers: tuple[str, ...], method: Method) -> Output:
        trained = method.networks()[role].gradient
        with _part(f"the model {model} of the {role}"), torch.set_grad_enabled(trained):
            if (role, model) not in self._networks:
                built = models.build(model, self.data.shape, self.data.classes)
                self._networks[role, model] = built
            network = models.with_features(self._networks[role, model], layers)
            output: Output = network.train(trained)(self.images)
        with _part("image_score()"):
            score, labels = method.image_score(), torch.arange(IMAGES)
            if score is None:
                return output
            return with_image_gradient(network, self.images, labels, score, trained)

    def _backward(self, loss: Tensor, student: str) -> None:
        """Raise `BrokenMethod` where the loss moves nothing in the student."""
        advice = "compute a term from out['student'] that nothing detaches"
        if not loss.requires_grad:
            raise BrokenMethod(f"what loss() returns has no gradient: {advice}")
        network = self._networks["student", student]
        network.zero_grad(set_to_none=True)
        with _part("the gradient of loss()"):
            loss.backward()
        if all(parameter.grad is None for parameter in network.parameters()):
            raise BrokenMethod(f"the gradient of loss() does not reach the student: {advice}")


def _check_targets(
    recipe: Recipe,
    method: Method,
    outputs: Mapping[str, Output],
    batch: Batch,
    helpers: nn.ModuleDict,
) -> None:
    """Raise `BrokenMethod` where the term of the labels is the same whatever the recipe makes of
    them. It is asked at the end, as some methods begin without that term."""
    made: dict[str, Any] = {}
    if recipe.label_smoothing:
        made["label_smoothing"] = recipe.label_smoothing
    if recipe.class_weights != "none":
        classes = outputs["student"].logits.shape[1]
        made["class_weights"] = 1 + torch.arange(classes)
    if not made:
        return
    changed = dataclasses.replace(batch, **made)
    with torch.no_grad():
        plain, other = (
            method.loss(outputs, each, helpers, Progress(1.0, 1.0, 1.0))["task"]
            for each in (batch, changed)
        )
    if torch.equal(plain, other):
        raise BrokenMethod(
            f"loss() takes no account of recipe.{next(iter(made))}: compute what it learns from "
            "the labels with kdbench.methods.cross_entropy(logits, batch)"
        )


def _method(node: Node) -> Method:
    return METHODS[node.spec.method](**node.spec.hparams)
