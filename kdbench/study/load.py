"""A study file: strict YAML to a `Study`, all errors at once, each with what to do.

No inheritance and no interpolation: what stands in the file is what runs.
"""

import os
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kdbench.errors import KdbenchError
from kdbench.registry import did_you_mean
from kdbench.study.fields import SHORT
from kdbench.study.schema import Study, entry_of
from kdbench.study.validation import check, message, place_of, valid_parts


class StudyError(KdbenchError):
    """What is wrong with a study file: one line for each fault, with its place."""

    def __init__(self, where: str, faults: Iterable[str]) -> None:
        self.faults = [_line(fault) for fault in faults]
        lines = "".join(f"\n  - {fault}" for fault in self.faults)
        count = f"{len(self.faults)} error{'s' * (len(self.faults) != 1)}"
        super().__init__(f"{_line(where)}: {count}{lines}")


def _line(text: str) -> str:
    """`text` as one line that every terminal shows: line ends and control characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Loader(yaml.SafeLoader):
    """YAML's safe part. A key that stands twice is an error, as one of the two would be lost
    without a word; so are aliases and `<<`, as a study inherits nothing."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A node of the file; an alias is an error."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                problem=f"'*{event.anchor}' takes a value from elsewhere; write it out",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """A node's value. A value that is not of its kind (2020-13-45) is an error with its
        line."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, ArithmeticError, AttributeError, LookupError, TypeError):
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                problem=f"{SHORT.repr(node.value)} is not a value of the kind '{kind}'",
                problem_mark=node.start_mark,
            ) from None

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are all different."""
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    problem="'<<' takes values from elsewhere; write them out",
                    problem_mark=key.start_mark,
                )
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key '{key.value}' stands there twice",
                    problem_mark=key.start_mark,
                )
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def parse_study(
    text: str, where: str, changes: Mapping[str, Any] | None = None, folder: Path = Path()
) -> Study:
    """The study that `text` (YAML) describes, with `changes` (dotted key to value) made; files
    that it names are looked for in `folder`.

    Raises `StudyError` with every fault that was found.
    """
    raw, faults = parse_mapping(text, where, changes)
    if "students" in raw:
        choose = "students: each makes a study of its own; choose one: --set 'students=[NAME]'"
        raise StudyError(where, [*faults, choose])
    study, more = read_study(raw, folder)
    if study is None or faults + more:
        raise StudyError(where, faults + more)
    return study


def parse_mapping(
    text: str, where: str, changes: Mapping[str, Any] | None
) -> tuple[dict[str, Any], list[str]]:
    """The mapping that `text` (YAML) holds with `changes` made, and what is wrong with the
    changes. Raises `StudyError` where it holds none."""
    raw = _mapping(text, where)
    return raw, [fault for key, value in (changes or {}).items() for fault in _set(raw, key, value)]


def read_study(raw: dict[str, Any], folder: Path) -> tuple[Study | None, list[str]]:
    """The study that the mapping of a file describes, and all its faults; None where one of
    its parts is wrong. `raw` is left as it is."""
    faults = []
    if isinstance(raw.get("methods"), list):
        faults = [
            f"{place_of(['methods', index], raw)}unknown key 'slots'; name the slot itself, as in "
            "{method: ..., teacher: {model: ...}}"
            for index, item in enumerate(raw["methods"])
            if isinstance(item, Mapping) and "slots" in item
        ]
        raw = {**raw, "methods": [entry_of(item) for item in raw["methods"]]}
    try:
        study = Study.model_validate(raw, context={"folder": folder})
    except ValidationError as error:
        faults += [message(e, raw) for e in error.errors()]
        return None, faults + check(valid_parts(raw))
    return study, faults + check(study)


def changed_study(study: Study, changes: Mapping[str, Any]) -> Study:
    """`study` with `changes` (dotted key to value) made. Raises `StudyError`."""
    if not changes:
        return study
    raw = study.model_dump()
    faults = [fault for key, value in changes.items() for fault in _set(raw, key, value)]
    if isinstance(changes.get("methods"), list):
        raw["methods"] = [entry_of(item) for item in raw["methods"]]
    try:
        changed = Study.model_validate(raw)
    except ValidationError as error:
        raise StudyError(study.name, faults + [message(e, raw) for e in error.errors()]) from None
    faults += check(changed)
    if faults:
        raise StudyError(study.name, faults)
    return changed


def _mapping(text: str, where: str) -> dict[str, Any]:
    """The mapping that `text` holds. Raises `StudyError`."""
    try:
        raw = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        raise StudyError(where, [f"not readable as YAML{place}: {_problem(error)}"]) from None
    if not isinstance(raw, dict):
        raise StudyError(where, ["a study is a mapping of keys: name, data, student, ..."])
    return raw


def _problem(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        return (
            f"the character #x{error.character:04x} at position {error.position} cannot stand there"
        )
    return str(getattr(error, "problem", None) or error)


def _set(raw: dict[str, Any], key: str, value: Any) -> list[str]:
    *path, last = key.split(".")
    at: Any = raw
    for part in path:
        at = at.get(part) if isinstance(at, dict) else None
    if not isinstance(at, dict):
        return [f"--set {key}: the study has no mapping '{'.'.join(path)}'"]
    at[last] = value
    return []


def shipped() -> dict[str, Path]:
    """The studies that come with kdbench, by name."""
    inside = Path(str(resources.files("kdbench"))) / "studies"
    folder = inside if inside.is_dir() else Path(__file__).parent.parent.parent / "studies"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_study(name: str, changes: Mapping[str, Any] | None = None) -> Study:
    """The shipped study `name`, or the one in the file of that path, which has one student.

    Raises `StudyError` where there is none, or where it has faults.
    """
    text, folder = file_text(name)
    return parse_study(text, name, changes, folder)


def file_text(name: str) -> tuple[str, Path]:
    """The text of the shipped study `name`, or of the file of that path, and the folder that it
    is in. Raises `StudyError`."""
    studies = shipped()
    path = studies.get(name, Path(name))
    try:
        return path.read_text(encoding="utf-8"), path.parent
    except UnicodeDecodeError:
        raise StudyError(name, [f"{path} is not UTF-8 text"]) from None
    except (OSError, ValueError) as error:  # ValueError: no name that a file can have
        if isinstance(error, OSError) and (name in studies or path.suffix in {".yaml", ".yml"}):
            raise StudyError(name, [f"cannot read {path}: {error.strerror}"]) from None
        if name and os.path.isdir(path):
            raise StudyError(name, [f"{name} is a folder: name the YAML file in it"]) from None
        file = next((f for f in (f"{name}.yaml", f"{name}.yml") if os.path.isfile(f)), "")
        near = f" (did you mean {file}?)" if file else did_you_mean(name, studies)
        raise StudyError(
            name, [f"no study of that name{near}; a path to a YAML file works too"]
        ) from None
