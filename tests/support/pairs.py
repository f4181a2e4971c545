"""A few steps of a method on a pair of CIFAR networks: random images, fresh weights."""

import dataclasses
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from kdbench import models
from kdbench.methods import METHODS
from kdbench.methods.base import Method
from kdbench.methods.image_gradients import with_image_gradient
from kdbench.methods.layers import answered, resolve_layers
from kdbench.methods.networks import RoleModels, Shared, Trained
from kdbench.methods.types import Batch, Examples, Progress, Shapes
from kdbench.models.output import Output

#: Teacher and student of the tables of the literature.
PAIRS = [("resnet32x4", "resnet8x4"), ("wrn-40-2", "wrn-16-2"), ("resnet56", "resnet20")]
CLASSES, BATCH = 10, 8


@cache
def images(side: int, steps: int) -> list[Tensor]:
    """Random batches of colour images of `side` pixels."""
    g = torch.Generator().manual_seed(0)
    return [torch.randn(BATCH, 3, side, side, generator=g) for _ in range(steps)]


def network(name: str, side: int, seed: int) -> models.FeatureModel:
    """A fresh network that returns every layer it has."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = models.build(name, (3, side, side), CLASSES)
    return models.with_features(model, [n for n in model.nodes if n != "logits"])


@cache
def frozen_outputs(name: str, side: int, steps: int, seed: int) -> list[Output]:
    """What a network answers with the statistics of each batch, as a trained one has them."""
    teacher = network(name, side, seed).train()
    with torch.no_grad():
        return [teacher(x) for x in images(side, steps)]


def train(
    method: Method | str, teacher: str, student: str, *, side: int = 16, steps: int = 4, lr=0.05
) -> list[dict[str, float]]:
    """The terms of each step by SGD with the learning rate of the tables, and of one more
    batch. Raises `Incompatible` where the method cannot serve the pair."""
    method = METHODS[method]() if isinstance(method, str) else method
    sources = method.networks()
    names = RoleModels(
        sources,
        in_slot=lambda slot: teacher if slot == "teacher" else student,
        of_frozen=lambda _, run: teacher if run.model == "teacher" else student,
    ).by_role()
    known = {r: models.feature_shapes(n, (3, side, side), CLASSES) for r, n in names.items()}
    layers = resolve_layers(method.layers(), known, names)
    sizes = {role: {layer: known[role][layer] for layer in layers} for role in sources}
    torch.manual_seed(0)
    owned = {r: models.parameter_shapes(n, (3, side, side), CLASSES) for r, n in names.items()}
    helpers = method.helpers(Shapes(CLASSES, BATCH, sizes, owned))
    trained = {
        role: network(names[role], side, seed).train()
        for seed, (role, source) in enumerate(sources.items())
        if isinstance(source, Trained)
    }
    owner = {role: s.of if isinstance(s, Shared) else role for role, s in sources.items()}
    moved = [p for module in (*trained.values(), helpers) for p in module.parameters()]
    optimizer = torch.optim.SGD(moved, lr, momentum=0.9, weight_decay=5e-4)
    g = torch.Generator().manual_seed(1)
    labels = torch.randint(0, CLASSES, (BATCH,), generator=g)
    score = method.image_score()
    rows, before = [], images(side, steps + 1)[0]
    for step, batch_images in enumerate(images(side, steps + 1)):
        seen = {role: batch_images if owner[role] == role else before for role in sources}
        answers = {
            role: (
                trained[owner[role]](seen[role])
                if owner[role] in trained
                else frozen_outputs(name, side, steps + 1, seed)[step]
            )
            for seed, (role, name) in enumerate(names.items())
            if score is None
        }
        for seed, (role, name) in enumerate(names.items()):
            if score is not None:
                asked = trained.get(role) or network(name, side, seed).train()
                moves = role in trained
                answers[role] = with_image_gradient(asked, seen[role], labels, score, moves)
        out = {role: _only(answer, layers) for role, answer in answers.items()}
        share = step / (steps + 1)
        batch = Batch(
            batch_images, labels, torch.arange(BATCH), g, Examples(labels, torch.arange(BATCH))
        )
        before = batch_images
        out = answered(method, out, helpers)
        terms = method.loss(out, batch, helpers, Progress(share, share, share))
        rows.append({name: term.item() for name, term in terms.items()})
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    return rows


def _only(output: Output, layers: tuple[str, ...]) -> Output:
    return dataclasses.replace(output, features={n: output.features[n] for n in layers})


def diverges(rows: list[Mapping[str, float]]) -> bool:
    """Whether the loss is no number any more, or ends far above what it was at first.

    A large learning rate without warm-up lets a loss rise and fall again in its first steps.
    """
    sums = torch.tensor([sum(row.values()) for row in rows])
    return not bool(sums.isfinite().all()) or bool(sums[-2:].min() > 100 * (sums[0].abs() + 1))
