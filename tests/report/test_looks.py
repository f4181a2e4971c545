"""A report of a study with looks: its table, captions and files."""

from dataclasses import replace

import numpy as np
import pytest

from kdbench.report.check import check_report
from kdbench.report.compare import compare_rows, comparison_sentences
from kdbench.report.data.report_data import load
from kdbench.report.forecast import forecast_seeds, forecast_sentences
from kdbench.report.leaderboard import build_leaderboard
from kdbench.report.page.details import row_details
from kdbench.report.page.pairs import pair_numbers
from kdbench.report.pooled import pool_settings
from kdbench.report.pooled_table import pooled_document
from kdbench.report.write import write_report
from kdbench.report.writers.methods_section import paragraph
from kdbench.stats import detectable, paired_difference


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


def test_what_could_be_seen_is_at_the_most_seeds_that_an_undecided_method_has(board):
    """Most methods may be decided at the first look; a difference that is not goes on."""
    family = board.family
    counts = [v.difference.n for v in family.verdicts.values()]
    assert family.seeds == max(counts) == 5
    only = replace(family, verdicts={k: family.verdicts[k] for k in ("kd", "rkd")})
    assert only.seeds == 5
    least = detectable(5, 0.05 * 2 / 3, 0.8, family.size) * family.sd
    assert family.detectable == pytest.approx(least)
    assert f"with 5 seeds and {family.size} comparisons is {least:.2f} points" in str(
        board.captions
    )
    assert f"{least:.2g} points would have been seen (80 % power, 5 seeds)" in board.answer


def test_differences_are_not_said_to_be_those_of_means_over_other_seeds(board, report_data):
    assert "need not be that of the means shown" in board.captions[0]
    runs = report_data.runs[report_data.runs["label"].isin(["ce", "kd", "teacher"])]
    rows = [r for r in report_data.plan.rows if r.label in ("ce", "kd")]
    whole = build_leaderboard(runs, replace(report_data.plan, rows=rows))
    assert {len(r.runs) for r in rows} == {5}
    assert "need not be" not in whole.captions[0]
    assert "up to" not in whole.captions[0]


def test_the_gap_that_is_recovered_is_on_the_seeds_that_both_have(board, looked):
    """kd has three seeds and the reference five."""
    kd, ce = row(board, "kd"), row(board, "ce", "only")
    assert ce["n"] > kd["n"]
    runs = looked.runs
    of_ce = runs[(runs["label"] == "ce") & (runs["seed"] < 3)]["accuracy"].mean() * 100
    teacher = runs[runs["row"] == "teacher"]["accuracy"].mean() * 100
    assert kd["gap recovered (descriptive)"] == pytest.approx(kd["difference"] / (teacher - of_ce))


def test_two_rows_on_the_page_have_the_intervals_of_the_table(board, looked):
    names = [details.name for details in row_details(board, looked)]
    numbers = pair_numbers(board, looked, names)
    rows = {r["name"]: r for r in numbers["rows"]}

    def low(a, b):
        a, b = rows[a], rows[b]
        seeds = sorted(set(a["scores"]) & set(b["scores"]))
        d = np.array([a["scores"][s] - b["scores"][s] for s in seeds])
        factor = numbers["t" if a["compared"] and b["compared"] else "once"][len(d)]
        return d.mean() - factor * max(d.std(ddof=1), numbers["image"]) / len(d) ** 0.5

    for name, kind in (("kd", "tuned"), ("kd", "default")):
        expected = row(board, name, kind)["difference_low"]
        assert low(f"{name} ({kind})", "ce") == pytest.approx(expected, abs=2e-3)
    gain = row(board, "kd")["gain_low"]
    assert low("kd (tuned)", "kd (default)") == pytest.approx(gain, abs=2e-3)


def test_a_pinned_reference_is_compared_at_the_look_that_decided(looked):
    """Its seeds are those of the last look, and so is what a pair with it may spend."""
    rows = [
        replace(r, row="pinned") if r.label == "ce" else r
        for r in looked.plan.rows
        if r.label in ("ce", "rkd")
    ]
    runs = looked.runs.copy()
    runs.loc[runs["label"] == "ce", "row"] = "pinned"
    pinned = replace(looked, plan=replace(looked.plan, rows=rows), runs=runs)
    pair, table = compare_rows(pinned, "rkd", "ce"), build_leaderboard(runs, pinned.plan).table
    line = table[(table["method"] == "rkd") & (table["row"] == "tuned")].iloc[0]
    assert pair.difference.low == pytest.approx(line["difference_low"])


def test_a_default_that_was_chosen_has_some_of_the_runs(looked):
    default = next(r for r in looked.plan.rows if (r.label, r.row) == ("rkd", "default"))
    rows = [
        replace(r, runs={**r.runs, **default.runs}) if (r.label, r.row) == ("rkd", "tuned") else r
        for r in looked.plan.rows
    ]
    notes = build_leaderboard(looked.runs, replace(looked.plan, rows=rows)).notes
    (note,) = (n for n in notes if n.startswith("rkd: tuning chose"))
    assert note.endswith("so its tuned row contains the runs of its default row.")


def test_a_pooled_table_says_which_seeds_of_a_study_with_looks_it_takes(looked, report_data):
    other = replace(report_data, plan=replace(report_data.plan, data=None))
    captions = pooled_document(pool_settings("both", {"a": looked, "b": other})).captions
    assert "only the seeds of the first are taken, which all rows have: a (3 seeds)." in captions[0]
    captions = pooled_document(pool_settings("both", {"a": report_data, "b": other})).captions
    assert "looks" not in " ".join(captions)
