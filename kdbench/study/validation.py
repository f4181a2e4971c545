"""What is wrong with a study file: messages that say where, and what to do."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from kdbench.data import VIEWS
from kdbench.methods import METHODS
from kdbench.methods.networks import TEACHER, RoleModels, Stage
from kdbench.registry import did_you_mean
from kdbench.study import references
from kdbench.study.data_names import ALL_OWN_KEYS
from kdbench.study.fields import SHORT, unknown_key
from kdbench.study.model_names import MODEL_KEYS
from kdbench.study.part import NOT_BLANK, Part
from kdbench.study.part_faults import look_faults, recipe_faults
from kdbench.study.schema import (
    CitedSource,
    Data,
    Entry,
    Final,
    LrRange,
    PublishedNumber,
    RecipePart,
    Report,
    Shared,
    Study,
    Tune,
    Unlabelled,
)
from kdbench.study.slots import Normalise, Slot, Teacher

#: What pydantic says in Python's words, in those of a YAML file.
_IN_YAML = {
    "model_type": "input should be a mapping of keys, {key: value}",
    "mapping_type": "input should be a mapping of keys, {key: value}",
    "dict_type": "input should be a mapping of keys, {key: value}",
    "tuple_type": "input should be a list, [value, value]",
}


def valid_parts(raw: Mapping[str, Any]) -> Any:
    """The valid parts of a file that has faults, as a study that `check` can search for more
    faults. An invalid part is None, and an invalid entry has no method."""

    def read(kind: type[Part], value: Any) -> Any:
        try:
            return kind.model_validate(value)
        except ValidationError:
            return None

    def entry(item: Any) -> Any:
        label = item.get("label") if isinstance(item, Mapping) else None
        unread = Entry.model_construct(method="", label=label, hparams={}, slots={})
        bare = {k: item[k] for k in ("method", "label", "hparams") if k in item} if label else None
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


def message(error: Any, raw: Mapping[str, Any]) -> str:
    """The message for one of pydantic's errors, with its place."""
    path = list(error["loc"])
    if error["type"] == "extra_forbidden":
        known = _fields_at(path[:-1])
        place = place_of(path[:-1], raw)
        if path[0] == "methods" and path[-1] in known:  # a slot, but not in its form
            return f"{place}'{path[-1]}' should name a model: {{model: ...}}"
        return f"{place}{unknown_key('key', str(path[-1]), known)}"
    if error["type"] == "missing":
        return f"{place_of(path[:-1], raw)}'{path[-1]}' is missing"
    # Pydantic ends a union's path with the branch it tried; that says nothing to a reader.
    # A mapping's key that is wrong has `[key]` there.
    path = [p for p in path if not str(p).startswith(("literal[", "constrained-", "[key]"))]
    text = _IN_YAML.get(error["type"]) or error["msg"].removeprefix("Value error, ")
    if error["type"] == "too_short":
        text = f"it needs {error['ctx']['min_length']} or more"
    if error.get("ctx", {}).get("pattern") == NOT_BLANK:
        text = "it should not be blank"
    if path == ["data", "name"] and isinstance(error["input"], Mapping):
        return f"data: {text}"  # images of a user's own have no name in the file
    shows_value = text.startswith("unknown") or "is not a name" in text or "is not a citat" in text
    given = "" if shows_value else f", not {SHORT.repr(error['input'])}"
    return f"{place_of(path, raw)}{text[0].lower()}{text[1:]}{given}"


def place_of(path: list[Any], raw: Mapping[str, Any]) -> str:
    """`methods[3] (kd).hparams: ` for a path into the file."""
    text = ""
    for depth, part in enumerate(path):
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
        if isinstance(part, int) and path[0] == "methods" and depth == 1:
            items = raw["methods"]
            item = items[part] if isinstance(items, list) else None
            if isinstance(item, Mapping):
                method = item.get("method")
                text += f" ({method if isinstance(method, str) else SHORT.repr(method)})"
    return f"{text}: " if text else ""


def _fields_at(path: list[Any]) -> set[str]:
    parts: dict[tuple[str, ...], type[Part]] = {
        (): Study,
        ("data",): Data,
        ("data", "unlabelled"): Unlabelled,
        ("student",): Slot,
        ("teacher",): Teacher,
        ("teacher", "normalise"): Normalise,
        ("recipe",): RecipePart,
        ("tune",): Tune,
        ("tune", "shared"): Shared,
        ("tune", "shared", "lr"): LrRange,
        ("final",): Final,
        ("report",): Report,
        ("report", "published"): PublishedNumber,
    }
    if path[:1] == ["methods"]:
        return {"method", "label", "hparams", "assistant", "teacher"}
    if path[:2] == ["report", "sources"]:
        return set(CitedSource.model_fields)
    names = tuple(str(part) for part in path if not isinstance(part, int))
    if names == ("data",):
        return set(Data.model_fields) | ALL_OWN_KEYS
    if names in {("student",), ("teacher",)}:
        return set(parts[names].model_fields) | MODEL_KEYS
    return set(parts.get(names, Part).model_fields)


def check(study: Study) -> list[str]:
    """Faults that no part has alone: overlapping seeds, equal labels, hyperparameters that the
    method lacks, models that it needs. Parts that are None are skipped."""
    faults: list[str] = []
    tune, final, recipe = study.tune, study.final, study.recipe
    labels = [entry.label for entry in study.methods if isinstance(entry.label, str)]
    if TEACHER.model in labels:
        faults.append(
            f"methods: in tables '{TEACHER.model}' is the study's teacher; choose another label"
        )
    for label in sorted(x for x, times in Counter(labels).items() if times > 1):
        faults.append(f"methods: two entries are called '{label}'; give one of them a label")
    confirm = tune.confirm if tune else None
    for place, numbers in (
        ("final.seeds", final.seeds if final else ()),
        ("tune.seeds", tune.seeds if tune else ()),
        ("tune.confirm.seeds", confirm.seeds if confirm else ()),
    ):
        for double in sorted(n for n, times in Counter(numbers).items() if times > 1):
            faults.append(f"{place}: seed {double} stands there twice")
    if tune:
        both = sorted(set(tune.seeds) & set(final.seeds)) if final else []
        if both:
            faults.append(
                f"tune.seeds and final.seeds share {both}: a seed that chose the hyperparameters "
                "cannot judge them; take other seeds for one of the two"
            )
        if confirm:
            used = {*tune.seeds, *(final.seeds if final else ())}
            if both := sorted(used & set(confirm.seeds)):
                faults.append(
                    f"tune.confirm.seeds: {both} stand in tune.seeds or final.seeds as well; the "
                    "second stage needs seeds of its own"
                )
            if confirm.points >= tune.trials:
                faults.append(
                    f"tune.confirm.points: {confirm.points} of {tune.trials} trials would be all "
                    "but the default; take fewer points or more trials"
                )
        lr = tune.shared.lr
        if lr and lr.low >= lr.high:
            faults.append(f"tune.shared.lr: low {lr.low:g} is not below high {lr.high:g}")
    if study.report and study.methods and study.report.reference not in labels:
        near = did_you_mean(study.report.reference, labels)
        faults.append(f"report.reference: no method is called '{study.report.reference}'{near}")
    if final and final.looks:
        faults += look_faults(final)
    if final and final.train_on == "all" and final.epoch == "best":
        faults.append("final: train_on: all leaves no validation images, so the epoch is 'last'")
    if (
        recipe
        and study.data
        and recipe.teacher_outputs == "cache"
        and VIEWS[study.data.augment] > 1
    ):
        faults.append(
            f"recipe.teacher_outputs: a cache needs one view of each image, and augment: "
            f"{study.data.augment} has {VIEWS[study.data.augment]}; use auto or live"
        )
    if recipe:
        faults += recipe_faults(recipe, tune)
    if study.teacher:
        faults += teacher_faults(study.teacher)
    if study.data and study.data.labelled is None:
        if study.data.unlabelled != Unlabelled():
            faults.append("data.unlabelled: every image has its label; add data.labelled")
        if study.teacher and study.teacher.labelled:
            faults.append("teacher.labelled: every image has its label; leave it out")
    faults += references.citation_faults(study)
    for index, entry in enumerate(study.methods):
        if entry.method:
            place = f"methods[{index}] ({entry.method})"
            faults += [f"{place}: {fault}" for fault in hparam_errors(entry)]
    return faults


def teacher_faults(teacher: Teacher) -> list[str]:
    """What is wrong with the teacher's method: it can use no network but its own."""
    if teacher.weights and teacher.seed != 0:
        return ["teacher.seed: a file of weights is one teacher; leave the seed out"]
    if teacher.normalise and not teacher.weights:
        return [
            "teacher.normalise: a teacher that is trained here sees the data's own mean and "
            "standard deviation; it stands beside weights"
        ]
    needed = sorted(slots_of(METHODS[teacher.method]()) - {"student"})
    return [
        f"teacher.method: '{teacher.method}' learns from another network ('{slot}'), and a "
        "teacher has none; take a method without"
        for slot in needed
    ]


def hparam_errors(entry: Entry) -> list[str]:
    """What is wrong with an entry's hyperparameters and slots."""
    kind = METHODS[entry.method]
    known = kind.hparams()
    faults = [
        unknown_key("hyperparameter", str(name), known)
        if known
        else f"unknown hyperparameter '{name}'; it has no hyperparameters"
        for name in entry.hparams
        if name not in known
    ]
    valid = {}
    for name, value in entry.hparams.items():
        if name not in known:
            continue
        if isinstance(value, str) and not value.isprintable():
            faults.append(f"{name} = {SHORT.repr(value)} should hold no control characters")
            continue
        try:
            kind(**{name: value})
        except ValueError as error:
            faults.append(str(error))
        else:
            valid[name] = value
    try:
        method = kind(**valid)
    except ValueError as error:  # each is valid, but not all together
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
    sources = method.networks()
    names = RoleModels(sources, in_slot=lambda slot: slot, of_frozen=lambda _, run: run.model)
    slots = set(names.by_role().values())
    for source in sources.values():
        stage = getattr(source, "run", TEACHER)
        if stage != TEACHER and stage not in above:
            # In the stage's own run, `student` is the model that the stage names.
            stage_method = METHODS[stage.method](**stage.hparams)
            slots |= slots_of(stage_method, (*above, stage)) - {"student"}
    return slots
