"""What every method owes in its loss, on random outputs."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from kdbench.methods import METHODS
from kdbench.methods.base import Incompatible
from kdbench.methods.layers import answered
from kdbench.methods.terms import wrong_terms, wrong_weights
from kdbench.methods.types import NO_LABEL, Progress
from kdbench.models.output import Output
from kdbench.testing import fakes
from kdbench.testing.report import Checks, require

PROGRESS = (fakes.START, fakes.MIDDLE, fakes.END)


class Case:
    """A method beside a teacher of some sizes: random outputs, helper modules, labels."""

    def __init__(self, key: str, teacher: str, **hparams: object) -> None:
        torch.manual_seed(0)
        self.method = METHODS[key](**hparams)
        self.sizes = fakes.shapes(self.method, teacher)
        self.helpers = fakes.helpers(self.method, self.sizes)
        self.out = fakes.outputs(self.method, self.sizes)
        # The buffers as they are after a step: most are empty before the first.
        self.memory: list[tuple[Tensor, Tensor]] = []
        self.terms(fakes.START)
        self.memory = [(buffer, buffer.clone()) for buffer in self.helpers.buffers()]

    def terms(
        self, progress: Progress, labelled: int = fakes.B, **recipe: Any
    ) -> dict[str, Tensor]:
        """The terms of the loss on this case's outputs, with the helper modules' buffers as they
        are after a step; the first `labelled` examples have a label, and `recipe` is what the
        recipe makes of them."""
        for buffer, value in self.memory:
            buffer.copy_(value)
        batch = dataclasses.replace(fakes.batch(), **recipe)
        batch.labels[labelled:] = NO_LABEL
        out = answered(self.method, self.out, self.helpers)
        return self.method.loss(out, batch, self.helpers, progress)

    def answers(self, role: str) -> list[Tensor]:
        """What a loss that learns moves of a network: its logits, or what its head reads."""
        out = self.out[role]
        headed = role == "student" and self.method.head(self.helpers) is not None
        return list(out.features.values()) if headed else [out.logits]


def check_terms(case: Case) -> None:
    """Finite float32 scalars, named as the weights."""
    for progress in PROGRESS:
        terms = case.terms(progress)
        wrong = wrong_terms(terms) or wrong_weights(case.method.loss_weights())
        require(not wrong, str(wrong))
        names, weights = sorted(terms), sorted(case.method.loss_weights())
        require(names == weights, f"loss() has the terms {names}, loss_weights() {weights}")
        require("task" in terms, "no term is called `task`")
        for name, term in terms.items():
            require(term.dtype == torch.float32, f"{name} is {term.dtype}, not float32")
            require(term.isfinite(), f"{name} is not finite")


def check_gradients(case: Case) -> None:
    """A gradient for every trained network and helper, none for a frozen one."""
    for progress in (fakes.START, fakes.END):
        _total(case.terms(progress)).backward()
    for name, parameter in case.helpers.named_parameters():
        require(_moved(parameter), f"no gradient reaches the helper {name}")
    trained = fakes.trained(case.method)
    read = [t for role in trained for t in case.out[role].features.values()]
    for role in trained:
        asked = case.out[role].image_gradient
        require(
            asked is None or _moved(asked),
            f"no gradient reaches the image gradient of the {role}; image_score() is not needed",
        )
    require(
        not read or any(map(_moved, read)),
        "no gradient reaches a feature of a trained network; layers() asks for them in vain",
    )
    for role, output in case.out.items():
        if role in trained:
            answers = case.answers(role)
            require(any(map(_moved, answers)), f"no gradient reaches the logits of the {role}")
            require(all(map(_finite, answers)), f"the gradient of the {role} is not finite")
        else:
            given = [tensor.grad is not None for tensor in _tensors(output)]
            require(not any(given), f"a gradient reaches the {role}: detach what is frozen")


def check_purity(case: Case) -> None:
    """The loss is a function: it draws from no global stream and changes none of its arguments
    but the buffers of its helper modules."""
    tensors = [t for o in case.out.values() for t in _tensors(o)]
    tensors += case.helpers.parameters()
    before, random = [t.clone() for t in tensors], torch.get_rng_state()
    first, second = case.terms(fakes.MIDDLE), case.terms(fakes.MIDDLE)
    require(
        torch.equal(torch.get_rng_state(), random),
        "loss() draws from torch's global generator; draw from batch.generator",
    )
    require(all(map(torch.equal, tensors, before)), "loss() changes outputs or helper modules")
    for name in first:
        require(torch.equal(first[name], second[name]), f"{name} differs when computed again")


def check_no_values_read(case: Case) -> None:
    """Nothing depends on values in Python: tensors on the meta device have none to read."""
    bare = {
        role: Output(
            o.logits.to("meta"),
            {n: t.to("meta") for n, t in o.features.items()},
            {n: t.to("meta") for n, t in o.parameters.items()},
            None if o.image_gradient is None else o.image_gradient.to("meta"),
        )
        for role, o in case.out.items()
    }
    share = torch.empty((), device="meta")
    progress = Progress(share, share, share)
    helpers = fakes.helpers(case.method, case.sizes).to("meta")
    try:
        out = answered(case.method, bare, helpers)
        terms = case.method.loss(out, fakes.batch(device="meta"), helpers, progress)
    except (RuntimeError, NotImplementedError) as error:
        raise AssertionError(
            "loss() reads a value back (`.item()`, `if tensor:`) or makes a tensor on another "
            f"device, which a CUDA graph cannot capture: {error}"
        ) from error
    for name, term in terms.items():
        require(term.is_meta and term.shape == (), f"{name} does not follow the logits' device")


def check_recipe(case: Case) -> None:
    """The term of the labels follows what the recipe makes of them."""
    if not case.method.loss_weights()["task"]:
        return
    plain = case.terms(fakes.END)["task"]
    require(
        not torch.equal(case.terms(fakes.END, label_smoothing=0.2)["task"], plain),
        "the term `task` takes no account of label smoothing: use kdbench.methods.cross_entropy",
    )


def check_tensor_progress(case: Case) -> None:
    """Progress as tensors gives the same as progress as numbers."""
    for progress in PROGRESS:
        shares = {k: torch.tensor(v) for k, v in dataclasses.asdict(progress).items()}
        plain, terms = case.terms(progress), case.terms(Progress(**shares))
        for name, term in terms.items():
            require(torch.equal(term, plain[name]), f"{name} differs where progress is a tensor")


def check_loss_weights(case: Case) -> None:
    """`loss_weights` doubled doubles every term, so no term takes its weight elsewhere."""
    plain, weights = case.terms(fakes.END), case.method.loss_weights()
    strange = sorted(case.method.momentum_shifts().keys() - weights.keys())
    require(not strange, f"momentum_shifts() names terms that are not there: {strange}")
    for name, weight in weights.items():
        require(isinstance(weight, float), f"loss_weights()[{name!r}] is {weight!r}, no float")
    doubled = {name: 2 * weight for name, weight in weights.items()}
    with mock.patch.object(type(case.method), "loss_weights", return_value=doubled):
        terms = case.terms(fakes.END)
    for name, term in terms.items():
        same = torch.allclose(term, 2 * plain[name], rtol=1.3e-6, atol=1e-5)
        require(same, f"{name} does not use loss_weights()[{name!r}]; see kdbench.methods.weighted")


def check_seeded_helpers(case: Case) -> None:
    """First weights of helper modules come from torch's global generator alone, or are one
    constant, as those of batch normalisation."""
    first, again, other = (
        fakes.helpers(case.method, case.sizes, seed).state_dict() for seed in (3, 3, 4)
    )
    for name, value in first.items():
        require(torch.equal(value, again[name]), f"the helper {name} differs at the same seed")
        drawn = not torch.equal(value, other[name]) or bool((value == value.flatten()[0]).all())
        require(drawn, f"the helper {name} ignores torch's seed")


def check_unlabelled(case: Case) -> None:
    """A method with `unlabelled` learns from an example without a label, and the term `task`
    does not know of it."""
    if not case.method.unlabelled:
        return
    half, learned = fakes.B // 2, False
    headed = case.method.head(case.helpers) is not None
    tensors = [t for role in fakes.trained(case.method) for t in _tensors(case.out[role])]
    of_examples = [t for t in tensors if len(t) == fakes.B]
    for output in case.out.values():
        output.logits.data *= 10  # sure answers, which some methods wait for
    for progress in (fakes.START, fakes.END):
        terms = case.terms(progress, labelled=half)
        require(all(t.isfinite() for t in terms.values()), "a missing label makes a term infinite")
        for name, term in terms.items():
            if not term.requires_grad:
                continue
            grads = torch.autograd.grad(term, of_examples, retain_graph=True, allow_unused=True)
            moves = any(g is not None and bool(g[half:].any()) for g in grads)
            # Batch normalisation in a head ties the examples of a batch together.
            known = name == "task" and moves and not headed
            require(not known, "the term `task` moves an unlabelled example")
            learned |= moves
    require(learned, "no term learns from an unlabelled example, though `unlabelled` says so")


LOSS = (
    check_terms,
    check_gradients,
    check_purity,
    check_no_values_read,
    check_recipe,
    check_tensor_progress,
    check_loss_weights,
    check_seeded_helpers,
    check_unlabelled,
)


def check_loss(key: str, teacher: str) -> None:
    """All checks of the loss beside one kind of teacher, and at the ends of the ranges.

    A method may refuse a teacher of other sizes than the student's.
    """
    for check in LOSS:
        try:
            case = Case(key, teacher)
        except Incompatible as reason:
            require(teacher != fakes.SAME, f"refuses a teacher of the student's sizes: {reason}")
            return
        check(case)
    for end in ("low", "high"):
        hparams = {name: getattr(r, end) for name, r in METHODS[key].searched().items()}
        for progress in (fakes.START, fakes.END):
            case = Case(key, teacher, **hparams)
            value = _total(case.terms(progress))
            value.backward()
            answers = case.answers("student")
            finite = value.isfinite() and any(a.grad is not None for a in answers)
            finite = finite and all(map(_finite, answers))
            require(finite, f"loss or gradient is not finite at {hparams}")


def loss_checks(key: str) -> Checks:
    """The checks of a method's loss, by the teacher beside it."""
    return {
        f"loss ({teacher} teacher)": partial(check_loss, key, teacher) for teacher in fakes.TEACHERS
    }


def _total(terms: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def _moved(tensor: Tensor) -> bool:
    return tensor.grad is not None and bool(tensor.grad.abs().sum() > 0)


def _finite(tensor: Tensor) -> bool:
    return tensor.grad is None or bool(tensor.grad.isfinite().all())


def _tensors(output: Output) -> list[Tensor]:
    gradient = [] if output.image_gradient is None else [output.image_gradient]
    return [output.logits, *output.features.values(), *output.parameters.values(), *gradient]
