"""What a run is: one training of one method on one seed, and the id that says exactly which.

Everything that can change a number is in the spec, and nothing else is. Standard
library and numpy only, so that reports can read records without torch.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

#: The types in which the outputs of teachers are cached.
TYPES: dict[str, np.dtype[Any]] = {"fp32": np.dtype("<f4"), "fp16": np.dtype("<f2")}
#: A layer is cached up to this many bytes, over all views of all training images.
CACHE_LIMIT = 4 << 30
#: A cache pays off if it has at most this many views for each epoch.
VIEWS_PER_EPOCH = 3


@dataclass(frozen=True)
class DataSpec:
    """`checksum` is over the training file's images and labels; `validation` images are
    held out by `split_seed`; `train_on` is `fit` (the rest) or `all`. Where `labelled` is not
    0, only so many images of the rest keep their labels, and an epoch has as many steps as it
    takes to show the others once, `unlabelled` beside each labelled one."""

    name: str
    checksum: str
    validation: int
    split_seed: int
    augment: str
    train_on: str
    labelled: int = 0
    unlabelled: int = 0


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, the same for every method of a study.

    `teacher_outputs` is where a teacher's outputs come from (`auto`, `cache`, `live`; always live
    for a method or images that no cache serves), `storage` the type in which they are cached. In
    the first `warmup` epochs the learning rate grows to `lr`; `clip` is the largest norm of a
    step's gradient, 0 for none. `label_smoothing` is in every cross-entropy with the labels.
    `mixup` and `cutmix` are the alpha of the beta distribution of their shares, 0 for none.
    `class_weights` is `none`, or `balanced` by the number of labelled images of each class.
    `ema` is the decay of the running mean that is used in the student's place, 0 for none.
    `augment` and `erasing` (a probability) change the views of the data further, at random.
    """

    epochs: int
    batch: int
    optimizer: str
    lr: float
    momentum: float
    weight_decay: float
    schedule: str
    milestones: tuple[float, ...]
    gamma: float
    precision: str
    teacher_outputs: str
    storage: str = "fp32"
    nesterov: bool = False
    warmup: int = 0
    clip: float = 0.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    augment: str = "none"
    erasing: float = 0.0
    class_weights: str = "none"
    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def mixes(self) -> bool:
        """Whether images are mixed of two."""
        return bool(self.mixup or self.cutmix)

    @property
    def random_images(self) -> bool:
        """Whether an image is seen in more ways than a cache could hold outputs of."""
        return self.augment != "none" or bool(self.erasing) or self.mixes


#: Values of a recipe that the first records lack, and what stood for them.
YOUNGER: dict[str, Any] = {
    "storage": "fp32",
    "nesterov": False,
    "warmup": 0,
    "clip": 0.0,
    "label_smoothing": 0.0,
    "ema": 0.0,
    "augment": "none",
    "erasing": 0.0,
    "class_weights": "none",
    "mixup": 0.0,
    "cutmix": 0.0,
}


@dataclass(frozen=True)
class RunSpec:
    """One run, with every default written out.

    `models` fills the slots of the networks this run trains; `frozen_runs` gives, for each
    role whose weights another run made, that run's id; `frozen_epoch` says which of its
    weights are taken (`last` or `best` epoch). `lineage` numbers generations and
    ensemble members, so that no two of them start from the same first weights. `given_weights`
    is the checksum of the file that the weights of a run came from that was not trained here.
    `validated_by` is the measure (`records.measures`) that validation adds to accuracy, and by
    which it chooses the best epoch.
    """

    data: DataSpec
    models: Mapping[str, str]
    method: str
    version: int
    origin: str
    hparams: Mapping[str, Any]
    recipe: Recipe
    seed: int
    lineage: int = 0
    frozen_runs: Mapping[str, str] = field(default_factory=dict)
    frozen_epoch: str = "last"
    given_weights: str = ""
    validated_by: str = "accuracy"

    def canonical(self) -> str:
        """The spec as canonical JSON: sorted keys, no spaces, no NaN."""
        return canonical(self._identity())

    @cached_property
    def id(self) -> str:
        """12 hex digits of sha256 over the canonical JSON."""
        return digest(self._identity())

    def _identity(self) -> dict[str, Any]:
        value = dataclasses.asdict(self)
        # These are younger than the first records: at its default a run keeps the id it had.
        for name, default in YOUNGER.items():
            if value["recipe"][name] == default:
                del value["recipe"][name]
        for name in ("labelled", "unlabelled"):
            if value["data"][name] == 0:
                del value["data"][name]
        if not self.given_weights:
            del value["given_weights"]
        if self.validated_by == "accuracy":
            del value["validated_by"]
        return value

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> "RunSpec":
        """The spec that `dataclasses.asdict` and JSON made `raw` from."""
        recipe = {**raw["recipe"], "milestones": tuple(raw["recipe"]["milestones"])}
        return RunSpec(**{**raw, "data": DataSpec(**raw["data"]), "recipe": Recipe(**recipe)})


def canonical(value: Any) -> str:
    """Canonical JSON of `value`. Raises `ValueError` on NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """12 hex digits of sha256 over the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:12]


def uses_cache(
    spec: RunSpec, examples: int, views: int, layers: Mapping[str, tuple[int, ...]]
) -> bool:
    """Whether this run reads the outputs of a frozen network at these layers from the cache.

    `examples` is the number of training images, `views` how many views the augmentation has
    of each, `layers` the shape of each layer's features without the batch.
    """
    recipe = spec.recipe
    if recipe.random_images:
        return False
    if recipe.teacher_outputs != "auto":
        return recipe.teacher_outputs == "cache"
    row = TYPES[recipe.storage].itemsize * examples * views
    small = all(row * math.prod(shape) <= CACHE_LIMIT for shape in layers.values())
    return small and views <= VIEWS_PER_EPOCH * recipe.epochs


class Interval(Protocol):
    """What is needed of a search range: ends included, `log` for uniform in log scale."""

    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def log(self) -> bool: ...


Ranges = Mapping[str, Interval]
