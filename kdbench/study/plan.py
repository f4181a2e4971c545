"""What a plan is made of: runs, the rows that they make, and what a row or a trial sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kdbench.methods.base import Method
from kdbench.records.measures import ACCURACY, MEASURES, Measure
from kdbench.records.plan_file import PlannedRun
from kdbench.records.spec import RunSpec
from kdbench.study.schema import Entry, Study


@dataclass(frozen=True)
class Node:
    """A run of the plan: `score` says that the test set may be opened for it once."""

    spec: RunSpec
    score: bool
    listing: PlannedRun

    @property
    def id(self) -> str:
        """The run's id."""
        return self.spec.id


@dataclass(frozen=True)
class Trial:
    """A trial of a row's tuning: one run for each tuning seed.

    `score` is (the study's score on validation data as a fraction, validation NLL in nats), the
    means over its runs; None until all are `finished`, and where one diverged. `confirmed` holds
    the validation scores of the second stage, one a seed, whose runs are the last of `runs`;
    None where there is none, and where one diverged.
    """

    number: int
    runs: tuple[str, ...]
    hparams: Mapping[str, Any]
    score: tuple[float, float] | None
    finished: bool
    confirmed: tuple[float, ...] | None = None


@dataclass
class Row:
    """A row of the leaderboard to be: its hyperparameters and its run for each seed.

    `settings` are those of its runs, None while tuning has not chosen them.
    """

    label: str
    row: str
    method: str
    cite: str
    hparams: dict[str, Any] = field(default_factory=dict)
    searched: list[str] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    best_trial: int | None = None
    incompatible: str | None = None
    settings: "Settings | None" = None

    @property
    def judged(self) -> bool:
        """Whether the row is one of the study's comparisons, or their reference."""
        return self.row == "tuned" or (self.row == "only" and not self.incompatible)


@dataclass
class Plan:
    """All runs that are known to be needed, and the rows they make.

    `open` counts rows whose runs are not known yet, since their tuning is not finished.
    """

    nodes: dict[str, Node] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    teachers: dict[str, str] = field(default_factory=dict)
    open: int = 0


@dataclass(frozen=True)
class Settings:
    """What a row or a trial sets: hyperparameters of the method, and the learning rate where
    tuning has chosen it."""

    hparams: Mapping[str, Any]
    lr: float | None = None


def settings_of(entry: Entry, values: Mapping[str, Any]) -> Settings:
    """The settings of a trial: its own values and those that the study file fixes."""
    hparams = {k: v for k, v in values.items() if k != "recipe.lr"}
    return Settings({**entry.hparams, **hparams}, values.get("recipe.lr"))


def hparams_of(method: Method) -> dict[str, Any]:
    """All hyperparameters of a method with their values, defaults written out."""
    return {name: getattr(method, name) for name in method.hparams()}


def measure_of(study: Study) -> Measure:
    """The score by which a study compares and tunes."""
    return MEASURES[study.report.score]


def validated_by(study: Study, kind: str) -> str:
    """The measure of a run on validation data: the study's where tuning or the choice of an epoch
    asks for it. So other runs serve studies of every score."""
    asked = kind == "trial" or study.final.epoch == "best"
    return study.report.score if asked else ACCURACY.key
