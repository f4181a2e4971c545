"""What a report says of the test that judged it: the moderated t test, or the paired one."""

from dataclasses import replace

import pytest

from kdbench.report.compare import compare_rows, comparison_sentences
from kdbench.report.leaderboard import build_leaderboard
from kdbench.report.pooled import pool_settings
from kdbench.report.pooled_table import pooled_document
from kdbench.report.write import text_files
from kdbench.report.writers.methods_section import paragraph
from kdbench.stats import adjust
from kdbench.study.references import SMYTH


@pytest.fixture(scope="module")
def moderated(report_data):
    smyth = {k: v for k, v in vars(SMYTH).items() if k != "key"}
    references = {**report_data.plan.references, SMYTH.key: smyth}
    plan = replace(report_data.plan, test="moderated-t", references=references)
    return replace(report_data, plan=plan)


@pytest.fixture(scope="module")
def board(moderated):
    return build_leaderboard(moderated.runs, moderated.plan, moderated.cost)


def test_a_plan_that_names_no_test_was_judged_by_the_paired_t_test(report_data):
    board = build_leaderboard(report_data.runs, report_data.plan, report_data.cost)
    text = "\n".join(board.captions)
    assert "two-sided paired t test against ce" in text
    assert "moderated" not in text
    judged = board.table.dropna(subset=["p"])
    assert judged["p_adjusted"].tolist() == pytest.approx(adjust([*judged["p"], 1.0])[:-1])
    assert judged["p_moderated"].isna().all()
    assert "test" not in report_data.plan.to_dict()


def test_captions_name_the_moderated_test_and_its_condition(board):
    text = "\n".join(board.captions)
    assert "p values are those of the two-sided moderated t test against ce" in text
    assert (
        "towards that of the mean standard deviation over the comparisons (Smyth 2004; 3 prior"
        in text
    )
    assert "own paired t test must agree at an uncorrected 1.67 %" in text
    assert "by two-sided moderated t tests of" in text
    assert "Holm-corrected over 6 comparisons" in text


def test_the_paired_p_stays_beside_it(report_data, board):
    paired = build_leaderboard(report_data.runs, report_data.plan, report_data.cost).table
    for column in ("p", "difference_low", "difference_high", "difference_sd"):
        assert board.table[column].equals(paired[column])
    for _, row in board.table.dropna(subset=["p"]).iterrows():
        verdict = board.family.verdicts[row["method"]]
        assert row["p_moderated"] == verdict.tested.p
        assert row["p_adjusted"] == verdict.p_adjusted


def test_the_papers_are_cited(moderated, board):
    text = paragraph(board, moderated.plan)
    assert r"(Smyth 2004~\cite{smyth2004linear}; 3 prior" in text
    assert "two-sided moderated t test against the reference" in text
    files = text_files(board, moderated)
    assert b"@article{smyth2004linear," in files["references.bib"]
    assert b"p_moderated" in files["leaderboard.csv"]


def test_a_pair_and_pooled_settings_have_no_family_to_take_a_variance_from(moderated):
    pair = " ".join(comparison_sentences(compare_rows(moderated, "kd", "rkd")))
    assert "two-sided paired t test" in pair
    other = replace(moderated, plan=replace(moderated.plan, data=None))
    pooled = pooled_document(pool_settings("both", {"a": moderated, "b": other}))
    assert "moderated" not in " ".join(pooled.captions)


def test_the_p_that_is_printed_is_the_larger_of_the_two_tests(board):
    """Also where the method's own test agrees, and is the larger all the same."""
    (text,) = (c for c in board.captions if getattr(c, "topic", "") == "test")
    assert "p is the larger of that test's, corrected, and 3 times the method's own" in text
    tested = {k: v for k, v in board.family.verdicts.items() if v.difference.n > 1}
    corrected = dict(
        zip(
            tested,
            adjust(
                [v.tested.p for v in tested.values()] + [1.0] * (board.family.size - len(tested))
            ),
            strict=False,
        )
    )
    for label, verdict in tested.items():
        larger = max(corrected[label], min(1, 3 * verdict.difference.p))
        assert verdict.p_adjusted == pytest.approx(larger)


def test_one_comparison_is_not_said_to_borrow_a_variance(moderated):
    rows = [row for row in moderated.plan.rows if row.label in ("ce", "kd")]
    runs = moderated.runs[moderated.runs["label"].isin(["ce", "kd", "teacher"])]
    board = build_leaderboard(runs, replace(moderated.plan, rows=rows))
    (verdict,) = board.family.verdicts.values()
    assert verdict.p_adjusted == verdict.difference.p
    (text,) = (c for c in board.captions if getattr(c, "topic", "") == "test")
    assert "no second variance to share (Smyth 2004), so it is the paired t test" in text
    assert "shrunk" not in text
    assert "times" not in text
