"""The plan file of a study: its settings, rows and runs, as one typed object.

`kdbench.study` makes it; the driver keeps it as JSON in `runs/plans/`; reports, MLflow and the
command line read it. No torch here.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from kdbench.errors import KdbenchError
from kdbench.records.bounded import refuse_control
from kdbench.records.files import write_json
from kdbench.records.measures import ACCURACY
from kdbench.records.method_text import MethodText
from kdbench.records.readers import CorruptRecord, read_object, sealed
from kdbench.records.spec import YOUNGER, Recipe


class CorruptPlan(KdbenchError):
    """A plan file that cannot be read."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"the plan {path} cannot be read: {why}. `kdbench study {path.stem}` writes it anew; "
            "`kdbench doctor` moves it aside."
        )


@dataclass(frozen=True)
class PlannedRun:
    """A run as the plan lists it.

    `kind` is `teacher`, `stage` (a network that a method needs first), `trial` or `final`.
    `label` and `method` are the entry's, `group` is what MLflow shows the run under, `teacher`
    the id of the study's teacher for this run.
    """

    name: str
    kind: str
    group: str
    method: str
    label: str
    seed: int
    trial: int | None = None
    teacher: str | None = None


@dataclass(frozen=True)
class PlannedTrial:
    """A trial of a row's tuning: its runs, one a tuning seed, and their mean validation scores.

    `accuracy`, a fraction, is the plan's `measure` and `nll` is in nats; both are None until all
    runs have ended, and where one diverged. `confirmed` holds the validation scores of the second
    stage, one a seed; `runs` names the runs of both stages.
    """

    number: int
    runs: tuple[str, ...]
    hparams: Mapping[str, Any]
    accuracy: float | None = None
    nll: float | None = None
    confirmed: tuple[float, ...] = ()


@dataclass(frozen=True)
class SearchRange:
    """The range in which a hyperparameter is tuned, ends included; `log`: in log scale."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class PlanRow:
    """A row of the leaderboard: a method with these hyperparameters, and its run for each seed.

    `row` is `default`, `tuned`, `pinned` or `only`; `searched` names what its tuning moved, and
    `ranges` gives where; `incompatible` says why it has no runs; `outputs` says, for each role
    that another run fills, whether its outputs come from the `cache` or are computed `live`;
    `at_edge` names what the chosen trial has at an end of its range; `unlabelled` says that its
    runs learn from images without labels too; `precision` is that of its runs, where it is not
    the recipe's.
    """

    label: str
    row: str
    method: str
    cite: str | None = None
    hparams: Mapping[str, Any] = field(default_factory=dict)
    searched: tuple[str, ...] = ()
    runs: Mapping[str, str] = field(default_factory=dict)
    trials: tuple[PlannedTrial, ...] = ()
    best_trial: int | None = None
    incompatible: str | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, SearchRange] = field(default_factory=dict)
    at_edge: tuple[str, ...] = ()
    unlabelled: bool = False
    precision: str = ""


@dataclass(frozen=True)
class PlanData:
    """The data of a study: `images` training images of `shape` (channels, height, width), of
    which `validation` validate; `train_on` is `fit` (the others) or `all`. Where `labelled` is
    not 0, only so many keep their labels, and each step has `unlabelled` others beside each of
    them; `teacher_labelled` is `all` where the teacher has all labels."""

    name: str
    checksum: str = ""
    validation: int = 0
    augment: str = "none"
    train_on: str = "fit"
    classes: tuple[str, ...] = ()
    images: int = 0
    shape: tuple[int, ...] = ()
    labelled: int = 0
    unlabelled: int = 0
    teacher_labelled: str = ""


@dataclass(frozen=True)
class PlanConfirm:
    """The second stage of tuning: how many points besides the default, and with which seeds."""

    points: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class PlanTune:
    """The tuning budget of every row that is tuned."""

    trials: int
    epochs: int
    seeds: tuple[int, ...]
    sampler: str
    confirm: PlanConfirm | None = None


@dataclass(frozen=True)
class PlanTaken:
    """The rows that a study takes from the report of another: that study, the digest of its data,
    and the labels. `teachers` gives the accuracy on test, a fraction, of the teachers whose scores
    were others when they were trained again, by id."""

    report: str
    digest: str
    labels: tuple[str, ...]
    teachers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PlanFile:
    """All that reports and MLflow take from a study.

    `selection` is `last` or `best`, the epoch whose weights are scored; `margin` is in
    percentage points; `test` is the test of differences (a plan that names none is older than
    the choice, and was judged by the paired t test); `teachers` gives the teacher's run for
    each of its seeds; `references` gives the fields of each paper by its key, and `cites` the
    keys of the data set's and of the models' papers; `listing` describes each run by its id.
    Scores that come from elsewhere have no data, models and recipe, and say
    with `score` what they measure. `teacher_weights` names the file that the teacher came from,
    if it was not trained here, and `teacher_input` says how its images are made, if other than
    the students'. `looks` are the numbers of seeds at which the study is judged, if there are
    several. `measure` is the score that is compared and tuned (`records.measures`). `taken` says
    which rows were not run for this study; `methods` holds the texts of the rows' methods by key.
    """

    study: str
    selection: str
    question: str = ""
    hash: str = ""
    data: PlanData | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    recipe: Recipe | None = None
    reference: str = ""
    margin: float = 0.2
    tune: PlanTune | None = None
    teachers: Mapping[str, str] = field(default_factory=dict)
    published: tuple[Mapping[str, Any], ...] = ()
    references: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cites: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = False
    rows: tuple[PlanRow, ...] = ()
    listing: Mapping[str, PlannedRun] = field(default_factory=dict)
    score: str | None = None
    test: str = "paired-t"
    looks: tuple[int, ...] = ()
    teacher_weights: str = ""
    measure: str = ACCURACY.key
    taken: PlanTaken | None = None
    teacher_input: str = ""
    methods: Mapping[str, MethodText] = field(default_factory=dict)

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> "PlanFile":
        """The plan that `to_dict` and JSON made `raw` from.

        Raises `TypeError`, `ValueError` or `AttributeError` where `raw` is no such plan.
        """
        listing = {run: PlannedRun(**entry) for run, entry in raw.get("listing", {}).items()}
        parts: dict[str, Any] = {
            "data": _part(PlanData, raw.get("data"), "classes", "shape"),
            "recipe": _part(Recipe, raw.get("recipe"), "milestones"),
            "tune": _tune(raw.get("tune")),
            "published": tuple(raw.get("published") or ()),
            "rows": tuple(_row(row) for row in raw.get("rows") or ()),
            "listing": listing,
            "looks": tuple(raw.get("looks") or ()),
            "taken": _part(PlanTaken, raw.get("taken"), "labels"),
            "methods": {key: MethodText(**text) for key, text in raw.get("methods", {}).items()},
        }
        return PlanFile(**{**raw, **parts})

    def to_dict(self, runs: bool = True) -> dict[str, Any]:
        """The plan as plain dictionaries, for JSON.

        With `runs=False` the listing and the tunings are left out: a report keeps them in
        tables of their own.
        """
        plan = asdict(self)
        # Younger than the first reports, which keep the digest that they had.
        for name, value in (("score", None), ("test", "paired-t"), ("measure", ACCURACY.key)):
            if plan[name] == value:
                del plan[name]
        if self.tune and self.tune.confirm is None:
            del plan["tune"]["confirm"]
        for row in plan["rows"]:
            for name in ("at_edge", "unlabelled", "precision"):
                if not row[name]:
                    del row[name]
        for name in ("looks", "taken", "teacher_weights", "teacher_input", "methods"):
            if not plan[name]:
                del plan[name]
        for name, default in YOUNGER.items():
            # The first reports have `storage`.
            if self.recipe and name != "storage" and plan["recipe"][name] == default:
                del plan["recipe"][name]
        if self.data and not self.data.labelled:
            for key in ("labelled", "unlabelled", "teacher_labelled"):
                del plan["data"][key]
        if not runs:
            del plan["listing"]
            for row in plan["rows"]:
                del row["trials"], row["ranges"]
        return plan

    def without_runs(self) -> "PlanFile":
        """The plan without its listing and its tunings."""
        rows = tuple(replace(row, trials=(), ranges={}) for row in self.rows)
        return replace(self, rows=rows, listing={})

    @staticmethod
    def load(path: Path) -> "PlanFile | None":
        """The plan in a file, or None where there is no file. Raises `CorruptPlan`."""
        try:
            raw = read_object(path)
            refuse_control(raw)
            return None if raw is None else PlanFile.from_dict(raw)
        except CorruptRecord as error:
            raise CorruptPlan(path, error.why) from error
        except (AttributeError, RecursionError, TypeError, ValueError) as error:
            raise CorruptPlan(path, str(error)) from error

    @staticmethod
    def load_readable(path: Path) -> "PlanFile | None":
        """The plan in a file, or None where there is no file or it cannot be read."""
        try:
            return PlanFile.load(path)
        except CorruptPlan:
            return None

    def dump(self, path: Path) -> None:
        """Write the plan as JSON with a checksum, whole or not at all."""
        write_json(path, sealed(self.to_dict()))


def _part(kind: type[Any], raw: Mapping[str, Any] | None, *tuples: str) -> Any:
    """A part of the plan, whose lists at the keys `tuples` become tuples; None for none."""
    if not raw:
        return None
    return kind(**{**raw, **{key: tuple(raw[key]) for key in tuples if key in raw}})


def _tune(raw: Mapping[str, Any] | None) -> PlanTune | None:
    tune = _part(PlanTune, raw, "seeds")
    return tune and replace(tune, confirm=_part(PlanConfirm, tune.confirm, "seeds"))


def _row(raw: Mapping[str, Any]) -> PlanRow:
    trials = tuple(
        _part(PlannedTrial, trial, "runs", "confirmed") for trial in raw.get("trials") or ()
    )
    ranges = {name: SearchRange(**parts) for name, parts in (raw.get("ranges") or {}).items()}
    names = {key: tuple(raw.get(key) or ()) for key in ("searched", "at_edge")}
    return PlanRow(**{**raw, **names, "trials": trials, "ranges": ranges})
