"""A study file: strict YAML to a `Study`, all errors at once, each with what to do.

No inheritance and no interpolation: what stands in the file is what runs.
"""

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from kdbench import models
from kdbench.data import DATASETS, VIEWS
from kdbench.methods import METHODS
from kdbench.networks import TEACHER, Frozen, Stage, Trained
from kdbench.run import Recipe

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class StudyError(Exception):
    """What is wrong with a study file; one line a fault, each with its place."""

    def __init__(self, where: str, faults: Iterable[str]) -> None:
        self.faults = list(faults)
        lines = "".join(f"\n  - {fault}" for fault in self.faults)
        super().__init__(f"{where}: {len(self.faults)} to mend{lines}")


#: Values as they are shown in a fault: a line at the most.
SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother, SHORT.maxlong = 2, 60, 60, 60


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """` (did you mean 'kd'?)`, or the known words where none is near."""
    known = sorted(known)
    word = word[:100] if isinstance(word, str) else ""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean '{near[0]}'?)" if near else f"; known: {', '.join(known)}"


def one_of(what: str, known: Iterable[str]) -> BeforeValidator:
    """A validator that takes one of `known` and otherwise says which is near."""
    known = list(known)

    def check(value: Any) -> Any:
        if value not in known:
            raise ValueError(f"unknown {what} {SHORT.repr(value)}{did_you_mean(value, known)}")
        return value

    return BeforeValidator(check)


def number(value: Any) -> Any:
    """YAML 1.1 reads `5e-4` as text: take it as the number that was meant, and `yes` as none."""
    if isinstance(value, bool):
        raise ValueError("input should be a number")
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
            f"{SHORT.repr(value)} is not a name: use lower-case letters, digits, '.', '_' and '-'"
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

    method: MethodKey = TEACHER.method
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


class Loader(yaml.SafeLoader):
    """YAML's safe part, where a key that stands twice is an error: one of the two would be
    lost without a word."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping, after a look at its keys."""
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key '{key.value}' stands there twice",
                    problem_mark=key.start_mark,
                )
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


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
        raw = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        raise StudyError(where, [f"not readable as YAML{place}: {_problem(error)}"]) from None
    # What a value's own constructor raises: `!!timestamp x`, `!!int ""`, `!!bool x`.
    except (ValueError, ArithmeticError, AttributeError, LookupError, RecursionError) as error:
        raise StudyError(where, [f"not readable as YAML: {error}"]) from None
    if not isinstance(raw, dict):
        raise StudyError(where, ["a study is a mapping of keys: name, data, student, ..."])
    faults = [fault for key, value in (changes or {}).items() for fault in _set(raw, key, value)]
    if isinstance(raw.get("methods"), list):
        faults += [
            f"{_place(['methods', index], raw)}unknown key 'slots'; name the slot itself, as in "
            "{method: ..., teacher: {model: ...}}"
            for index, item in enumerate(raw["methods"])
            if isinstance(item, Mapping) and "slots" in item
        ]
        raw["methods"] = [entry_of(item) for item in raw["methods"]]
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        faults += [_fault(e, raw) for e in error.errors()]
        raise StudyError(where, faults + check(_sound_parts(raw))) from None
    faults += check(study)
    if faults:
        raise StudyError(where, faults)
    return study


def _sound_parts(raw: Mapping[str, Any]) -> Any:
    """What can be read of a file that has faults, as a study: a part that cannot is None, and
    an entry that cannot has no method. So that `check` tells what else is wrong."""

    def read(kind: type[Part], value: Any) -> Any:
        try:
            return kind.model_validate(value)
        except ValidationError:
            return None

    def entry(item: Any) -> Any:
        label = item.get("label") if isinstance(item, Mapping) else None
        unread = Entry.model_construct(method="", label=label, knobs={}, slots={})
        bare = {k: item[k] for k in ("method", "label", "knobs") if k in item} if label else None
        return read(Entry, item) or read(Entry, bare) or unread

    kinds: dict[str, type[Part]] = {
        "data": Data,
        "student": Slot,
        "teacher": Teacher,
        "recipe": RecipePart,
        "tune": Tune,
        "final": Final,
        "report": Report,
    }
    parts = {name: read(kind, raw.get(name)) for name, kind in kinds.items()}
    items = raw.get("methods")
    entries = tuple(map(entry, items)) if isinstance(items, list) else ()
    return Study.model_construct(**parts, methods=entries)


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
        if path[0] == "methods" and path[-1] in known:  # a slot, but not in its form
            return f"{place}'{path[-1]}' should name a model: {{model: ...}}"
        return f"{place}unknown key '{path[-1]}'{did_you_mean(str(path[-1]), known)}"
    if error["type"] == "missing":
        return f"{_place(path[:-1], raw)}'{path[-1]}' is missing"
    # Pydantic ends a union's path with the branch it tried; that says nothing to a reader.
    path = [p for p in path if not str(p).startswith(("literal[", "constrained-"))]
    text = error["msg"].removeprefix("Value error, ")
    given = (
        ""
        if text.startswith("unknown") or "is not a name" in text
        else f", not {SHORT.repr(error['input'])}"
    )
    return f"{_place(path, raw)}{text[0].lower()}{text[1:]}{given}"


def _place(path: list[Any], raw: Mapping[str, Any]) -> str:
    """`methods[3] (kd).knobs: ` for a path into the file."""
    text = ""
    for depth, part in enumerate(path):
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
        if isinstance(part, int) and path[0] == "methods" and depth == 1:
            items = raw["methods"]
            item = items[part] if isinstance(items, list) else None
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
    """Faults that lie between the parts: overlaps, doubles, knobs, what a method needs.

    Parts that are None have faults of their own already.
    """
    faults: list[str] = []
    tune, final, recipe = study.tune, study.final, study.recipe
    labels = [entry.label for entry in study.methods if isinstance(entry.label, str)]
    for label in sorted({x for x in labels if labels.count(x) > 1}):
        faults.append(f"methods: two entries are called '{label}'; give one of them a label")
    for place, numbers in (
        ("final.seeds", final.seeds if final else ()),
        ("tune.seeds", tune.seeds if tune else ()),
    ):
        for double in sorted({n for n in numbers if numbers.count(n) > 1}):
            faults.append(f"{place}: seed {double} stands there twice")
    if tune:
        both = sorted(set(tune.seeds) & set(final.seeds)) if final else []
        if both:
            faults.append(
                f"tune.seeds and final.seeds share {both}: a seed that chose the knobs cannot "
                "judge them; take other seeds for one of the two"
            )
        lr = tune.shared.lr
        if lr and lr.low >= lr.high:
            faults.append(f"tune.shared.lr: low {lr.low:g} is not below high {lr.high:g}")
    if study.report and study.methods and study.report.reference not in labels:
        near = did_you_mean(study.report.reference, labels)
        faults.append(f"report.reference: no method is called '{study.report.reference}'{near}")
    if final and final.train_on == "all" and final.epoch == "best":
        faults.append("final: train_on: all leaves no validation images, so the epoch is 'last'")
    if recipe and recipe.schedule == "step" and not recipe.milestones:
        faults.append("recipe: schedule: step needs milestones (shares of the epochs)")
    if recipe and study.data and recipe.frozen == "table" and VIEWS[study.data.augment] > 1:
        faults.append(
            f"recipe.frozen: a table needs one view of each image, and augment: "
            f"{study.data.augment} has {VIEWS[study.data.augment]}; use auto or live"
        )
    if study.teacher:
        faults += teacher_faults(study.teacher)
    for index, entry in enumerate(study.methods):
        if entry.method:
            place = f"methods[{index}] ({entry.method})"
            faults += [f"{place}: {fault}" for fault in knob_faults(entry)]
    return faults


def teacher_faults(teacher: Teacher) -> list[str]:
    """A teacher learns from the labels or from its own kind: nothing else is there yet."""
    needed = sorted(slots_of(METHODS[teacher.method]()) - {"student"})
    return [
        f"teacher.method: '{teacher.method}' learns from another network ('{slot}'), and a "
        "teacher has none; take a method without"
        for slot in needed
    ]


def knob_faults(entry: Entry) -> list[str]:
    """What is wrong with an entry's knobs and slots."""
    kind = METHODS[entry.method]
    known = kind.knobs()
    faults = [
        f"unknown knob '{name}'" + (did_you_mean(name, known) if known else "; it has no knobs")
        for name in entry.knobs
        if name not in known
    ]
    sound = {}
    for name, value in entry.knobs.items():
        if name not in known:
            continue
        try:
            kind(**{name: value})
        except (ValueError, OverflowError) as error:
            faults.append(str(error))
        else:
            sound[name] = value
    try:
        method = kind(**sound)
    except ValueError as error:  # sound one by one, but not together
        return [*faults, str(error)]
    needed = slots_of(method) - {"student"}
    for slot in entry.slots:
        if slot == "student":
            faults.append("every method trains the study's student; leave 'student' out")
        elif slot not in needed:
            near = did_you_mean(slot, needed) if needed else "; it uses the student alone"
            faults.append(f"it uses no model called '{slot}'{near}")
    faults += [
        f"it needs a model for '{slot}': write {{method: {entry.method}, {slot}: {{model: ...}}}}"
        for slot in sorted(needed - {"teacher"} - set(entry.slots))
    ]
    return faults


def slots_of(method: Any, above: tuple[Stage, ...] = ()) -> set[str]:
    """The slots whose models a method's networks take, those of the runs it needs included."""
    slots = set()
    for source in method.networks().values():
        if isinstance(source, Trained):
            slots.add(source.slot)
        elif isinstance(source, Frozen):
            stage = source.run
            slots.add(stage.model)
            if stage != TEACHER and stage not in above:
                # In the stage's own run, `student` is the model that the stage names.
                its_own = METHODS[stage.method](**stage.knobs)
                slots |= slots_of(its_own, (*above, stage)) - {"student"}
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
