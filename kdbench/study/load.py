"""A study file: strict YAML to a `Study`, all errors at once, each with what to do.

No inheritance and no interpolation: what stands in the file is what runs.
"""

from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kdbench.errors import KdbenchError
from kdbench.registry import did_you_mean
from kdbench.study.fields import SHORT
from kdbench.study.schema import Study, entry_of
from kdbench.study.validation import check, place_of, sentence, valid_parts

#: What a study file may hold at the most: far beyond any study, and read in a second or two.
LONGEST, MOST, DEEPEST = 100_000, 10_000, 50
#: Python refuses to write a whole number of more than 4,300 digits.
LARGEST = 10**4000
#: Faults that a message lists, and characters in each.
SHOWN, WIDEST = 100, 1000


class StudyError(KdbenchError):
    """What is wrong with a study file; one line a fault, each with its place."""

    def __init__(self, where: str, faults: Iterable[str]) -> None:
        found = list(faults)
        self.faults = [_line(fault) for fault in found[:SHOWN]]
        if len(found) > SHOWN:
            self.faults.append(f"and {len(found) - SHOWN:,} more; mend these first")
        lines = "".join(f"\n  - {fault}" for fault in self.faults)
        super().__init__(f"{_line(where)}: {len(found)} to mend{lines}")


def _line(text: str) -> str:
    """`text` as one line that every terminal shows: what a file says may hold anything."""
    text = text if len(text) <= WIDEST else f"{text[: WIDEST - 4]} ..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Loader(yaml.SafeLoader):
    """YAML's safe part. A key that stands twice is an error, as one of the two would be lost
    without a word; so is `<<`, as a study inherits nothing."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """A node's value; what cannot be read has its line."""
        try:
            return super().construct_object(node, deep)
        # What a value's own constructor raises: `!!timestamp x`, `!!int ""`, `!!bool x`.
        except (ValueError, ArithmeticError, AttributeError, LookupError, TypeError):
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                problem=f"{SHORT.repr(node.value)} is not a value of the kind '{kind}'",
                problem_mark=node.start_mark,
            ) from None

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping, after a look at its keys."""
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


def parse_study(text: str, where: str, changes: Mapping[str, Any] | None = None) -> Study:
    """The study that `text` (YAML) describes, with `changes` (dotted key to value) made.

    Raises `StudyError` with every fault that was found.
    """
    raw = _mapping(text, where)
    faults = [fault for key, value in (changes or {}).items() for fault in _set(raw, key, value)]
    if isinstance(raw.get("methods"), list):
        faults += [
            f"{place_of(['methods', index], raw)}unknown key 'slots'; name the slot itself, as in "
            "{method: ..., teacher: {model: ...}}"
            for index, item in enumerate(raw["methods"])
            if isinstance(item, Mapping) and "slots" in item
        ]
        raw["methods"] = [entry_of(item) for item in raw["methods"]]
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        faults += [sentence(e, raw) for e in error.errors()]
        raise StudyError(where, faults + check(valid_parts(raw))) from None
    faults += check(study)
    if faults:
        raise StudyError(where, faults)
    return study


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
        raise StudyError(study.name, faults + [sentence(e, raw) for e in error.errors()]) from None
    faults += check(changed)
    if faults:
        raise StudyError(study.name, faults)
    return changed


def _mapping(text: str, where: str) -> dict[str, Any]:
    """The mapping that `text` holds, aliases written out. Raises `StudyError`."""
    if len(text) > LONGEST:
        raise StudyError(where, [f"longer than {LONGEST:,} characters: no study file"])
    try:
        raw = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        raise StudyError(where, [f"not readable as YAML{place}: {_problem(error)}"]) from None
    except RecursionError:
        raise StudyError(where, [f"nested more than {DEEPEST} deep: no study file"]) from None
    if not isinstance(raw, dict):
        raise StudyError(where, ["a study is a mapping of keys: name, data, student, ..."])
    try:
        return _written_out(raw, [], iter(range(MOST)))
    except ValueError as error:
        raise StudyError(where, [str(error)]) from None


def _written_out(value: Any, path: list[Any], room: Iterator[int]) -> Any:
    """A copy in which no two places share a value: so that a change at one is not one at the
    other too, and that a few lines of aliases do not stand for a billion values.

    Raises `ValueError` for more values than `room`, too deep ones and too large numbers.
    """
    place = ".".join(map(str, path[:5]))
    if next(room, None) is None:
        raise ValueError(f"{place}: more than {MOST:,} values, with all aliases written out")
    if len(path) > DEEPEST:
        raise ValueError(f"{place}: nested more than {DEEPEST} deep, or an alias of itself")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError(f"{place}: a number of more than 4,000 digits")
    if isinstance(value, dict):
        # A key's place is its mapping's: it may be too large to be written.
        return {
            _written_out(key, path, room): _written_out(inner, [*path, key], room)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):  # `!!pairs` has tuples
        return [_written_out(inner, [*path, n], room) for n, inner in enumerate(value)]
    return value


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
    try:
        at[last] = _written_out(value, key.split("."), iter(range(MOST)))
    except ValueError as error:
        return [f"--set {error}"]
    return []


def shipped() -> dict[str, Path]:
    """The studies that come with kdbench, by name."""
    inside = Path(str(resources.files("kdbench"))) / "studies"
    folder = inside if inside.is_dir() else Path(__file__).parent.parent.parent / "studies"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_study(name: str, changes: Mapping[str, Any] | None = None) -> Study:
    """The shipped study `name`, or the one in the file of that path.

    Raises `StudyError` where there is none, or where it has faults.
    """
    known = shipped()
    path = known.get(name, Path(name))
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST + 1)  # not all of it: it may be no study, and without end
    except OSError as error:
        if name in known or path.suffix in {".yaml", ".yml"}:
            raise StudyError(name, [f"cannot read {path}: {error.strerror}"]) from None
        raise StudyError(
            name,
            [f"no study of that name{did_you_mean(name, known)}; a path to a YAML file works too"],
        ) from None
    except UnicodeDecodeError:
        raise StudyError(name, [f"{path} is not UTF-8 text"]) from None
    except ValueError as error:  # a NUL or half a character in the name
        raise StudyError(name, [f"no file can have that name: {error}"]) from None
    return parse_study(text, name, changes)
