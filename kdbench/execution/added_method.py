"""A method that a study does not list: run alone beside a committed report, or asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kdbench.execution.errors import InvalidOption
from kdbench.methods import METHODS
from kdbench.registry import did_you_mean
from kdbench.study.base_report import BaseReport
from kdbench.study.load import Loader, StudyError
from kdbench.study.plan_file import study_hash
from kdbench.study.schema import Entry, Study, entry_of
from kdbench.study.validation import check, message, slots_of


def study_beside(study: Study, add: str, folder: Path) -> tuple[Study, BaseReport]:
    """The study of the method `add` alone in the setting of `study`, and the report in `folder`
    that it stands beside; it is called after both.

    `add` is a method of the registry or of an installed plug-in, or a file with one entry of
    `methods:`. Raises `StudyError` for an entry that cannot be added, and as `BaseReport.read`.
    """
    base = BaseReport.read(folder, study_hash(study))
    entry = _entry(add)
    if entry.label in base.taken.labels:
        raise StudyError(
            f"--add {add}",
            [f"the report has a row '{entry.label}' already; give the entry another label"],
        )
    whole = study.model_copy(update={"methods": (*study.methods, entry)})
    if faults := check(whole):
        raise StudyError(f"--add {add}", faults)
    update = {"name": f"{study.name}-{entry.label}", "methods": (entry,)}
    return study.model_copy(update=update), base


def _entry(add: str) -> Entry:
    """The entry that `add` names or whose file it is. Raises `StudyError`."""
    raw: Any = add
    path = Path(add)
    if path.suffix in (".yaml", ".yml"):
        try:
            raw = yaml.load(path.read_text(encoding="utf-8"), Loader)
        except OSError as error:
            raise StudyError(f"--add {add}", [f"cannot read it: {error.strerror}"]) from None
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise StudyError(f"--add {add}", [f"not readable as YAML: {error}"]) from None
    if not isinstance(raw, str | Mapping):
        form = "it should hold one entry, as in {method: kd, label: mine}"
        raise StudyError(f"--add {add}", [form])
    item = entry_of(raw)
    try:
        return Entry.model_validate(item, context={"folder": path.parent})
    except ValidationError as error:
        places = ({**e, "loc": ("methods", 0, *e["loc"])} for e in error.errors())
        faults = [message(e, {"methods": [item]}) for e in places]
        raise StudyError(f"--add {add}", faults) from None


def check_options(add: str, folder: Path | None, others: Mapping[str, object]) -> None:
    """Raise `InvalidOption` unless `--add` and `--with` come together, and without options that
    would change the setting."""
    if bool(add) != bool(folder):
        raise InvalidOption(
            "--add and --with go together: --add NAMES the method, --with the folder of the report"
        )
    if add and (given := [option for option, value in others.items() if value]):
        raise InvalidOption(
            f"--with takes the study as the report has it: leave {' and '.join(given)} out"
        )


def not_listed(label: str, labels: list[str], study: Study) -> str:
    """What to do about a label of `--only` that the study lacks."""
    if label not in METHODS:
        return f"--only: no method '{label}' in it{did_you_mean(label, labels)}"
    slots = sorted(slots_of(METHODS[label]()) - {"student", "teacher"})
    models = "".join(f", {slot}: {{model: {study.teacher.model}}}" for slot in slots)
    line = f"- {{method: {label}{models}}}" if models else f"- {label}"
    return (
        f"--only: '{label}' is a method, but the study does not list it; add this line to the "
        f"`methods:` of a file of your own: {line}   (to start one: kdbench show {study.name} > "
        f"my-{study.name}.yaml)"
    )
