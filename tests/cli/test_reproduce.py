"""One cell of a leaderboard trained again."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from support.command_line import kdbench, refused
from support.desk import Desk, kinds, study_of, unseen_digits
from typer.testing import Result

from kdbench.cli.reproduce import Cell, final_run, pinned_study
from kdbench.execution.engines import ENGINES
from kdbench.records.files import read_json
from kdbench.records.store import Store
from kdbench.report.data.report_data import ReportData
from kdbench.report.rows import TableRow
from kdbench.study.plan_file import plan_file


@pytest.fixture(scope="module")
def home(tiny_root: Path) -> Iterator[Path]:
    """The root with the study `tiny`; runs are trained in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES, "local", ENGINES["inline"])
        yield tiny_root


def again(home: Path, *words: object) -> Result:
    return kdbench("reproduce", home / "tiny.yaml", *words, "--root", home)


def scores(home: Path, row: str) -> dict[int, float]:
    plan = read_json(Store(home).plan_path("tiny"))
    (chosen,) = (r for r in plan["rows"] if (r["label"], r["row"]) == ("kd", row))
    return {
        int(seed): 100 * Store(home).record(i).test["last"]["accuracy"]
        for seed, i in chosen["runs"].items()
    }


def test_a_published_seed_comes_out_the_same(home: Path) -> None:
    done = again(home, "kd", "--seed", 1)
    text = " ".join(done.output.split())
    assert "the same" in text, text
    assert "not the same" not in text
    assert done.exit_code == (0 if "inside" in text else 1)


def test_a_new_seed_is_held_to_the_prediction_interval(home: Path) -> None:
    done = again(home, "kd", "--seed", 7)
    text = " ".join(done.output.split())
    values = list(scores(home, "tuned").values())
    half = scipy_stats.t.ppf(0.975, 2) * np.std(values, ddof=1) * np.sqrt(1 + 1 / 3)
    interval = (np.mean(values) - half, np.mean(values) + half)
    assert f"[{interval[0]:.2f}, {interval[1]:.2f}]" in text, text
    assert "published seeds 0, 1, 2" in text
    assert ("inside" in text) == (done.exit_code == 0)
    once_more = again(home, "kd", "--seed", 7)
    assert "trained here before; remove" in " ".join(once_more.output.split())


def test_the_studys_own_records_and_plan_are_left_alone(home: Path) -> None:
    own = Store(home)
    before = {p: p.stat().st_mtime_ns for p in own.plan_path("tiny").parent.iterdir()}
    ids = {p.name for p in (home / "runs").iterdir()}
    again(home, "kd:default", "--seed", 8)
    assert {p: p.stat().st_mtime_ns for p in own.plan_path("tiny").parent.iterdir()} == before
    assert {p.name for p in (home / "runs").iterdir()} == ids
    teacher = next(iter(read_json(own.plan_path("tiny"))["teachers"].values()))
    copy = Store(home / "reproduced").record(teacher)
    assert copy.result == own.record(teacher).result  # not trained a second time


def test_what_cannot_be_reproduced(home: Path, tmp_path: Path) -> None:
    def message(*words: object) -> str:
        return refused("reproduce", *words)

    study = home / "tiny.yaml"
    assert "no row 'rkd'" in message(study, "rkd", "--seed", 1, "--root", home)
    assert "holds no study.json" in message(study, "kd", "--seed", 1, "--root", tmp_path)
    changed = tmp_path / "tiny.yaml"
    changed.write_text(
        (home / "tiny.yaml").read_text().replace("epochs: 1, batch", "epochs: 2, batch")
    )
    text = message(changed, "kd", "--seed", 1, "--root", home)
    assert "its recipe, data, teacher or a method's version has changed" in text
    report = tmp_path / "report"
    report.mkdir()
    for path in Store(home).report_folder("tiny").glob("*.*"):
        (report / path.name).write_bytes(path.read_bytes())
    about = json.loads((report / "study.json").read_text())
    about["plan"]["data"]["checksum"] = "0" * 12
    (report / "study.json").write_text(json.dumps(about))
    text = message(study, "kd", "--seed", 1, "--root", home, "--report", report)
    assert "the training images differ" in text


@pytest.mark.parametrize(
    "method", ["kd", "ban", {"method": "takd", "assistant": {"model": "digits-cnn-medium"}}]
)
def test_a_tuned_learning_rate_is_that_of_the_row_and_not_of_its_teacher(
    method: str | dict[str, object], tmp_path: Path
) -> None:
    desk = Desk(tmp_path, unseen_digits())
    tune = {"trials": 3, "epochs": 2, "shared": {"lr": {"low": 0.02, "high": 0.1}}}
    study = study_of("ce", method, tune={"seeds": [100], **tune})
    for node in kinds(desk.plan(study), "trial"):
        desk.finish(node, 0.5 + node.spec.recipe.lr)  # the recipe's 0.01 is not chosen
    plan = desk.plan(study)
    published = plan_file(desk.planner(study), plan)
    row = next(r for r in published.rows if r.label != "ce" and r.row == "tuned")
    assert row.hparams["recipe.lr"] != study.recipe.lr
    none = pd.DataFrame()
    report = ReportData(published, {}, none, none, none, none)
    for seed in (1, 7):
        line = TableRow(row, none, {})
        cell = Cell(pinned_study(study, line, seed), report, line, seed)
        planner = cell.planner(desk.images, desk.store)
        chosen = final_run(planner, cell)  # it raises where seed 1 is not the published run
        run = planner.plan().nodes[chosen]
        assert run.spec.recipe.lr == row.hparams["recipe.lr"]
        learned_from = [planner.plan().nodes[i].spec for i in run.spec.frozen_runs.values()]
        assert {spec.recipe.lr for spec in learned_from} == {study.recipe.lr}
