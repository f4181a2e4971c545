"""`kdbench doctor`: shows what it would do, does it, and finds nothing more."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from safetensors.numpy import save
from support.fake_study import FakeStudy
from typer.testing import CliRunner

from kdbench.cli import app
from kdbench.cli.doctor import examine
from kdbench.records.checksummed import ChecksumWriter
from kdbench.records.store import Store
from kdbench.tracking import search, sync_study, tracking_uri


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> FakeStudy:
    """A study whose records are whole: a finished run has weights."""
    study = FakeStudy(tmp_path_factory.mktemp("doctor"))
    for run in study.listing:
        record = study.store.record(run)
        if record.result:
            record.add_epochs(
                [{"epoch": 1, "train.loss": 1.0}, {"epoch": 2, "train.loss": 0.5}], None
            )
        if record.result and record.result["state"] == "done":
            record.finish(record.result, save({"last/w": study.rng.random(3)}))
    return study


@pytest.fixture
def made(original: FakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeStudy:
    """A copy that the test may damage."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(original.store.root, tmp_path, dirs_exist_ok=True)
    study = copy.copy(original)
    study.store = Store(tmp_path)
    return study


def doctor(root: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["doctor", "--root", str(root), *words])
    return result.exit_code, " ".join(result.output.split())


def everything(root: Path) -> dict[Path, bytes]:
    return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_a_sound_root_has_nothing_wrong(made: FakeStudy) -> None:
    assert list(examine(made.store)) == []
    assert doctor(made.store.root) == (0, "nothing is wrong")


def test_a_damaged_record_is_moved_to_quarantine_whole(made: FakeStudy) -> None:
    run = made.teacher
    record = made.store.record(run)
    (record.folder / "result.json").write_text('{"state": "do')
    before = everything(record.folder)
    code, output = doctor(made.store.root, "--dry-run")
    assert code == 1
    assert run in output
    assert "can be repaired" in output
    assert everything(record.folder) == before  # nothing was done
    code, output = doctor(made.store.root)
    assert code == 0
    assert "the next start trains it again" in output
    quarantine = made.store.root / "runs" / "quarantine" / run
    assert before.items() <= everything(quarantine).items()
    assert "result.json" in (quarantine / "quarantine.txt").read_text()
    assert doctor(made.store.root)[1] == "nothing is wrong"


def teach(study: FakeStudy, run: str, checksum: str) -> None:
    """Write into a finished run's result that it learned from the teacher's weights."""
    record = study.store.record(run)
    assert record.result
    learned = {"learned_from": {study.teacher: checksum}}
    record.finish(record.result | learned, record.state_dict())


def test_what_learned_from_a_damaged_record_is_counted_and_stays(made: FakeStudy) -> None:
    teacher, run = made.store.record(made.teacher), made.plan.rows[1].runs["0"]
    teach(made, run, teacher.checksums["weights.safetensors"])
    assert doctor(made.store.root)[1] == "nothing is wrong"
    content = teacher.weights_path.read_bytes()
    teacher.weights_path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    code, output = doctor(made.store.root)
    assert code == 0
    assert "1 finished runs learned from it: before it was damaged" in output
    assert made.store.record(run).result is not None


def test_runs_that_learned_from_other_weights_are_named(made: FakeStudy) -> None:
    run = made.plan.rows[1].runs["0"]
    teach(made, run, "0" * 64)
    (finding,) = examine(made.store)
    assert finding.repair is None
    assert f"learned from earlier weights of run {made.teacher}" in finding.what
    assert run in finding.what


def test_a_damaged_cached_table_is_removed(made: FakeStudy) -> None:
    folder = made.store.output_cache
    folder.mkdir(parents=True)
    with (folder / "0123456789ab.npy").open("wb") as file:
        writer = ChecksumWriter(file)
        writer.write(b"outputs")
        writer.finish()
    assert doctor(made.store.root)[1] == "nothing is wrong"
    path = folder / "0123456789ab.npy"
    path.write_bytes(path.read_bytes().replace(b"outputs", b"output5"))
    code, output = doctor(made.store.root)
    assert code == 0
    assert "the checksum at its end differs" in output
    assert not path.exists()


def test_a_spec_that_is_not_the_runs_own(made: FakeStudy) -> None:
    first, second = list(made.listing)[:2]
    spec = made.store.record(second).folder / "spec.json"
    (made.store.record(first).folder / "spec.json").write_bytes(spec.read_bytes())
    (finding,) = examine(made.store)
    assert first in finding.what
    assert finding.repair is not None
    assert "trains it again" in finding.repair()


def test_a_record_that_is_being_written_is_left_alone(made: FakeStudy) -> None:
    record = made.store.record(made.teacher)
    (record.folder / "result.json").write_text("{")
    with record.writing():
        (finding,) = examine(made.store)
        assert finding.repair is not None
        assert "a process is writing it" in finding.repair()
    assert record.folder.is_dir()


def test_half_written_files_of_dead_processes_go(made: FakeStudy) -> None:
    part = made.store.record(made.teacher).folder / ".weights.safetensors.4194303.0a1b2c3d.part"
    part.write_bytes(b"half")
    code, output = doctor(made.store.root, "--dry-run")
    assert (code, part.exists()) == (1, True)
    assert "half-written" in output
    assert doctor(made.store.root)[0] == 0
    assert not part.exists()


def test_a_plan_that_cannot_be_read(made: FakeStudy) -> None:
    path = made.store.plan_path("fake_study")
    path.write_text('{"listing": [')
    code, output = doctor(made.store.root)
    assert code == 0
    assert "cannot be read" in output
    assert "`kdbench study fake_study` writes it anew" in output
    assert path.with_name("fake_study.json.damaged").exists()


def test_records_of_no_study_are_kept(made: FakeStudy) -> None:
    lonely = made.store.record("0123456789ab")
    spec = made.store.record(made.teacher).spec()
    assert spec is not None
    other = replace(spec, seed=77)
    lonely = made.store.record(other.id)
    lonely.begin(other)
    (finding,) = examine(made.store)
    assert "1 records belong to no study" in finding.what
    assert finding.repair is None
    assert doctor(made.store.root, "--dry-run")[0] == 0  # nothing that could be repaired


def test_runs_that_mlflow_shows_as_running(made: FakeStudy, empty_database: bytes) -> None:
    (made.store.root / "mlflow.db").write_bytes(empty_database)
    uri = tracking_uri(made.store.root)
    rows = tuple(r for r in made.plan.rows if r.label == "ce")
    ids = {made.teacher, *rows[0].runs.values()}
    listing = {k: v for k, v in made.plan.listing.items() if k in ids}
    replace(made.plan, rows=rows, listing=listing).dump(made.store.plan_path("fake_study"))
    sync_study(made.store, "fake_study", uri)
    client = MlflowClient(tracking_uri=uri)
    frame = search("fake_study", uri)
    one = frame.loc[frame["tags.kdbench.id"] == made.teacher, "run_id"].iloc[0]
    client.update_run(one, status="RUNNING")
    code, output = doctor(made.store.root, "--dry-run")
    assert "no process trains it" in output
    assert code == 1
    assert client.get_run(one).info.status == "RUNNING"
    doctor(made.store.root)
    assert client.get_run(one).info.status == "FINISHED"
    assert "no process trains it" not in doctor(made.store.root, "--dry-run")[1]


@pytest.mark.parametrize(("number", "age"), [(99, "newer"), (1, "older")])
def test_a_record_of_another_version_is_not_touched(made: FakeStudy, number: int, age: str) -> None:
    path = made.store.record(made.teacher).folder / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": number}))
    (finding,) = examine(made.store)
    assert finding.repair is None
    assert f"{age} kdbench" in finding.what
    assert path.exists()
