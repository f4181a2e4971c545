"""What several methods share: weighting, phases, and finding layers."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kdbench.methods.base import Incompatible
from kdbench.methods.types import Batch, MixedBatch, Shapes


def cross_entropy(logits: Tensor, batch: Batch | MixedBatch) -> Tensor:
    """The cross-entropy with the batch's labels, with what the recipe makes of them: a mean over
    the examples that have one, weighted where classes have weights. `logits` may be of the batch
    several times over.

    Every term that learns from the labels alone is computed with it. Of mixed images it is that
    with both labels, by their shares.
    """
    weight = batch.class_weights
    if weight is not None:
        weight = weight.to(logits.dtype)

    def against(labels: Tensor) -> Tensor:
        target = labels.repeat(len(logits) // len(labels))
        return F.cross_entropy(logits, target, weight, label_smoothing=batch.label_smoothing)

    if isinstance(batch, MixedBatch):
        first, second = map(against, batch.pairs)
        return batch.share * first + (1 - batch.share) * second
    return against(batch.labels)


def weighted(weights: Mapping[str, Any], **terms: Tensor) -> dict[str, Tensor]:
    """Each term times the weight of the same name (`__` in a keyword stands for `.`).

    Refuses a term without a weight and a weight without a term, so that what is logged
    as the weights is what the objective used.
    """
    named = {name.replace("__", "."): term for name, term in terms.items()}
    if named.keys() != weights.keys():
        raise KeyError(f"terms {sorted(named)} do not match weights {sorted(weights)}")
    # A number needs no type, and takes no time to get one.
    typed = {n: w.to(named[n].dtype) if isinstance(w, Tensor) else w for n, w in weights.items()}
    return {name: typed[name] * term for name, term in named.items()}


def soft_weights(form: str, alpha: float, temperature: float) -> dict[str, float]:
    """The weights of the labels and of a soft term: `convex` is (1 - alpha) and alpha * T**2,
    which is Hinton's, `plain` is 1 and alpha. Raises `ValueError` for another form, and where
    alpha is above 1 in the convex one."""
    if form == "plain":
        return {"task": 1.0, "soft": alpha}
    if form != "convex":
        raise ValueError(f"weights = {form} is none of convex, plain")
    if alpha > 1:
        raise ValueError(f"alpha = {alpha} is out of range: [0, 1] with weights = convex")
    return {"task": 1 - alpha, "soft": alpha * temperature**2}


def total(terms: Iterable[Tensor]) -> Tensor:
    """The sum of scalar terms."""
    return torch.stack(list(terms)).sum()


def scalar(value: float | Tensor, like: Tensor) -> Tensor:
    """A hyperparameter or a share of progress as a 0-d tensor of the logits' type.

    A plain number stays on the CPU, where a 0-d tensor mixes with any device and costs
    no copy.
    """
    return torch.as_tensor(value, dtype=like.dtype)


def first_phase(step: float | Tensor, share: float | Tensor, like: Tensor) -> Tensor:
    """1 while `step` is below `share`, then 0, as a 0-d tensor.

    Counted in steps and not in epochs, so that a run of one epoch has both phases.
    """
    return (scalar(step, like) < scalar(share, like)).to(like.dtype)


def common(layers: Iterable[Mapping[str, Any]], pattern: str) -> list[str]:
    """The names that fit the pattern and that all of the networks have, sorted."""
    names = set.intersection(*(set(t) for t in layers))
    return sorted(name for name in names if fnmatchcase(name, pattern))


def stages(shapes: Shapes, roles: Iterable[str], pattern: str, least: int = 1) -> list[str]:
    """The stage layers that all of `roles` have. Raises `Incompatible` below `least` of them."""
    roles = list(roles)
    names = common((shapes.features.get(role, {}) for role in roles), pattern)
    if len(names) < least:
        have = f"only {', '.join(names)}" if names else "there are none"
        raise Incompatible(
            f"needs {least} or more layers {pattern} in {' and '.join(roles)}; {have}"
        )
    return names


def shape(shapes: Shapes, role: str, layer: str) -> tuple[int, ...]:
    """The shape of one layer of one network; `Incompatible` where the network has no such layer."""
    layers = shapes.features.get(role, {})
    if layer not in layers:
        have = ", ".join(sorted(layers)) or "none"
        raise Incompatible(f"needs the layer {layer} of the {role}; its layers here: {have}")
    return tuple(layers[layer])


def parameter_shape(shapes: Shapes, role: str, name: str) -> tuple[int, ...]:
    """The shape of a parameter of one network that the loss reads; `Incompatible` where the
    network has no such parameter."""
    parameters = shapes.parameters.get(role, {})
    if name not in parameters:
        have = ", ".join(sorted(parameters)) or "none"
        raise Incompatible(f"needs the parameter {name} of the {role}; it offers {have}")
    return tuple(parameters[name])
