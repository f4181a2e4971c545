"""What kind of thing is at each place below a root, and what stands there instead.

A folder where a file should be (or a file where a folder should be, or a link to nothing) is
named before a command works, rather than met in the middle of it.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kdbench.errors import KdbenchError
from kdbench.records.store import ID

#: The files of a record, with what MLflow is known to hold of it, and its locks.
RECORD_FILES = {
    "spec.json",
    "metrics.jsonl",
    "checkpoint.pt",
    "checkpoint.previous.pt",
    "weights.safetensors",
    "result.json",
    "test.json",
    "test.npz",
    "error.json",
    "mlflow.json",
    ".lock",
    ".sync.lock",
}
#: What is made from the records: files and folders of the root. MLflow's database is not among
#: them, as nothing waits for it: `kdbench.tracking` says what is wrong with it.
COPIES = ("optuna.journal", ".mlflow.lock", ".optuna.lock")
COPY_FOLDERS = ("runs/output_cache", "runs/model_files", "reports", "mlartifacts")
#: Files of a report end so.
REPORT_SUFFIXES = {".html", ".md", ".csv", ".tex", ".bib", ".json", ".gz", ".svg", ".pdf", ".png"}


class Misplaced(KdbenchError):
    """Something else is at the place of a file or folder of kdbench."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} {why}; `kdbench doctor` moves it aside")
        self.path, self.why = path, why


@dataclass(frozen=True)
class Place:
    """A place below a root, and whether a folder is meant to be there."""

    path: Path
    folder: bool = False

    def wrong(self) -> str | None:
        """What is wrong with what stands there, or None."""
        if (self.folder and self.path.is_dir()) or not os.path.lexists(self.path):
            return None
        if self.path.is_dir():
            return "is a folder, where a file should be"
        if not self.path.exists():
            return f"is a link to nothing ({os.readlink(self.path)})"
        if self.folder:
            return "is a file, where a folder should be"
        return None


def require_layout(root: Path, copies: bool = True) -> None:
    """Raise `Misplaced` for the first thing that is not of its place's kind; without `copies`
    only what belongs to runs and plans is looked at."""
    for found in misplaced(root, copies):
        raise found


def misplaced(root: Path, copies: bool = True) -> Iterator[Misplaced]:
    """Everything below a root that is not of its place's kind."""
    places = [*_of_runs(root), *(_of_copies(root) if copies else ())]
    for place in places:
        if why := place.wrong():
            yield Misplaced(place.path, why)


def _of_runs(root: Path) -> Iterator[Place]:
    runs = root / "runs"
    of_studies = (runs / "plans", runs / "profiles", runs / "galleries")
    for path in (runs, *of_studies, runs / "quarantine"):
        yield Place(path, folder=True)
    for path in (entry for folder in of_studies for entry in _entries(folder)):
        if path.suffix in (".json", ".lock"):
            yield Place(path)
    for folder in _entries(runs):
        if ID.fullmatch(folder.name):
            yield Place(folder, folder=True)
            yield from (Place(path) for path in _entries(folder) if path.name in RECORD_FILES)


def _of_copies(root: Path) -> Iterator[Place]:
    yield from (Place(root / name) for name in COPIES)
    yield from (Place(root / name, folder=True) for name in COPY_FOLDERS)
    for path in _entries(root / "runs" / "output_cache"):
        if path.suffix in (".npy", ".shard", ".lock"):
            yield Place(path)
    for plan in _entries(root / "runs" / "plans"):
        if plan.suffix == ".json" and not plan.name.endswith(".cost.json"):
            report = root / "reports" / plan.stem
            for folder in (report, report / "figures"):
                yield Place(folder, folder=True)
                yield from (Place(p) for p in _entries(folder) if p.suffix in REPORT_SUFFIXES)


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted; nothing where there is no folder."""
    return sorted(folder.iterdir()) if folder.is_dir() else []
