"""What a study file may hold, part by part: pydantic's models and the types of their values."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from kdbench.data import VIEWS
from kdbench.data.changes import POLICIES
from kdbench.records.measures import ACCURACY, MEASURES
from kdbench.records.spec import Recipe
from kdbench.registry import KINDS, URL, Paper, balanced
from kdbench.stats.analysis import MODERATED, TESTS
from kdbench.study.data_names import ALL_OWN_KEYS, data_name
from kdbench.study.fields import number, one_of
from kdbench.study.model_names import MODEL_KEYS
from kdbench.study.part import (
    BelowOne,
    CiteKey,
    Count,
    MethodKey,
    ModelName,
    Name,
    NotNegative,
    Part,
    Positive,
    Precision,
    Prose,
    Seed,
    Seeds,
    Share,
    Text,
)
from kdbench.study.sampling import SAMPLERS
from kdbench.study.slots import Slot, Teacher

SCHEDULES = ("constant", "cosine", "step", "one-cycle")


class Unlabelled(Part):
    """How many images without labels each step has beside one with a label."""

    ratio: Count = 4


class Data(Part):
    """Which images, how many of the training images validate, and which views are drawn.

    `labelled` is a number of images, or a share of those that validation leaves, which keep
    their labels; the others are images without labels. In a file, `folder`, `arrays` or `hub` with
    keys of its own stands in place of `name` for images of a user's own.
    """

    name: Annotated[str, BeforeValidator(data_name)]
    validation: Count
    augment: Annotated[str, one_of("augmentation", VIEWS)] = "none"
    labelled: Count | Share | None = None
    unlabelled: Unlabelled = Unlabelled()

    @model_validator(mode="before")
    @classmethod
    def _own_images(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping) or not ALL_OWN_KEYS & set(raw):
            return raw
        rest = {key: value for key, value in raw.items() if key not in ALL_OWN_KEYS}
        return {**rest, "name": {key: raw[key] for key in raw if key in {*ALL_OWN_KEYS, "name"}}}


class RecipePart(Part):
    """How every network of the study is trained. `milestones` are shares of the epochs."""

    epochs: Count
    batch: Annotated[int, Field(ge=2, lt=2**31, strict=True)]
    optimizer: Annotated[str, one_of("optimizer", ("adam", "adamw", "sgd"))] = "adam"
    lr: Positive
    momentum: BelowOne = 0.9
    weight_decay: NotNegative = 0.0
    schedule: Annotated[str, one_of("schedule", SCHEDULES)] = "constant"
    milestones: tuple[Annotated[float, BeforeValidator(number), Field(gt=0, lt=1)], ...] = ()
    gamma: Annotated[float, BeforeValidator(number), Field(gt=0, le=1)] = 0.1
    precision: Precision = "fp32"
    teacher_outputs: Annotated[
        str, one_of("way to get teacher outputs", ("auto", "cache", "live"))
    ] = "auto"
    storage: Annotated[str, one_of("storage type", ("fp32", "fp16"))] = "fp32"
    nesterov: Annotated[bool, Field(strict=True)] = False
    warmup: Annotated[int, Field(ge=0, lt=2**31, strict=True)] = 0
    clip: NotNegative = 0.0
    label_smoothing: BelowOne = 0.0
    ema: BelowOne = 0.0
    augment: Annotated[str, one_of("way to change images", POLICIES)] = "none"
    erasing: Annotated[float, BeforeValidator(number), Field(ge=0, le=1)] = 0.0
    class_weights: Annotated[str, one_of("class weights", ("none", "balanced"))] = "none"
    mixup: NotNegative = 0.0
    cutmix: NotNegative = 0.0

    def resolve(
        self, epochs: int | None = None, lr: float | None = None, precision: str | None = None
    ) -> Recipe:
        """The recipe of a run: what does not act on it is set to nothing, so that two
        ways to write one recipe are one recipe."""
        steps = self.schedule == "step"
        acting = {
            "epochs": epochs or self.epochs,
            "lr": self.lr if lr is None else lr,
            "momentum": self.momentum if self.optimizer == "sgd" else 0.0,
            "milestones": self.milestones if steps else (),
            "gamma": self.gamma if steps else 0.0,
            "precision": precision or self.precision,
        }
        return Recipe(**{**self.model_dump(), **acting})


class Entry(Part):
    """A method of the study. What `hparams` sets stays as it is, and tuning moves the rest;
    a slot may be filled with another model than the study's, and `precision` be another than
    the recipe's for all runs of the entry but the study's teacher."""

    method: MethodKey
    label: Name
    hparams: Mapping[str, Any] = {}
    slots: Mapping[str, ModelName] = {}
    precision: Precision | None = None


class LrRange(Part):
    """The interval in which a recipe value is tuned, in log scale."""

    low: Positive
    high: Positive


class Shared(Part):
    """Recipe values that are tuned for every method, the one without a teacher included."""

    lr: LrRange | None = None


class Confirm(Part):
    """The second stage of tuning: the default and the best `points` of the first stage are
    trained with these seeds, and the default is kept unless a point beats it by more than one
    standard error of their paired differences."""

    points: Count
    seeds: Annotated[Seeds, Field(min_length=2)]


class Tune(Part):
    """The budget that every method with hyperparameters gets, on validation data."""

    trials: Count
    epochs: Count
    seeds: Annotated[Seeds, Field(min_length=1)]
    sampler: Annotated[str, one_of("sampler", SAMPLERS)] = "random"
    seed: Seed = 0
    shared: Shared = Shared()
    confirm: Confirm | None = None


class Final(Part):
    """The runs that make the leaderboard. `looks` are numbers of seeds at which the methods are
    judged: one that is better, worse or practically equal gets no more seeds."""

    seeds: Annotated[Seeds, Field(min_length=1)]
    looks: tuple[Count, ...] = ()
    epoch: Annotated[str, one_of("selection rule", ("last", "best"))] = "last"
    train_on: Annotated[str, one_of("training part", ("fit", "all"))] = "fit"


class PublishedNumber(Part):
    """A number copied from elsewhere, test accuracy in percent: shown, and in no test.

    `seeds`: over how many runs it is a mean, where its source says so. `cite`: the key of a
    source, or of a paper that the study's methods, models or data come from.
    """

    label: Text
    accuracy: Annotated[float, BeforeValidator(number), Field(ge=0, le=100)]
    seeds: Count | None = None
    note: Prose = ""
    cite: CiteKey


class CitedSource(Part):
    """Where published numbers stand, as a `Paper` without its key; `url` may lead to arXiv."""

    authors: Text
    title: Text
    venue: Text
    year: Annotated[int, Field(ge=1900, le=2100, strict=True)]
    kind: Annotated[str, one_of("kind", KINDS)] = "misc"
    url: Annotated[str, Field(pattern=URL)] | None = None

    @field_validator("authors")
    @classmethod
    def _pairs_up(cls, value: str) -> str:
        if not balanced(value):
            raise ValueError("its braces should pair up")
        return value

    def paper(self, key: str) -> Paper:
        """The source under its key."""
        return Paper(key=key, **self.model_dump())


class Report(Part):
    """What the leaderboard compares with, the score that is compared and tuned, the margin (points)
    of practical equality, the test of differences, what others published, and the licence under
    which the report may show `images` of a data set that names none."""

    reference: str
    score: Annotated[str, one_of("score", MEASURES)] = ACCURACY.key
    margin: Positive = 0.2
    test: Annotated[str, one_of("test", TESTS)] = MODERATED
    published: tuple[PublishedNumber, ...] = ()
    sources: Mapping[CiteKey, CitedSource] = {}
    images: Text | None = None


class Study(Part):
    """One study: question, setting, methods, budget."""

    name: Name
    question: Prose = ""
    data: Data
    student: Slot
    teacher: Teacher
    recipe: RecipePart
    methods: Annotated[tuple[Entry, ...], Field(min_length=1)]
    tune: Tune | None = None
    final: Final
    report: Report

    def models(self) -> tuple[str, ...]:
        """The models of all slots, each once."""
        slots = (name for entry in self.methods for name in entry.slots.values())
        return tuple(dict.fromkeys((self.student.model, self.teacher.model, *slots)))


def entry_of(raw: Any) -> Any:
    """A method's line as a mapping: `kd`, or `{method: kd, label: ..., hparams: ...}`."""
    if isinstance(raw, str):
        return {"method": raw, "label": raw}
    if not isinstance(raw, Mapping):
        return raw
    keys = {"method", "label", "hparams"}
    slots = {
        key: value
        for key, value in raw.items()
        if key not in keys and isinstance(value, Mapping) and {"model"} <= set(value) <= MODEL_KEYS
    }
    rest = {key: value for key, value in raw.items() if key not in slots}
    rest.setdefault("label", rest.get("method"))
    return {**rest, "slots": slots}
