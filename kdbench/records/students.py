"""Which studies a file with several students makes, so that its name stands for all of them.

`kdbench study` writes their names beside their plans; a pooled report names them too.
"""

from collections.abc import Sequence
from pathlib import Path

from kdbench.errors import KdbenchError
from kdbench.records.files import read_json, write_json
from kdbench.records.readers import CorruptRecord, read_object, sealed
from kdbench.records.store import Store

#: How the names of these files end.
SUFFIX = ".students"


class CorruptStudents(KdbenchError):
    """A list of studies that cannot be read."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"the list of studies {path} cannot be read: {why}. `kdbench study` with their file "
            "writes it anew."
        )


class NoStudyName(KdbenchError):
    """A path, or nothing, where the name of a study that has run is asked for."""

    def __init__(self, store: Store, name: str) -> None:
        here = ", ".join(studies(store))
        super().__init__(
            f"'{name}' is no study's name: a study that has run goes by the `name:` in its file; "
            f"under {store.root} {f'here are {here}' if here else 'none has run'}"
        )


def studies(store: Store) -> list[str]:
    """The studies that have run in a root."""
    folder = store.root / "runs" / "plans"
    return sorted(p.stem for p in folder.glob("*.json") if not p.name.endswith(".cost.json"))


def students_path(store: Store, name: str) -> Path:
    """The list of the studies of the file called `name`."""
    return store.root / "runs" / "plans" / f"{name}{SUFFIX}"


def write_students(store: Store, name: str, studies: Sequence[str]) -> None:
    """Write which studies the file called `name` makes."""
    write_json(students_path(store, name), sealed({"studies": list(studies)}))


def read_students(path: Path) -> tuple[str, ...]:
    """The names in a list of studies; none where there is no file. Raises `CorruptStudents`."""
    try:
        studies = (read_object(path) or {}).get("studies", [])
    except CorruptRecord as error:
        raise CorruptStudents(path, error.why) from error
    if not isinstance(studies, list) or not all(isinstance(name, str) for name in studies):
        raise CorruptStudents(path, "it names no studies")
    return tuple(studies)


def studies_of(store: Store, name: str) -> tuple[str, ...]:
    """The studies that `name` stands for in a root: those of the students of a file called so,
    else the study itself. Where none of them ran, a pooled report called so names its studies.

    Raises `NoStudyName` for a path, as that of the study's file, and `CorruptStudents`.
    """
    if not name or "/" in name:
        raise NoStudyName(store, name)
    if store.plan_path(name).exists():
        return (name,)
    listed = read_students(students_path(store, name))
    named = listed or pooled_studies(store.report_folder(name))
    if not named and name.endswith((".yaml", ".yml")):
        raise NoStudyName(store, name)
    return named or (name,)


def pooled_studies(folder: Path) -> tuple[str, ...]:
    """The studies, with reports beside this one, that the report in `folder` is pooled from; none
    where it is no such report."""
    try:
        report = read_json(folder / "study.json")
        places = dict(report["pooled"])
    except (KdbenchError, OSError, TypeError, ValueError, KeyError):
        return ()
    return tuple(places) if all(place == f"../{n}" for n, place in places.items()) else ()
