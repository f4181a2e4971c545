"""A wrong kind of thing in a file's place: named by every command, and mended by the doctor."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import kdbench
from support.inline_study import run_contents

from kdbench import tracking
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store

#: What was in the place before, or stands there now, and must not be lost.
PRECIOUS = b"somebody's only copy"


def as_folder(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_bytes(PRECIOUS)


def as_link_to_nothing(path: Path) -> None:
    path.symlink_to(path.parent / "a disk that is not there")


def as_file(content: bytes) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(content), None)[1]


KINDS = {
    "folder": as_folder,
    "link": as_link_to_nothing,
    "empty": as_file(b""),
    "list": as_file(b"[1]"),
    "number": as_file(b"3"),
    "null": as_file(b"null"),
    "text": as_file(PRECIOUS),
}
RECORD = ("spec.json", "result.json", "test.json", "error.json", "mlflow.json")
JSON = [f"runs/RUN/{name}" for name in RECORD]
JSON += ["runs/plans/tiny.json", "runs/plans/tiny.cost.json", "reports/tiny/study.json"]
RECORD_FILES = ("metrics.jsonl", "weights.safetensors", "test.npz", ".lock", ".sync.lock")
FILES = [f"runs/RUN/{name}" for name in (*RECORD_FILES, "checkpoint.pt")]
FILES += ["runs/output_cache/TABLE", "runs/plans/tiny.cost.lock", "optuna.journal", "mlflow.db"]
FILES += [".optuna.lock", ".mlflow.lock", "reports/tiny/leaderboard.md", "reports/tiny/runs.csv.gz"]
FOLDERS = ["runs", "runs/plans", "runs/RUN", "runs/output_cache", "runs/quarantine"]
FOLDERS += ["reports", "reports/tiny", "reports/tiny/figures", "mlartifacts"]
CASES = [(place, kind) for place in JSON for kind in KINDS if kind != "text"]
CASES += [(place, kind) for place in FILES for kind in ("folder", "link", "empty")]
CASES += [(place, kind) for place in FOLDERS for kind in ("text", "link")]


def commands(root: Path) -> dict[str, list[object]]:
    return {
        "status": ["status", "tiny", "--root", root],
        "report": ["report", "tiny", "--root", root],
        "sync": ["sync", "tiny", "--root", root],
        "check": ["check", root / "reports" / "tiny" / "leaderboard.csv"],
        "check --runs": ["check", root / "reports" / "tiny" / "leaderboard.csv", "--runs",
                         "--root", root],
        "doctor": ["doctor", "--dry-run", "--root", root],
        "study": ["study", root / "tiny.yaml", "--root", root],
    }  # fmt: skip


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path, inside: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished study; MLflow is reached only by what asks whether it is there."""
    monkeypatch.setattr(tracking, "sync_study", lambda *_: {"up to date": 10})
    shutil.copytree(tiny_root, tmp_path, dirs_exist_ok=True, symlinks=True)
    return tmp_path


@pytest.fixture(scope="module")
def exit_codes(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Those of each command where nothing is wrong."""
    return {"report": 2, "check --runs": 2}  # as nothing has synced MLflow in this root


def place_of(root: Path, name: str) -> Path:
    store = Store(root)
    plan = PlanFile.load(store.plan_path("tiny"))
    assert plan is not None
    (table, *_) = sorted(store.output_cache.glob("*.npy"))
    return root / name.replace("RUN", next(iter(plan.teachers.values()))).replace(
        "TABLE", table.name
    )


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_each_command_names_it_or_goes_on(
    root: Path, exit_codes: dict[str, int], name: str, kind: str
) -> None:
    path = place_of(root, name)
    before = run_contents(root)
    if path.is_dir():
        path.rename(root / "what-was-there")
    else:
        path.unlink(missing_ok=True)
    KINDS[kind](path)
    for command, words in commands(root).items():
        result = kdbench(*words)
        text = " ".join(result.output.split())
        for word in ("Errno", "unexpected", "Traceback"):
            assert word not in text, (command, text)
        assert result.exit_code in (0, 1, 2), (command, text)
        if result.exit_code == 2 and exit_codes.get(command) != 2:
            assert str(path) in text, (command, text)
            assert "`kdbench " in text, (command, text)
    first = kdbench("doctor", "--root", root)
    assert first.exit_code == 0, first.output
    second = kdbench("doctor", "--root", root)
    assert "nothing is wrong" in second.output or "belong to no study" in second.output, (
        first.output + second.output
    )
    if kind in ("folder", "text"):
        kept = [p for p in root.rglob("*") if p.is_file() and p.read_bytes() == PRECIOUS]
        assert kept
    last = kdbench("study", root / "tiny.yaml", "--root", root)
    assert last.exit_code == 0, last.output
    assert run_contents(root) == before
