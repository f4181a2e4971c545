"""`kdbench status`: how far a study is, from its records alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from support.command_line import kdbench, output
from support.fake_study import FakeStudy

from kdbench.cli.status import read_status
from kdbench.records.store import Store

# -- status


def test_the_status_of_a_finished_study(tiny_root: Path) -> None:
    text = output("status", "tiny", "--root", tiny_root)
    store = Store(tiny_root)
    status = read_status(store, "tiny")
    assert status.complete
    assert {run.state for run in status.runs} == {"done"}
    kd = next(r for r in status.rows if (r.label, r.row) == ("kd", "tuned"))
    assert (kd.trials_done, kd.trials, kd.finals_done, kd.finals) == (2, 2, 3, 3)
    plan = yaml.safe_load(store.plan_path("tiny").read_text())
    tuned = next(r for r in plan["rows"] if (r["label"], r["row"]) == ("kd", "tuned"))
    tests = [store.record(run).test["last"]["accuracy"] for run in tuned["runs"].values()]
    assert kd.test == pytest.approx(100 * sum(tests) / 3)
    assert kd.validation == pytest.approx(100 * max(t["accuracy"] for t in tuned["trials"]))
    assert f"{status.best.test:.2f} % over 3 of 3 seeds" in text
    assert "not complete" not in text


def test_the_status_of_a_study_under_way(tmp_path: Path) -> None:
    study = FakeStudy(tmp_path)
    failed, interrupted, running = (
        study.store.record(study.plan.rows[k].runs["0"]) for k in (2, 4, 5)
    )
    for record in (failed, interrupted, running):
        for name in ("result.json", "test.json", "test.npz"):
            (record.folder / name).unlink()
        record.add_epochs([{"epoch": 1, "val.accuracy": 0.5}], None)
    failed.fail({"message": "[out] of memory"})
    plan = study.store.plan_path("fake_study")
    doing = [running.id, interrupted.id]  # the second one was left by a process that was killed
    plan.with_name("fake_study.node-7.workers").write_text(json.dumps({"node:70": doing}))
    with FileLock(running.folder / ".lock"):
        text = output("status", "fake_study", "--root", tmp_path)
        states = {run.id: run.state for run in read_status(study.store, "fake_study").runs}
    assert states[failed.id] == "failed"
    assert states[interrupted.id] == "interrupted"
    assert states[running.id] == "running"
    assert {"done", "diverged", "waiting"} < set(states.values())
    names = study.listing
    assert f"running  {names[running.id]['name']}: epoch 1 of 2 on node:70\n" in text
    assert text.count("node:70") == 1
    assert f"failed   {names[failed.id]['name']}: [out] of memory" in text
    assert "best so far  kd (tuned): 93.30 % over 5 of 5 seeds" in text
    assert "not complete" in text


def test_the_best_so_far_while_nothing_is_tested(tmp_path: Path) -> None:
    study = FakeStudy(tmp_path)
    for id in study.listing:
        (study.store.record(id).folder / "test.json").unlink(missing_ok=True)
    text = output("status", "fake_study", "--root", tmp_path)
    assert "90.00 % on validation data, 0 of 8 trials" in text


def test_the_status_of_what_never_ran(tmp_path: Path) -> None:
    result = kdbench("status", "digits", "--root", tmp_path)
    assert result.exit_code == 2
    assert "kdbench study digits" in result.output


def test_status_needs_neither_torch_nor_mlflow(tiny_root: Path) -> None:
    code = (
        f"import sys; sys.argv = ['kdbench', 'status', 'tiny', '--root', {str(tiny_root)!r}]\n"
        "from kdbench.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'pandas', 'mlflow', 'optuna', 'matplotlib'}\n"
        "print('LOADED', code, sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "LOADED 0 []" in done.stdout, done.stdout + done.stderr
