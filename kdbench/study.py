"""A study file: strict YAML to a `Study`, all errors at once, each with what to do.

No inheritance and no interpolation: what stands in the file is what runs.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from kdbench import models
from kdbench.data import DATASETS, VIEWS
from kdbench.methods import METHODS
from kdbench.networks import Frozen, Trained
from kdbench.run import Recipe

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class StudyError(Exception):
    """What is wrong with a study file; one line a fault, each with its place."""

    def __init__(self, where: str, faults: Iterable[str]) -> None:
        self.faults = list(faults)
        lines = "".join(f"\n  - {fault}" for fault in self.faults)
        super().__init__(f"{where}: {len(self.faults)} to mend{lines}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'kd'?)`, or the known words where none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    return f" (did you mean '{near[0]}'?)" if near else f"; known: {', '.join(known)}"


def one_of(what: str, known: Iterable[str]) -> BeforeValidator:
    """A validator that takes one of `known` and otherwise says which is near."""
    known = list(known)

    def check(value: Any) -> Any:
        if value not in known:
            raise ValueError(f"unknown {what} {value!r}{did_you_mean(value, known)}")
        return value

    return BeforeValidator(check)


def number(value: Any) -> Any:
    """YAML 1.1 reads `5e-4` as text: take it as the number that was meant."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def safe_name(value: Any) -> Any:
    """A name becomes folders and files: nothing in it may leave them."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a name: use lower-case letters, digits, '.', '_' and '-'"
        )
    return value


Number = Annotated[float, BeforeValidator(number)]
Name = Annotated[str, BeforeValidator(safe_name)]
Positive = Annotated[float, BeforeValidator(number), Field(gt=0)]
NotNegative = Annotated[float, BeforeValidator(number), Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
ModelName = Annotated[str, one_of("model", models.MODELS)]
MethodKey = Annotated[str, one_of("method", METHODS)]


class Part(BaseModel):
    """A part of a study file: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(Part):
    """Which images, how many of the training images validate, and which views are drawn."""

    name: Annotated[str, one_of("data set", DATASETS)]
    validation: Annotated[int, Field(ge=1, strict=True)]
    augment: Annotated[str, one_of("augmentation", VIEWS)] = "none"


class Slot(Part):
    """A model for one of the study's slots."""

    model: ModelName


class Teacher(Slot):
    """The teacher: a run like any other. `seed: per-seed` gives each seed its own."""

    method: MethodKey = "ce"
    seed: Seed | Literal["per-seed"] = 0


class RecipePart(Part):
    """How every network of the study is trained. `milestones` are shares of the epochs."""

    epochs: Count
    batch: Annotated[int, Field(ge=2, strict=True)]
    optimizer: Annotated[str, one_of("optimizer", ("adam", "adamw", "sgd"))] = "adam"
    lr: Positive
    momentum: Annotated[float, BeforeValidator(number), Field(ge=0, lt=1)] = 0.9
    weight_decay: NotNegative = 0.0
    schedule: Annotated[str, one_of("schedule", ("constant", "cosine", "step"))] = "constant"
    milestones: tuple[Annotated[float, BeforeValidator(number), Field(gt=0, lt=1)], ...] = ()
    gamma: Annotated[float, BeforeValidator(number), Field(gt=0, le=1)] = 0.1
    precision: Annotated[str, one_of("precision", ("fp32", "bf16"))] = "fp32"
    frozen: Annotated[str, one_of("way of frozen outputs", ("auto", "table", "live"))] = "auto"

    def resolve(self, epochs: int | None = None, lr: float | None = None) -> Recipe:
        """The recipe of a run: what does not act on it is set to nothing, so that two
        ways to write one recipe are one recipe."""
        steps = self.schedule == "step"
        return Recipe(
            epochs=epochs or self.epochs,
            batch=self.batch,
            optimizer=self.optimizer,
            lr=self.lr if lr is None else lr,
            momentum=self.momentum if self.optimizer == "sgd" else 0.0,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            milestones=self.milestones if steps else (),
            gamma=self.gamma if steps else 0.0,
            precision=self.precision,
            frozen=self.frozen,
        )


class Entry(Part):
    """A method of the study. What `knobs` sets stays as it is, and tuning moves the rest;
    a slot may be filled with another model than the study's."""

    method: MethodKey
    label: Name
    knobs: Mapping[str, Any] = {}
    slots: Mapping[str, ModelName] = {}


class LrRange(Part):
    """The interval in which a recipe value is tuned, in log scale."""

    low: Positive
    high: Positive


class Shared(Part):
    """Recipe values that are tuned for every method, the one without a teacher included."""

    lr: LrRange | None = None


class Tune(Part):
    """The budget that every method with knobs gets, on validation data."""

    trials: Count
    epochs: Count
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    sampler: Annotated[str, one_of("sampler", ("random", "tpe"))] = "random"
    seed: Seed = 0
    shared: Shared = Shared()


class Final(Part):
    """The runs that make the leaderboard."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    epoch: Annotated[str, one_of("selection rule", ("last", "best"))] = "last"
    train_on: Annotated[str, one_of("training part", ("fit", "all"))] = "fit"


class Report(Part):
    """What the leaderboard compares with, and the margin (points) of practical equality."""

    reference: str
    margin: Positive = 0.2


class Study(Part):
    """One study: question, setting, methods, budget."""

    name: Name
    question: str = ""
    data: Data
    student: Slot
    teacher: Teacher
    recipe: RecipePart
    methods: Annotated[tuple[Entry, ...], Field(min_length=1)]
    tune: Tune | None = None
    final: Final
    report: Report


def entry_of(raw: Any) -> Any:
    """A method's line as a mapping: `kd`, or `{method: kd, label: ..., knobs: ..., SLOT: ...}`."""
    if isinstance(raw, str):
        return {"method": raw, "label": raw}
    if not isinstance(raw, Mapping):
        return raw
    known = {"method", "label", "knobs"}
    slots = {
        key: value["model"]
        for key, value in raw.items()
        if key not in known and isinstance(value, Mapping) and set(value) == {"model"}
    }
    rest = {key: value for key, value in raw.items() if key not in slots}
    rest.setdefault("label", rest.get("method"))
    return {**rest, "slots": slots}


def parse_study(text: str, where: str, changes: Mapping[str, Any] | None = None) -> Study:
    """The study that `text` (YAML) describes, with `changes` (dotted key to value) made.

    Raises `StudyError` with every fault that was found.
    """
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        raise StudyError(where, [f"not readable as YAML{place}: {_problem(error)}"]) from None
    except (ValueError, RecursionError) as error:
        raise StudyError(where, [f"not readable as YAML: {error}"]) from None
    if not isinstance(raw, dict):
        raise StudyError(where, ["a study is a mapping of keys: name, data, student, ..."])
    faults = [fault for key, value in (changes or {}).items() for fault in _set(raw, key, value)]
    if isinstance(raw.get("methods"), list):
        raw["methods"] = [entry_of(item) for item in raw["methods"]]
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        raise StudyError(where, faults + [_fault(e, raw) for e in error.errors()]) from None
    faults += check(study)
    if faults:
        raise StudyError(where, faults)
    return study


def _problem(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or error)


def _set(raw: dict[str, Any], key: str, value: Any) -> list[str]:
    *path, last = key.split(".")
    at: Any = raw
    for part in path:
        at = at.get(part) if isinstance(at, dict) else None
    if not isinstance(at, dict):
        return [f"--set {key}: the study has no {'.'.join(path)}"]
    at[last] = value
    return []


def _fault(error: Any, raw: Mapping[str, Any]) -> str:
    """One of pydantic's errors as a sentence with its place."""
    path = list(error["loc"])
    if error["type"] == "extra_forbidden":
        known = _fields_at(path[:-1])
        place = _place(path[:-1], raw)
        return f"{place}unknown key '{path[-1]}'{did_you_mean(str(path[-1]), known)}"
    if error["type"] == "missing":
        return f"{_place(path[:-1], raw)}'{path[-1]}' is missing"
    # Pydantic ends a union's path with the branch it tried; that says nothing to a reader.
    path = [p for p in path if not str(p).startswith(("literal[", "constrained-"))]
    text = error["msg"].removeprefix("Value error, ")
    given = (
        ""
        if text.startswith("unknown") or "is not a name" in text
        else (f", not {error['input']!r}")
    )
    return f"{_place(path, raw)}{text[0].lower()}{text[1:]}{given}"


def _place(path: list[Any], raw: Mapping[str, Any]) -> str:
    """`methods[3] (kd).knobs: ` for a path into the file."""
    text = ""
    for depth, part in enumerate(path):
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
        if isinstance(part, int) and path[0] == "methods" and depth == 1:
            item = raw["methods"][part]
            text += f" ({item.get('method')})" if isinstance(item, Mapping) else ""
    return f"{text}: " if text else ""


def _fields_at(path: list[Any]) -> set[str]:
    parts: dict[tuple[str, ...], type[Part]] = {
        (): Study,
        ("data",): Data,
        ("student",): Slot,
        ("teacher",): Teacher,
        ("recipe",): RecipePart,
        ("tune",): Tune,
        ("tune", "shared"): Shared,
        ("tune", "shared", "lr"): LrRange,
        ("final",): Final,
        ("report",): Report,
    }
    if path[:1] == ["methods"]:
        return {"method", "label", "knobs", "assistant", "teacher"}
    return set(parts.get(tuple(map(str, path)), Part).model_fields)


def check(study: Study) -> list[str]:
    """Faults that lie between the parts: overlaps, doubles, knobs, what a method needs."""
    faults: list[str] = []
    labels = [entry.label for entry in study.methods]
    for label in sorted({x for x in labels if labels.count(x) > 1}):
        faults.append(f"methods: two entries are called '{label}'; give one of them a label")
    for place, numbers in (
        ("final.seeds", study.final.seeds),
        ("tune.seeds", study.tune.seeds if study.tune else ()),
    ):
        for double in sorted({n for n in numbers if numbers.count(n) > 1}):
            faults.append(f"{place}: seed {double} stands there twice")
    if study.tune:
        both = sorted(set(study.tune.seeds) & set(study.final.seeds))
        if both:
            faults.append(
                f"tune.seeds and final.seeds share {both}: a seed that chose the knobs cannot "
                "judge them; take other seeds for one of the two"
            )
        lr = study.tune.shared.lr
        if lr and lr.low >= lr.high:
            faults.append(f"tune.shared.lr: low {lr.low:g} is not below high {lr.high:g}")
    if study.report.reference not in labels:
        near = did_you_mean(study.report.reference, labels)
        faults.append(f"report.reference: no method is called '{study.report.reference}'{near}")
    if study.final.train_on == "all" and study.final.epoch == "best":
        faults.append("final: train_on: all leaves no validation images, so the epoch is 'last'")
    if study.recipe.schedule == "step" and not study.recipe.milestones:
        faults.append("recipe: schedule: step needs milestones (shares of the epochs)")
    if study.recipe.frozen == "table" and VIEWS[study.data.augment] > 1:
        faults.append(
            f"recipe.frozen: a table needs one view of each image, and augment: "
            f"{study.data.augment} has {VIEWS[study.data.augment]}; use auto or live"
        )
    for index, entry in enumerate(study.methods):
        place = f"methods[{index}] ({entry.method})"
        faults += [f"{place}: {fault}" for fault in knob_faults(entry)]
    return faults


def knob_faults(entry: Entry) -> list[str]:
    """What is wrong with an entry's knobs and slots."""
    kind = METHODS[entry.method]
    known = kind.knobs()
    faults = [
        f"unknown knob '{name}'" + (did_you_mean(name, known) if known else "; it has no knobs")
        for name in entry.knobs
        if name not in known
    ]
    if faults:
        return faults
    try:
        method = kind(**entry.knobs)
    except ValueError as error:
        return [str(error)]
    needed = slots_of(method) | {"teacher"}
    faults = [
        f"it uses no model called '{slot}'{did_you_mean(slot, needed)}"
        for slot in entry.slots
        if slot not in needed
    ]
    faults += [
        f"it needs a model for '{slot}': write {{method: {entry.method}, {slot}: {{model: ...}}}}"
        for slot in sorted(needed - {"student", "teacher"} - set(entry.slots))
    ]
    return faults


def slots_of(method: Any) -> set[str]:
    """The slots whose models a method's networks take."""
    slots = set()
    for source in method.networks().values():
        if isinstance(source, Trained):
            slots.add(source.slot)
        elif isinstance(source, Frozen):
            slots.add(source.run.model)
    return slots


def shipped() -> dict[str, Path]:
    """The studies that come with kdbench, by name."""
    inside = Path(str(resources.files("kdbench"))) / "studies"
    folder = inside if inside.is_dir() else Path(__file__).parent.parent / "studies"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_study(name: str, changes: Mapping[str, Any] | None = None) -> Study:
    """The shipped study `name`, or the one in the file of that path.

    Raises `StudyError` where there is none, or where it has faults.
    """
    known = shipped()
    path = known.get(name, Path(name))
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        if name in known or path.suffix in {".yaml", ".yml"}:
            raise StudyError(name, [f"cannot read {path}: {error.strerror}"]) from None
        raise StudyError(
            name,
            [f"no study of that name{did_you_mean(name, known)}; a path to a YAML file works too"],
        ) from None
    except UnicodeDecodeError:
        raise StudyError(name, [f"{path} is not UTF-8 text"]) from None
    return parse_study(text, name, changes)
