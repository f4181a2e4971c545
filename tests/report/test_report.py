"""The leaderboard of a study that was made up: every kind of row, and every way to lack a run."""

import dataclasses
import io
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from support.fake_study import COST, IMAGES, ODD, RIGHT, SEEDS

from kdbench.records.plan_file import PlanRow
from kdbench.records.store import Store
from kdbench.report.data.collect import OutOfDate, count_out_of_date, data_from_mlflow
from kdbench.report.data.report_data import NoReportData, compress, load, tidy_curves
from kdbench.report.data.runs import MixedRuns, records_frame, runs_frame, typed
from kdbench.report.leaderboard import build_leaderboard
from kdbench.report.write import write_report
from kdbench.report.writers import cells as cells_module
from kdbench.report.writers import latex as latex_module
from kdbench.report.writers import markdown as markdown_module
from kdbench.report.writers.console import TerminalTable
from kdbench.stats import Analysis, adjust


@pytest.fixture
def board(fake_study, frame):
    return build_leaderboard(frame, fake_study.plan, COST)


def row_of(board, method, row):
    table = board.table
    (found,) = table[(table["method"] == method) & (table["row"] == row)].to_dict("records")
    return found


def points(label, row):
    return np.array([r / 10 for r in RIGHT[label, row]])


DIGEST = "0123456789abcdef"
CURVES = pd.DataFrame(
    [("b", 1, "train.loss", 0.1 + 0.2), ("a", 2, "seconds", 1.25), ("a", 1, "train.loss", 0.5)],
    columns=["id", "epoch", "metric", "value"],
)


def as_markdown(board):
    return markdown_module.to_markdown(cells_module.leaderboard_document(board, DIGEST))


def as_latex(board):
    return latex_module.to_latex(cells_module.leaderboard_document(board, DIGEST))


# -- the frame


def test_mlflow_and_records_give_one_frame(fake_study, frame):
    found = runs_frame(fake_study.search(), fake_study.plan, COST)
    # MLflow is not told how many images the test set has.
    pd.testing.assert_frame_equal(found.drop(columns="images"), frame.drop(columns="images"))


def test_frame_has_a_line_for_each_row_and_seed(frame):
    counts = frame.groupby(["label", "row"]).size()
    assert counts["kd", "tuned"] == counts["rkd", "default"] == counts["at", "only"] == SEEDS
    assert counts["fsp", "default"] == counts["bad", "tuned"] == counts["teacher", "teacher"] == 1
    assert not frame.duplicated(["label", "row", "seed"]).any()


def test_frame_takes_only_runs_of_the_plan(fake_study, frame):
    search = fake_study.search()
    other = search.iloc[[3]].assign(**{"tags.kdbench.id": "ffffffffffff", "metrics.test/nll": 9})
    more = runs_frame(pd.concat([search, other]), fake_study.plan, COST)
    pd.testing.assert_frame_equal(more, runs_frame(search, fake_study.plan, COST))


def test_states_and_reasons(frame):
    at = frame.set_index(["label", "row", "seed"])
    assert at.loc[("dml", "only", 3), ["state", "reason"]].tolist() == [
        "diverged",
        "diverged in epoch 2",
    ]
    assert at.loc[("at", "only", 4), ["state", "reason"]].tolist() == ["missing", "not run yet"]
    incompatible = frame[frame["label"] == "fsp"].iloc[0]
    assert (incompatible["state"], incompatible["reason"]) == (
        "incompatible",
        "layers differ in channels: 16 and 32",
    )
    assert frame.loc[frame["state"] != "done", "accuracy"].isna().all()


def test_other_states(fake_study, tmp_path):
    shutil.copytree(fake_study.store.root, tmp_path / "copy")
    store = Store(tmp_path / "copy")
    ids = next(r for r in fake_study.plan.rows if r.row == "only" and r.label == "ce").runs
    (store.record(ids["0"]).folder / "result.json").unlink()
    (store.record(ids["1"]).folder / "result.json").unlink()
    store.record(ids["1"]).fail({"message": "out of memory"})
    (store.record(ids["2"]).folder / "test.json").unlink()
    found = records_frame(store, fake_study.plan).set_index(["label", "row", "seed"])
    texts = [found.loc[("ce", "only", s), "reason"] for s in range(3)]
    assert texts == ["interrupted", "failed: out of memory", "not scored yet"]
    board = build_leaderboard(found.reset_index(), fake_study.plan)
    assert row_of(board, "ce", "only")["n"] == 2
    assert any("ce: seed 0 interrupted; seed 1 failed: out of memory" in n for n in board.notes)
    assert any("compared with ce on the 2 seeds that both have (3, 4)" in n for n in board.notes)


def test_the_best_epoch_is_a_rule_of_its_own(fake_study):
    search = fake_study.search()
    search["metrics.test_best/accuracy"] = search["metrics.test/accuracy"] + 0.01
    plan = replace(fake_study.plan, selection="best")
    found, last = runs_frame(search, plan), runs_frame(search, fake_study.plan)
    scored = last["accuracy"].notna()
    assert found.loc[scored, "accuracy"].tolist() == pytest.approx(
        (last.loc[scored, "accuracy"] + 0.01).tolist()
    )
    assert "of best validation accuracy" in build_leaderboard(found, plan).captions[0]


# -- the numbers


def test_means_and_intervals_by_hand(board):
    row, values = row_of(board, "kd", "tuned"), points("kd", "tuned")
    half = scipy_stats.t.ppf(0.975, 4) * values.std(ddof=1) / math.sqrt(5)
    assert row["accuracy"] == pytest.approx(values.mean())
    assert row["accuracy_low"] == pytest.approx(values.mean() - half)
    assert row["accuracy_high"] == pytest.approx(values.mean() + half)
    assert (row["n"], row["wanted"]) == (5, 5)


@pytest.mark.parametrize(("column", "base"), [("difference", "ce"), ("versus_second", "kd")])
def test_differences_by_hand(board, column, base):
    other = points(base, "only" if base == "ce" else "tuned")
    for label, row in ((ODD, "tuned"), ("kd-tutorial", "pinned"), ("kd", "default")):
        d = points(label, row) - other
        found = row_of(board, label, row)
        one_image = 0.1
        half = scipy_stats.t.ppf(0.975, 4) * max(d.std(ddof=1), one_image) / math.sqrt(5)
        assert found[column] == pytest.approx(d.mean())
        assert found[f"{column}_low"] == pytest.approx(d.mean() - half)
        assert found[f"{column}_high"] == pytest.approx(d.mean() + half)


def test_a_method_is_not_compared_with_itself(board):
    assert math.isnan(row_of(board, "ce", "only")["difference"])
    assert math.isnan(row_of(board, "kd", "tuned")["versus_second"])
    assert row_of(board, "ce", "only")["versus_second"] < 0


def test_the_family_is_declared(board):
    """Tuned rows and only rows against ce; a method that cannot serve does not count, one
    whose trials all diverged does."""
    members = [("kd", "tuned"), ("rkd", "tuned"), (ODD, "tuned"), ("dml", "only"), ("at", "only")]
    assert set(board.family.verdicts) == {label for label, _ in members} | {"bad"}
    raw = []
    for label, row in members:
        seeds = [s for s in range(SEEDS) if RIGHT[label, row][s] is not None]
        ours = [RIGHT[label, row][s] / 10 for s in seeds]
        raw.append(scipy_stats.ttest_rel(ours, points("ce", "only")[seeds]).pvalue)
    adjusted = adjust([*raw, math.nan])
    for (label, row), p, q in zip(members, raw, adjusted, strict=False):
        assert row_of(board, label, row)["p"] == pytest.approx(p)
        assert row_of(board, label, row)["p_adjusted"] == pytest.approx(q)
    for label, row in (("kd", "default"), ("kd-tutorial", "pinned"), ("ce", "only")):
        assert math.isnan(row_of(board, label, row)["p"])
        assert row_of(board, label, row)["verdict"] is None


def test_verdicts(board):
    assert row_of(board, "kd", "tuned")["verdict"] == "better"
    assert row_of(board, ODD, "tuned")["verdict"] == "worse"
    assert row_of(board, "at", "only")["verdict"] == "cannot tell at 4 seeds"
    assert row_of(board, "bad", "tuned")["verdict"] == "no verdict below 3 seeds"


def test_gain_from_tuning(board):
    d = points("kd", "tuned") - points("kd", "default")
    assert row_of(board, "kd", "tuned")["gain"] == pytest.approx(d.mean())
    assert math.isnan(row_of(board, "kd", "default")["gain"])
    assert row_of(board, "rkd", "tuned")["gain"] == 0
    assert any(n.startswith("rkd: tuning chose the published defaults") for n in board.notes)


def test_order_of_runs_changes_nothing(fake_study, frame, board):
    shuffled = frame.sample(frac=1, random_state=3)
    again = build_leaderboard(shuffled, fake_study.plan, COST)
    pd.testing.assert_frame_equal(again.table, board.table)
    assert again.captions == board.captions


def test_pairing_is_by_seed(fake_study, frame, board):
    moved = frame.copy()
    kd = (frame["label"] == "kd") & (frame["row"] == "tuned")
    moved.loc[kd, "seed"] = (frame.loc[kd, "seed"] + 1) % SEEDS
    before, after = (
        row_of(b, "kd", "tuned") for b in (board, build_leaderboard(moved, fake_study.plan))
    )
    assert after["difference"] == pytest.approx(before["difference"])
    assert after["accuracy_low"] == pytest.approx(before["accuracy_low"])
    assert after["difference_low"] < before["difference_low"] - 0.1


def test_missing_and_diverged_runs_show(board):
    dml, late = row_of(board, "dml", "only"), row_of(board, "at", "only")
    assert (dml["n"], dml["difference_n"], dml["state"]) == (4, 4, "diverged")
    assert dml["reason"] == "seed 3 diverged in epoch 2"
    assert (late["n"], late["state"]) == (4, "missing")
    assert row_of(board, "fsp", "default")["state"] == "incompatible"
    assert row_of(board, "bad", "tuned")["state"] == "diverged"
    assert row_of(board, "bad", "tuned")["reason"] == "all 8 trials diverged"
    text = "\n".join(board.notes)
    assert "dml: seed 3 diverged in epoch 2; its numbers are over the other 4 seeds and so" in text
    assert "dml: compared with ce on the 4 seeds that both have (0, 1, 2, 4)." in text
    assert "fsp (default): layers differ in channels" in text
    assert board.incomplete
    assert board.title == "fake_study (incomplete)"


def test_a_complete_study_with_divergence_is_complete(fake_study, frame):
    rows = tuple(r for r in fake_study.plan.rows if r.label != "at")
    plan = replace(fake_study.plan, complete=True, rows=rows)
    board = build_leaderboard(frame[frame["label"] != "at"], plan)
    assert not board.incomplete
    assert "Incomplete" not in "".join(board.notes)


def test_tuning_that_is_not_done_shows(fake_study):
    row = PlanRow("new", "tuned", "new", searched=("alpha",))
    plan = replace(fake_study.plan, rows=(*fake_study.plan.rows, row))
    board = build_leaderboard(records_frame(fake_study.store, plan), plan)
    assert row_of(board, "new", "tuned")["reason"] == "not tuned yet"
    assert "new" in board.family.verdicts


def test_sorted_by_accuracy_with_a_methods_rows_together(board):
    order = list(zip(board.table["method"], board.table["row"], strict=True))
    assert order[:2] == [("kd", "tuned"), ("kd", "default")]
    assert order[-1] == ("teacher", "teacher")
    mains = [m for m, r in order[:-1] if r in ("tuned", "only", "pinned")]
    means = [
        row_of(board, m, r)["accuracy"] for m, r in order[:-1] if m in mains and r != "default"
    ]
    known = [m for m in means if not math.isnan(m)]
    assert known == sorted(known, reverse=True)
    assert {m for m, _ in order[-4:-1]} == {"bad", "fsp"}


def test_bold_is_what_is_not_told_apart(board):
    bold = set(board.table.loc[board.table["best"], "method"])
    assert bold == board.best.members
    assert "kd" in bold
    assert ODD not in bold
    assert "ce" not in bold
    assert not board.table.loc[board.table["row"].isin(["default", "pinned"]), "best"].any()


def test_two_seeds_give_no_verdict_and_no_bold(fake_study, frame):
    few = frame[frame["seed"].isna() | (frame["seed"] < 2)]
    board = build_leaderboard(few, fake_study.plan)
    assert set(board.table["verdict"].dropna()) == {"no verdict below 3 seeds"}
    assert not board.table["best"].any()
    assert "Bold" not in "".join(board.captions)
    assert any("no verdict and no bold" in n for n in board.notes)
    assert "*" not in as_markdown(board).split("Scores in")[0].replace("\\*", "!")


def test_one_seed_and_no_runs_at_all(fake_study, frame):
    one = build_leaderboard(frame[frame["seed"].isna() | (frame["seed"] == 1)], fake_study.plan)
    assert math.isnan(row_of(one, "kd", "tuned")["accuracy_low"])
    none = build_leaderboard(runs_frame(pd.DataFrame(), fake_study.plan), fake_study.plan)
    assert (none.table["n"] == 0).all()
    for each in (one, none):
        assert as_markdown(each)
        assert as_latex(each)


def test_the_margin_is_never_less_than_one_image(fake_study, frame, board):
    assert board.family.analysis.margin == 0.2
    small = build_leaderboard(frame.assign(images=360), fake_study.plan)
    assert small.family.analysis.margin == pytest.approx(100 / 360)
    assert any("one test image is 0.28 points" in c for c in small.captions)


def test_costs_are_the_calibrated_ones(board):
    assert row_of(board, "kd", "tuned")["relative cost (measured)"] == 2.5
    assert row_of(board, "kd", "tuned")["cost of a step (measured)"] == 1.034
    assert row_of(board, "kd", "default")["peak memory in MB (measured)"] == 210.0
    assert math.isnan(row_of(board, "dml", "only")["relative cost (measured)"])


def test_a_step_does_not_stand_for_the_whole_training(board):
    """Reports that were made before all of a row's training was measured."""
    rkd = row_of(board, "rkd", "tuned")
    assert math.isnan(rkd["relative cost (measured)"])
    assert rkd["cost of a step (measured)"] == 1.7
    assert any("No relative cost for rkd: only a step was measured" in n for n in board.notes)


def test_second_column_goes_where_kd_is_the_reference(fake_study, frame):
    board = build_leaderboard(frame, replace(fake_study.plan, reference="kd"))
    assert board.second is None
    assert board.table["versus_second"].isna().all()
    assert not any("Δ kd" in h for h in cells_module.grid(board).headers[5:])
    assert row_of(board, "kd", "default")["difference"] < 0  # against its own tuned row


def test_unknown_reference(fake_study, frame):
    with pytest.raises(ValueError, match="the reference 'kdd' is no method of this study: "):
        build_leaderboard(frame, replace(fake_study.plan, reference="kdd"))


# -- what must not stand in one table


@pytest.mark.parametrize(
    ("column", "words"),
    [("device", "devices"), ("torch", "torch versions"), ("data", "training data")],
)
def test_mixtures_are_refused(fake_study, frame, column, words):
    mixed = frame.copy()
    mixed.loc[mixed["name"] == "kd seed 3", column] = "another"
    with pytest.raises(MixedRuns, match=f"(?s)different {words}.*another: kd seed 3\n"):
        build_leaderboard(mixed, fake_study.plan)


def test_an_empty_text_is_none_as_it_is_when_read_from_csv(frame):
    assert frame["commit"].notna().any()
    without = typed(frame.assign(commit=""))
    assert without["commit"].isna().all()


def test_mixed_commits_and_machines_are_noted(fake_study, frame):
    mixed = frame.copy()
    at = mixed["name"] == "dml seed 1"
    mixed.loc[at, ["commit", "hardware", "dirty"]] = ["beef", "a laptop", True]
    text = "\n".join(build_leaderboard(mixed, fake_study.plan).notes)
    assert "several commits: beef (1 run), f00d (" in text
    assert "several machines: a laptop (1 run)" in text
    assert "Code with uncommitted changes made 1 run." in text


# -- captions


def test_captions_say_what_was_done(board, fake_study):
    text = "\n".join(board.captions)
    for part in (
        "over 5 seeds (0, 1, 2, 3, 4)", "the last epoch", "95 % Student t interval",
        "two-sided paired t test against ce, Holm-corrected over 6 comparisons",
        "margin of 0.2 points (one test image is 0.1 points)",
        "Bold: not significantly different from the highest mean (kd)", "15 pairs",
        "Smallest detectable difference at 80 % power with 5 seeds and 6 comparisons",
        "8 trials of 3 epochs", "random sampler, seeds 100",
        f"conditional on teacher {fake_study.teacher} (96.00 % on test)", "c" * 12, "commit f00d",
        "torch 2.11", "hardware a machine", "measured on 2 cores",
    ):  # fmt: skip
        assert part in text, part
    assert f"{board.family.detectable:.2f} points" in text


def test_captions_say_tuned_of_what_was_left_open_alone(board, fake_study, frame):
    """The study pins the hyperparameters of kd-tutorial."""
    text = "\n".join(board.captions)
    assert "Every method whose hyperparameters the study leaves open was tuned" in text
    assert "Every method with hyperparameters" not in text
    rows = [r for r in fake_study.plan.rows if r.label in ("ce", "kd-tutorial")]
    pinned = build_leaderboard(frame, replace(fake_study.plan, rows=rows), COST)
    text = "\n".join(pinned.captions)
    assert "Nothing was tuned: " in text
    assert "same budget" not in text


def test_captions_change_with_the_analysis(fake_study, frame):
    other = Analysis(margin=0.5, correction="bonferroni", level=0.9, alpha=0.1)
    board = build_leaderboard(frame, fake_study.plan, COST, other)
    text = "\n".join(board.captions)
    assert "Holm" not in text
    assert "Bonferroni-corrected over 6" in text
    assert "90 % Student t interval" in text
    assert "margin of 0.5 points" in text
    assert "family-wise error of 10 %" in text
    headers = cells_module.grid(board).headers
    assert "p (Bonferroni)" in headers
    assert "accuracy [90 %]" in headers


def test_teachers_by_seed(fake_study, frame):
    teachers = {str(s): fake_study.teacher if s == 0 else f"{s}" * 12 for s in range(3)}
    plan = replace(fake_study.plan, teachers=teachers, tune=None)
    board = build_leaderboard(records_frame(fake_study.store, plan), plan)
    text = "\n".join(board.captions)
    assert f"Each seed has a teacher of its own: {fake_study.teacher}, 111111111111" in text
    assert "Nothing was tuned" in text
    assert row_of(board, "teacher", "teacher")["n"] == 1


# -- files


def test_csv_holds_the_tables_numbers(report_data, board, tmp_path):
    _, paths = write_report(report_data, tmp_path)
    read = pd.read_csv(tmp_path / "leaderboard.csv")
    for column in ("accuracy", "difference_low", "p_adjusted", "agreement"):
        np.testing.assert_allclose(read[column], board.table[column].astype(float), rtol=1e-9)
    assert set(read["made from"]) == {report_data.digest}
    measured = [c for c in read.columns if "seconds" in c or "cost" in c or "memory" in c]
    assert measured
    assert all(c.endswith(" (measured)") for c in measured)
    assert all(p.is_file() for p in paths)
    names = {str(p.relative_to(tmp_path)) for p in paths}
    assert names >= {"index.html", "references.bib", "methods.tex", "figures/forest.pdf"}
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert found == names


def test_report_data_reads_back_to_the_same_numbers(report_data, tmp_path):
    for name, content in report_data.files().items():
        (tmp_path / name).write_bytes(content)
    again = load(tmp_path)
    for name in ("runs", "curves", "trials", "confusions"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(report_data, name))
    assert (again.digest, again.files()) == (report_data.digest, report_data.files())
    board = build_leaderboard(again.runs, again.plan, again.cost)
    expected = build_leaderboard(report_data.runs, report_data.plan, report_data.cost)
    pd.testing.assert_frame_equal(board.table, expected.table)
    (tmp_path / "trials.csv.gz").unlink()
    with pytest.raises(NoReportData, match=r"holds no trials\.csv\.gz"):
        load(tmp_path)


def test_the_digest_does_not_know_the_clock(report_data):
    runs = report_data.runs.assign(**{"measured.seconds": 1.0})
    curves = report_data.curves.copy()
    curves.loc[curves["metric"] == "measured.seconds", "value"] += 1
    assert dataclasses.replace(report_data, runs=runs, curves=curves, cost={}).digest == (
        report_data.digest
    )
    for name, column in (("runs", "nll"), ("curves", "value"), ("confusions", "count")):
        frame = getattr(report_data, name).copy()
        frame[column] += 1
        assert dataclasses.replace(report_data, **{name: frame}).digest != report_data.digest


def test_curves_are_sorted_and_marked():
    rows = tidy_curves(CURVES).to_numpy().tolist()
    assert rows == [
        ["a", 2, "measured.seconds", 1.25],
        ["a", 1, "train.loss", 0.5],
        ["b", 1, "train.loss", 0.30000000000000004],
    ]


def test_confusions_count_every_image_of_every_run(report_data, frame):
    confusions = report_data.confusions
    truth = confusions[confusions["against"] == "truth"].groupby(["label", "row"])["count"].sum()
    assert truth["kd", "tuned"] == 5 * IMAGES
    assert truth["at", "only"] == 4 * IMAGES
    kd = confusions[(confusions["label"] == "kd") & (confusions["row"] == "tuned")]
    right = kd[(kd["against"] == "truth") & (kd["expected"] == kd["predicted"])]["count"].sum()
    assert right == sum(RIGHT["kd", "tuned"])
    same = kd[(kd["against"] == "teacher") & (kd["expected"] == kd["predicted"])]["count"].sum()
    rows = frame[(frame["label"] == "kd") & (frame["row"] == "tuned")]
    assert same == pytest.approx(rows["agreement"].sum() * IMAGES)


def test_equal_numbers_give_equal_bytes(report_data, tmp_path):
    _, first = write_report(report_data, tmp_path / "a")
    _, second = write_report(
        dataclasses.replace(report_data, curves=report_data.curves), tmp_path / "b"
    )
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
    assert compress(b"x")[4:8] == b"\0\0\0\0"  # gzip's time


def test_markdown(board):
    text = as_markdown(board)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(board.table)
    pipes = [len(re.findall(r"(?<!\\)\|", line)) for line in rows]
    assert len(set(pipes)) == 1
    kd = next(line for line in rows if line.startswith("| **kd**") and "tuned" in line)
    d = points("kd", "tuned") - points("ce", "only")
    assert f"+{d.mean():.2f}\\* [+" in kd
    assert "better" in kd
    assert "a\\_b%&#" in text
    assert "4 of 5 †" in text
    assert "layers differ in channels: 16 and 32" in text
    assert text.startswith(
        f"<!-- made from {DIGEST} -->\n# fake\\_study (incomplete)\n\nWhich one?\n"
    )
    assert "relative cost (measured)" in text


def test_no_number_reads_minus_nothing():
    assert cells_module.signed_text(-0.004) == cells_module.signed_text(0.001) == "0.00"
    assert cells_module.signed_text(-0.006) == "-0.01"
    assert cells_module.p_text(0.0004) == "<0.001"
    assert cells_module.p_text(math.nan) == "–"


def test_latex_structure(board):
    text = as_latex(board)
    tables = re.findall(r"\\begin\{longtable\}(.*?)\\end\{longtable\}", text, flags=re.DOTALL)
    assert len(tables) > 1
    for number, table in enumerate(tables):
        columns = table.splitlines()[0].count(r"\arraybackslash")
        body = table[table.index(r"\endfoot") :].splitlines()[1:]
        assert len(body) == len(board.table) or number
        for line in body:
            assert line.endswith(r" \\")
            assert len(re.findall(r"(?<!\\)&", line)) == columns - 1
    assert r"a\_b\%\&\#" in text
    assert re.search(r"\\textbf\{kd\} & tuned .*\+2\.98\* \[\+2", text)
    assert text.count(r"\cite{") == sum(cite is not None for cite in board.table["cite"])
    assert "$-$0." in text
    assert balanced(text)


def balanced(text):
    """Whether braces pair up, comments and escaped braces aside."""
    depth = 0
    for char in re.findall(r"\\[{}%]|(?:^|(?<=\n))%.*|[{}]", text):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if depth < 0:
            return False
    return depth == 0


@given(st.text(st.sampled_from("ab_%&#$~^\\{} <>|\n±Δ"), max_size=20))
def test_latex_escapes_everything(text):
    out = latex_module.escape(text)
    commands = r"\\(?:[{}_%&#$]|text\w+\{\}|)|\$\\\w+\$"
    assert not re.search(r"[\\{}_%&#$~^<>|]", re.sub(commands, "", out))
    assert "\n" not in out
    assert balanced(out)


def test_latex_cites(fake_study, frame):
    rows = [
        replace(r, cite="hinton2015" if r.label == "kd" else None) for r in fake_study.plan.rows
    ]
    board = build_leaderboard(frame, replace(fake_study.plan, rows=rows))
    assert as_latex(board).count(r"~\cite{hinton2015}") == 2
    assert "hinton2015" not in as_markdown(board)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX installed to compile it")
def test_latex_compiles(board, tmp_path):
    packages = "\\usepackage[utf8]{inputenc}\\usepackage{array,booktabs,longtable,url,xcolor}"
    head = f"\\documentclass{{article}}{packages}"
    text = f"{head}\\begin{{document}}{as_latex(board)}\\end{{document}}"
    (tmp_path / "t.tex").write_text(text)
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (60, ["agr.", "cost", "Δ kd ±", "p", "n", "hparams"]),
        (80, ["agr.", "cost", "Δ kd ±"]),
        (97, ["agr."]),
        (100, []),
        (160, []),
    ],
)
def test_a_terminal_shows_as_many_columns_as_fit_whole(board, width, left_out):
    from rich.console import Console

    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(TerminalTable(board))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "…" not in text
    headings = next(line for line in lines if line.lstrip().startswith("method"))
    for column in ("accuracy ±", "Δ ce ±", "verdict"):
        assert column in headings
    words = f"Left out at {width} columns: {', '.join(left_out).removesuffix('.')}. "
    assert (words in " ".join(text.split())) == bool(left_out)
    assert not [name for name in left_out if name in headings.split("  ")]
    kd = next(line for line in lines if line.lstrip().startswith("kd "))  # the tuned row
    d = points("kd", "tuned") - points("ce", "only")
    assert re.search(rf"\+{d.mean():.2f}\* ±\d+\.\d\d\b", kd)
    assert "better" in kd
    assert "dml: seed 3 diverged in epoch 2" in " ".join(text.split())


def test_terminal_drops_n_where_it_says_nothing(fake_study, frame):
    keep = {"ce", "kd", "kd-tutorial"}
    plan = replace(fake_study.plan, rows=[r for r in fake_study.plan.rows if r.label in keep])
    whole = build_leaderboard(frame[frame["label"].isin({*keep, "teacher"})], plan)
    assert "n" not in cells_module.grid(whole, narrow=True).headers
    assert "n" in cells_module.grid(whole).headers


# -- from a store


def test_build_from_mlflow(fake_study, tmp_path, monkeypatch):
    """The one test with a real MLflow database: behind, then up to date."""
    from kdbench.tracking import sync_study, tracking_uri

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(fake_study.store.root, tmp_path / "copy")
    store = Store(tmp_path / "copy")
    rows = [
        replace(r, runs={s: r.runs[s] for s in "012"})
        for r in fake_study.plan.rows
        if r.label in ("ce", "kd-tutorial")
    ]
    ids = {fake_study.teacher, *(run for row in rows for run in row.runs.values())}
    listing = {run: entry for run, entry in fake_study.plan.listing.items() if run in ids}
    plan = replace(fake_study.plan, rows=tuple(rows), listing=listing)
    plan.dump(store.plan_path("fake_study"))
    with pytest.raises(FileNotFoundError, match="no plan of study 'other'"):
        data_from_mlflow(store, "other")
    late = rows[1].runs["0"]
    hidden = store.record(late).folder
    hidden.rename(tmp_path / "hidden")
    sync_study(store, "fake_study", tracking_uri(store.root))
    (tmp_path / "hidden").rename(hidden)
    with pytest.raises(
        OutOfDate, match="behind the records of study 'fake_study' by 1 run: kdbench sy"
    ):
        data_from_mlflow(store, "fake_study")
    sync_study(store, "fake_study", tracking_uri(store.root))
    data = data_from_mlflow(store, "fake_study")
    board, paths = write_report(data, store.report_folder("fake_study"))
    expected = build_leaderboard(records_frame(store, plan, COST), plan, COST)
    pd.testing.assert_frame_equal(board.table, expected.table)
    assert board.captions == expected.captions
    assert all(p.exists() for p in paths)
    assert paths[0].parent == store.report_folder("fake_study")


def test_out_of_date_counts_each_run_once(fake_study, frame):
    assert count_out_of_date(fake_study.store, frame) == 0
    lost = frame.copy()
    lost.loc[lost["label"] == "rkd", ["state", "accuracy"]] = ["missing", math.nan]
    assert count_out_of_date(fake_study.store, lost) == 5  # default and tuned are the same runs
    faint = frame.copy()
    faint.loc[faint["name"] == "kd seed 1", "agreement"] = math.nan
    assert count_out_of_date(fake_study.store, faint) == 2


# -- what it costs


def test_no_torch_and_no_statsmodels():
    code = (
        "import sys; "
        "import kdbench.report.write, kdbench.report.writers.console; "
        "import kdbench.tracking.payload; "
        "print('torch' in sys.modules, 'statsmodels' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"


def test_frozen(board):
    with pytest.raises(dataclasses.FrozenInstanceError):
        board.study = "x"
