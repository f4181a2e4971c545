"""What a method is: a frozen record of hyperparameters with one pure `loss`."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from kdbench.errors import KdbenchError
from kdbench.methods.networks import Source, Trained
from kdbench.methods.types import Batch, MixedBatch, Progress, Score, Shapes
from kdbench.models.output import Output
from kdbench.registry import Paper


@dataclass(frozen=True)
class Range:
    """The interval that tuning searches, ends included; `log` draws uniformly in log scale."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Hparam:
    """One hyperparameter: `search` is where tuning looks (None: never tuned), and
    `low` and `high` are the ends of what is meaningful at all (None: open)."""

    search: Range | None
    low: float | None
    high: float | None
    help: str


def hparam(
    default: Any,
    search: Range | None = None,
    *,
    low: float | None = None,
    high: float | None = None,
    help: str = "",
) -> Any:
    """Declare a dataclass field as a hyperparameter: default, range and limits in one place."""
    return dataclasses.field(default=default, metadata={"hparam": Hparam(search, low, high, help)})


class UndeclaredField(KdbenchError, TypeError):
    """A field of a method is not declared with `hparam`."""


class Incompatible(KdbenchError):
    """A method cannot serve this pair of models; the message is the reason to print."""


@dataclass(frozen=True)
class Method:
    """One way to train a student.

    A subclass is a frozen dataclass whose fields are its hyperparameters. It holds no tensors,
    makes no optimiser, logs nothing and reads no configuration.
    """

    #: The display name in tables and pages, the paper's own; empty: the key.
    title: ClassVar[str] = ""
    paper: ClassVar[Paper]
    #: Raise when `loss` changes value: it is part of every run's id.
    version: ClassVar[int] = 1
    #: Roles that look at a view of their own (index 1, 2, ...); all others share view 0.
    views: ClassVar[Mapping[str, int]] = {}
    #: Roles that look at other examples than the batch's own in a usual view: `SAME_CLASS`,
    #: `PREVIOUS`, `MIXED` or `STRONG`. A frozen network looks at no `SAME_CLASS` or `PREVIOUS`.
    examples: ClassVar[Mapping[str, str]] = {}
    #: Whether `loss` has use for examples without a label. Where a study has such, they follow
    #: the labelled ones in each batch, with the label `NO_LABEL`.
    unlabelled: ClassVar[bool] = False

    def networks(self) -> Mapping[str, Source]:
        """The run's networks by role."""
        return {"student": Trained("student")}

    def layers(self) -> tuple[str, ...]:
        """Feature maps and embeddings the loss reads, by name or `fnmatch` pattern.

        A pattern (`stage?`) stands for every layer of that form that all of the run's
        networks have.
        """
        return ()

    def helpers(self, shapes: Shapes) -> nn.ModuleDict:
        """Modules trained beside the student: projectors, heads, memory banks.

        Raises `Incompatible` with a reason where the method cannot serve these shapes.
        """
        return nn.ModuleDict()

    def image_score(self) -> Score | None:
        """What the loss reads the gradient of with respect to the images, in every network's
        `Output.image_gradient`; None: of nothing. The labels are the batch's own.
        """
        return None

    def asks_live(self, role: str) -> bool:
        """Whether a frozen network is asked batch by batch whatever the recipe says, as no cache
        holds what the loss reads of it."""
        return self.image_score() is not None or role in self.examples

    def momentum_shifts(self) -> Mapping[str, float]:
        """What is added to the recipe's momentum for the gradients of terms, by term: terms of
        one shift have a running gradient of their own. Empty: all terms share one.

        Needs a recipe with SGD and momentum; for another the method is incompatible.
        """
        return {}

    def head(self, helpers: nn.ModuleDict) -> nn.Module | None:
        """What answers in place of the student's classifier, in training and wherever the
        student is used afterwards: one of the helper modules, or None for the classifier.

        `head(features, parameters)` takes those of the student's `Output` and gives another one:
        the logits, and under names of its own what else the loss reads of it. The loss gets both
        as the student's output. A snapshot or average of the student has no head.
        """
        return None

    def loss_weights(self) -> dict[str, float]:
        """The expanded weights of the objective: `task` is what multiplies the
        cross-entropy, `soft` the KL or its like with T**2 included, and so on. Every
        run logs them, so that no reader has to know a convention."""
        return {"task": 1.0}

    def loss(
        self,
        out: Mapping[str, Output],
        batch: Batch | MixedBatch,
        helpers: nn.ModuleDict,
        progress: Progress,
    ) -> dict[str, Tensor]:
        """Named, weighted scalar terms; their sum is minimised.

        `progress` may hold 0-d tensors, since a GPU captures the step once and replays it, so
        no Python branch depends on its values; `scalar` brings them to the logits' type. Where
        the recipe mixes images, a method that reads `batch.labels` is left out of the study.
        """
        raise NotImplementedError

    @classmethod
    def hparams(cls) -> dict[str, Hparam]:
        """The method's hyperparameters by name, in the order they are declared."""
        fields = dataclasses.fields(cls)
        if plain := [field.name for field in fields if "hparam" not in field.metadata]:
            raise UndeclaredField(
                f"{cls.__name__}.{plain[0]} is not declared with hparam(): every field of a method "
                "is a hyperparameter; what is none is a ClassVar"
            )
        return {field.name: field.metadata["hparam"] for field in fields}

    @classmethod
    def searched(cls) -> dict[str, Range]:
        """The hyperparameters that tuning moves, with their ranges."""
        return {name: k.search for name, k in cls.hparams().items() if k.search is not None}

    def __post_init__(self) -> None:
        """Coerce each hyperparameter to its default's type and refuse what has no meaning.

        Raises `ValueError` that names the hyperparameter, the value and the limits.
        """
        hparams = self.hparams()
        for field in dataclasses.fields(self):
            spec = hparams[field.name]
            value = coerce(field.name, getattr(self, field.name), type(field.default))
            object.__setattr__(self, field.name, value)
            below = spec.low is not None and value < spec.low
            above = spec.high is not None and value > spec.high
            if below or above:
                low = "-inf" if spec.low is None else f"{spec.low:g}"
                high = "inf" if spec.high is None else f"{spec.high:g}"
                raise ValueError(f"{field.name} = {value} is out of range: [{low}, {high}]")


def coerce(name: str, value: Any, kind: type) -> Any:
    """`value` as `kind`; YAML's `5e-4` string and `1` for `1.0` are meant as numbers."""
    if kind is str:
        if not isinstance(value, str):
            raise ValueError(f"{name} = {value!r} is not a name")
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} = {value!r} is not a number") from None
    if isinstance(value, bool) or number != number or abs(number) == float("inf"):
        raise ValueError(f"{name} = {value!r} is not a finite number")
    if kind is int:
        if number != int(number):
            raise ValueError(f"{name} = {value!r} is not a whole number")
        return int(number)
    return number
