"""A report of a study with looks: its table, captions and files."""

from dataclasses import replace

import pytest

from kdbench.report.check import check_report
from kdbench.report.compare import compare_rows, comparison_sentences
from kdbench.report.data.report_data import load
from kdbench.report.forecast import forecast_seeds, forecast_sentences
from kdbench.report.leaderboard import build_leaderboard
from kdbench.report.pooled import pool_settings
from kdbench.report.write import write_report
from kdbench.report.writers.methods_section import paragraph
from kdbench.stats import paired_difference


@pytest.fixture(scope="module")
def looked(report_data):
    """The fake study with looks at 3 and 5 seeds: kd was decided at the first."""

    def cut(row):
        early = row.label == "kd" or row.row in ("default", "pinned")
        return replace(row, runs={s: r for s, r in row.runs.items() if not early or int(s) < 3})

    rows = tuple(map(cut, report_data.plan.rows))
    kept = {run for row in rows for run in row.runs.values()}
    runs = report_data.runs
    runs = runs[runs["id"].isna() | runs["id"].isin(kept) | (runs["row"] == "teacher")]
    plan = replace(report_data.plan, rows=rows, looks=(3, 5), complete=True)
    return replace(report_data, plan=plan, runs=runs.reset_index(drop=True))


@pytest.fixture(scope="module")
def board(looked):
    return build_leaderboard(looked.runs, looked.plan, looked.cost)


def row(board, method, kind="tuned"):
    table = board.table
    return table[(table["method"] == method) & (table["row"] == kind)].iloc[0]


def test_a_decided_method_stands_with_its_own_seeds(board):
    kd, rkd = row(board, "kd"), row(board, "rkd")
    assert (kd["n"], kd["wanted"], kd["verdict"]) == (3, 3, "better")
    assert (rkd["n"], rkd["wanted"], rkd["verdict"]) == (5, 5, "cannot tell at 5 seeds")
    assert row(board, "kd", "default")["n"] == 3


def test_the_table_has_the_intervals_that_hold_for_all_looks(board):
    for label, verdict in board.family.verdicts.items():
        line = board.table[(board.table["method"] == label) & board.table["verdict"].notna()]
        assert line["difference_low"].iloc[0] == pytest.approx(verdict.difference.low, nan_ok=True)
        assert line["adjusted_low"].iloc[0] == pytest.approx(verdict.low, nan_ok=True)
    assert board.family.verdicts["kd"].share == pytest.approx(1 / 3)
    assert board.family.verdicts["rkd"].share == pytest.approx(2 / 3)


def test_a_pair_is_judged_with_what_its_look_spends(looked, board):
    pair = compare_rows(looked, "rkd", "ce")
    verdict = board.family.verdicts["rkd"]
    assert (pair.difference.low, pair.difference.high) == pytest.approx(
        (verdict.difference.low, verdict.difference.high)
    )
    assert pair.analysis.alpha == pytest.approx(0.05 * 2 / 3)
    text = " ".join(comparison_sentences(pair))
    assert "p is compared with 3.33 %, which the look at these seeds spends" in text
    assert "(96.7 % Student t interval over 5 paired seeds)" in text
    fixed = compare_rows(looked, "kd:default", "kd-tutorial")  # of the first look, whatever it says
    assert fixed.analysis.alpha == 0.05
    assert "look" not in " ".join(comparison_sentences(fixed))


def test_the_second_column_of_differences_holds_for_all_looks_too(board):
    """It has the pair of reference and kd the other way round."""
    kd, ce = row(board, "kd"), row(board, "ce", "only")
    assert ce["versus_second"] == pytest.approx(-kd["difference"])
    assert ce["versus_second_low"] == pytest.approx(-kd["difference_high"])
    assert ce["versus_second_high"] == pytest.approx(-kd["difference_low"])
    # Both have the seeds of the first look, whatever they show.
    default, verdict = row(board, "kd", "default"), board.family.verdicts["kd"]
    once = paired_difference(
        dict(zip(range(3), (91.5, 92.1, 91.1), strict=True)),
        dict(zip(range(3), (93.0, 93.6, 92.6), strict=True)),
        0.95,
        verdict.difference.image,
    )
    assert default["versus_second_low"] == pytest.approx(once.low)


def test_captions_say_the_looks_and_what_they_spend(board, looked):
    (text,) = (c for c in board.captions if getattr(c, "topic", "") == "looks")
    assert "at 3, 5 seeds, which spend 33.3 %, 66.7 % of the family-wise error" in text
    assert "gets no more seeds" in text
    assert "up to 5 seeds" in board.captions[0]
    assert "looks that were fixed before the first run" in paragraph(board, looked.plan)


def test_no_note_blames_a_method_for_the_seeds_it_did_not_need(board):
    assert not [note for note in board.notes if note.startswith("kd: compared")]


def test_an_unfinished_look_is_not_judged(looked):
    begun = build_leaderboard(looked.runs, replace(looked.plan, complete=False), looked.cost)
    assert row(begun, "rkd")["verdict"] == "cannot tell at 3 seeds"
    assert begun.family.verdicts["rkd"].difference.n == 3


def test_the_report_is_read_back_and_checks(looked, tmp_path):
    write_report(looked, tmp_path)
    assert load(tmp_path).plan == looked.plan
    assert not check_report(tmp_path)


def test_pooled_settings_take_the_seeds_that_every_method_has(looked):
    other = replace(looked, plan=replace(looked.plan, data=None))
    table = pool_settings("both", {"a": looked, "b": other})
    assert table.analysis.looks == ()
    counts = {k: {d.n for d in v.difference.settings.values()} for k, v in
              table.family.family.verdicts.items() if v.difference.n}  # fmt: skip
    assert counts["kd"] == counts["rkd"] == {3}


def test_a_forecast_is_for_what_the_last_look_spends(looked, report_data):
    with_looks, without = (forecast_seeds(data, 0.3) for data in (looked, report_data))
    assert with_looks.typical.seeds >= without.typical.seeds
    text = " ".join(forecast_sentences(with_looks))
    assert "family-wise error 3.33 % at the last look" in text
