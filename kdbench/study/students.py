"""A study file with several students: one study for each, which differ in nothing else.

`students: [resnet8, {model: torchvision:resnet18, label: big}]` stands in place of `student`. The
studies are named after the file's name and the student, as in `mine-resnet8`. A run's id does
not depend on its study, so they use the same teacher runs; only a student of the teacher's own
model has a teacher of its own, which does not start from the student's weights.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdbench.study.fields import NAME, SHORT, safe_name
from kdbench.study.load import StudyError, file_text, parse_mapping, read_study, shipped
from kdbench.study.schema import Study


@dataclass(frozen=True)
class StudyFile:
    """What a file holds: one study of the file's `name`, or one for each of its `students`."""

    name: str
    studies: tuple[Study, ...]

    @property
    def has_students(self) -> bool:
        """Whether the studies are named after their students."""
        return self.studies[0].name != self.name


def load_studies(name: str, changes: Mapping[str, Any] | None = None) -> StudyFile:
    """The studies of the shipped file `name`, or of the file of that path, with `changes` (dotted
    key to value) made. Raises `StudyError` where there is none, or where it has faults."""
    text, folder = file_text(name)
    return parse_studies(text, name, changes, folder)


def parse_studies(
    text: str, where: str, changes: Mapping[str, Any] | None = None, folder: Path = Path()
) -> StudyFile:
    """The studies that `text` (YAML) describes. Raises `StudyError` with every fault of all of
    them, each once."""
    raw, faults = parse_mapping(text, where, changes)
    if "students" not in raw:
        study, more = read_study(raw, folder)
        studies = [study]
        name = str(raw.get("name"))
    else:
        name, slots, more = _slots(raw)
        studies = []
        for place, label, slot in slots:
            of_one = {**raw, "name": f"{name}-{label}", "student": slot}
            del of_one["students"]
            study, found = read_study(of_one, folder)
            studies.append(study)
            more += [_placed(fault, place) for fault in found]
    found_all = [*faults, *dict.fromkeys(more)]
    sound = tuple(study for study in studies if study)
    if found_all or not sound:
        raise StudyError(where, found_all)
    return StudyFile(name, sound)


def _placed(fault: str, place: str) -> str:
    """A fault of one study, with its place in the file."""
    return place + fault.removeprefix("student") if fault.startswith("student") else fault


def _slots(raw: Mapping[str, Any]) -> tuple[str, list[tuple[str, str, Any]], list[str]]:
    """The file's name; for each student its place in the file, its label and what `student:`
    would hold; and the faults of the list. A name or label that is wrong has a stand-in."""
    name, faults = "study", []
    try:
        name = safe_name(raw["name"])
    except KeyError:
        faults.append("'name' is missing")
    except ValueError as error:
        faults.append(f"name: {error}")
    if "student" in raw:
        faults.append("student and students stand there both; keep one of them")
    items = raw["students"]
    if not isinstance(items, list) or not items:
        faults.append(f"students: it should be a list of models, not {SHORT.repr(items)}")
        items = [{"model": "digits-cnn-small"}]  # so that the rest is looked at
    slots, labels = [], Counter[str]()
    for index, item in enumerate(items):
        slot = dict(item) if isinstance(item, Mapping) else {"model": item}
        label = slot.pop("label", None) or _label(slot.get("model")) or str(index)
        place = f"students[{index}]"
        whole = f"{name}-{label}"
        if not isinstance(label, str) or not NAME.fullmatch(label):
            faults.append(
                f"{place}: {SHORT.repr(label)} makes no name of a study: give the student a label "
                "of lower-case letters, digits, '.', '_' and '-', as in {model: ..., label: small}"
            )
            label = str(index)
        elif not NAME.fullmatch(whole):
            faults.append(f"{place}: '{whole}' has more than 64 characters; give a shorter label")
            label = str(index)
        elif whole in shipped():
            faults.append(f"{place}: kdbench has a study '{whole}'; give another label")
        labels[label] += 1
        slots.append((place, label, slot))
    for label in sorted(label for label, times in labels.items() if times > 1):
        faults.append(
            f"students: two are called '{label}'; give one of them a label, as in "
            "{model: ..., label: small}"
        )
    return name, slots, faults


def _label(model: Any) -> str:
    """What a student is called that has no label: its model's name, without library or file."""
    return model.partition("{")[0].rpartition(":")[2].lower() if isinstance(model, str) else ""
