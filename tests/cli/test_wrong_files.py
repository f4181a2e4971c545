"""A wrong kind of thing in a file's place: named by every command, and mended by the doctor."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import kdbench, output
from support.inline_study import run_contents

from kdbench import tracking
from kdbench.cli import report as report_command
from kdbench.records.files import atomic_write
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.report.data import collect
from kdbench.report.data.report_data import ReportData, load
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.write import leaderboard_of, text_files

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
JSON += ["runs/profiles/tiny.json", "runs/galleries/tiny.json"]
RECORD_FILES = ("metrics.jsonl", "weights.safetensors", "test.npz", ".lock", ".sync.lock")
FILES = [f"runs/RUN/{name}" for name in (*RECORD_FILES, "checkpoint.pt")]
FILES += ["runs/output_cache/TABLE", "runs/plans/tiny.cost.lock", "optuna.journal", "mlflow.db"]
FILES += [".optuna.lock", ".mlflow.lock", "reports/tiny/leaderboard.md", "reports/tiny/runs.csv.gz"]
FOLDERS = ["runs", "runs/plans", "runs/RUN", "runs/output_cache", "runs/quarantine"]
FOLDERS += ["reports", "reports/tiny", "reports/tiny/figures", "mlartifacts"]
#: The first kind of each place is tried briefly, the others in the long form.
BRIEF = [(place, "folder") for place in (*FILES, *JSON)]
BRIEF += [(place, "list") for place in JSON]
BRIEF += [(place, "text") for place in FOLDERS]
BRIEF += [("runs/output_cache/TABLE", "empty")]
LONG = [(place, kind) for place in JSON for kind in ("link", "empty", "number", "null")]
LONG += [(place, kind) for place in FILES for kind in ("link", "empty")]
LONG += [(place, "link") for place in FOLDERS]
CASES = [*BRIEF, *(pytest.param(*case, marks=pytest.mark.long) for case in LONG)]


def commands(root: Path) -> dict[str, list[object]]:
    report = root / "reports" / "tiny"
    return {
        "status": ["status", "tiny", "--root", root],
        "report": ["report", "tiny", "--root", root],
        "sync": ["sync", "tiny", "--root", root],
        "check": ["check", report / "leaderboard.md", "--runs", "--root", root],
        "study": ["study", root / "tiny.yaml", "--root", root],
    }


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path, inside: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished study; its tables are not computed again, and MLflow holds nothing
    and is not asked."""
    monkeypatch.setattr(tracking, "sync_study", lambda *_: {"up to date": 12})
    monkeypatch.setattr(collect, "sync_study", not_asked)
    monkeypatch.setattr(report_command, "check_report", read_report)
    monkeypatch.setattr(report_command, "write_report", write_texts)
    shutil.copytree(tiny_root, tmp_path, dirs_exist_ok=True)
    return tmp_path


def not_asked(*_: object) -> None:
    raise ConnectionError("MLflow is not asked")


def write_texts(data: ReportData, folder: Path) -> tuple[Leaderboard, tuple[Path, ...]]:
    """What `write_report` does, without drawing."""
    board = leaderboard_of(data)
    for name, content in text_files(board, data).items():
        atomic_write(folder / name, content)
    return board, (folder / "index.html",)


def read_report(path: Path) -> list[str]:
    """What `check_report` reads, without what it computes."""
    load(path.parent)
    return []


def place_of(root: Path, name: str) -> Path:
    store = Store(root)
    plan = PlanFile.load(store.plan_path("tiny"))
    assert plan is not None
    (table, *_) = sorted(store.output_cache.glob("*.npy"))
    teacher = next(iter(plan.teachers.values()))
    return root / name.replace("RUN", teacher).replace("TABLE", table.name)


def put(root: Path, name: str, kind: str) -> Path:
    """Put something of another kind in the place of a file or folder, which is kept."""
    path = place_of(root, name)
    if path.is_dir():
        path.rename(root / "what-was-there")
    else:
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
    KINDS[kind](path)
    return path


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_each_command_names_it_or_goes_on_and_the_doctor_mends_it(
    root: Path, name: str, kind: str
) -> None:
    path = put(root, name, kind)
    for command, words in commands(root).items():
        if command == "study" and kind not in ("folder", "text", "link"):
            continue  # it mends these itself, which takes a training
        result = kdbench(*words)
        text = " ".join(result.output.split())
        for word in ("Errno", "unexpected", "Traceback"):
            assert word not in text, (command, text)
        # The report of this root was made without MLflow, and its costs and curves are others.
        goes_on = result.exit_code == 0 or text.endswith("differs from its runs")
        assert goes_on or (str(path) in text and "`kdbench " in text), (command, text)
    assert kdbench("doctor", "--root", root).exit_code == 0
    (*_, last) = kdbench("doctor", "--root", root).output.splitlines()
    assert last == "nothing is wrong" or name.startswith("runs"), last
    if kind in ("folder", "text"):
        assert any(p.read_bytes() == PRECIOUS for p in root.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("runs/RUN/.lock", "folder"),
        *(pytest.param(*case, marks=pytest.mark.long) for case in (*BRIEF, *LONG)),
    ],
)
def test_after_the_doctor_a_study_gives_the_same_again(root: Path, name: str, kind: str) -> None:
    before = run_contents(root)
    put(root, name, kind)
    assert kdbench("doctor", "--root", root).exit_code == 0
    output("study", root / "tiny.yaml", "--root", root)
    assert run_contents(root) == before
