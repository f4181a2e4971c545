"""A study file: strict YAML to a `Study`, all errors at once, each with what to do.

No inheritance and no interpolation: what stands in the file is what runs.
"""

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kdbench.faults import check, place_of, sentence, sound_parts
from kdbench.schema import Study, did_you_mean, entry_of


class StudyError(Exception):
    """What is wrong with a study file; one line a fault, each with its place."""

    def __init__(self, where: str, faults: Iterable[str]) -> None:
        self.faults = list(faults)
        lines = "".join(f"\n  - {fault}" for fault in self.faults)
        super().__init__(f"{where}: {len(self.faults)} to mend{lines}")


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
        raise StudyError(where, faults + check(sound_parts(raw))) from None
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
