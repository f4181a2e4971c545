"""The paragraph that answers a study's question says what the table says, and nothing else."""

import math
import re
from dataclasses import replace

import pytest
from support.fake_study import COST

from kdbench.report.leaderboard import build_leaderboard
from kdbench.report.method_table import method_table
from kdbench.report.needs import seconds_a_seed, seeds_to_tell
from kdbench.report.page import render_page
from kdbench.report.writers.cells import leaderboard_document
from kdbench.report.writers.markdown import to_markdown


@pytest.fixture
def board(fake_study, frame):
    return build_leaderboard(frame, fake_study.plan, COST)


def test_it_says_who_is_better_and_by_how_much(board):
    verdicts = board.family.verdicts
    better = [k for k, v in verdicts.items() if v.text.startswith("better")]
    assert better
    said = re.search(
        r"(\d+) of (\d+) methods (?:is|are) better than ce \(.*?\): (.*?)\. ", board.answer
    )
    assert [int(said[1]), int(said[2])] == [len(better), len(verdicts)]
    for label in better:
        d = verdicts[label].difference
        assert f"{label} {d.mean:+.2f} ({d.low:+.2f} to {d.high:+.2f}" in said[3]


def test_every_compared_method_is_in_one_sentence(board):
    told = board.answer.partition("The highest mean")[0]
    for label, verdict in board.family.verdicts.items():
        places = {
            "better": f"{label} {verdict.difference.mean:+.2f}",
            "worse": f"{label} {verdict.difference.mean:+.2f}",
        }
        word = verdict.text.split()[0]
        assert places.get(word, label) in told, label


def test_methods_with_too_few_scores_are_named_apart(fake_study, frame):
    lost = (frame["label"] == "rkd") | ((frame["label"] == "at") & (frame["seed"] > 1))
    gone = frame.copy()
    gone.loc[lost, "state"] = "diverged"
    gone.loc[lost, "accuracy"] = math.nan
    board = build_leaderboard(gone, fake_study.plan, COST)
    counts = {k: v.difference.n for k, v in board.family.verdicts.items()}
    few = {k for k, n in counts.items() if n < 3}
    assert {"rkd", "at"} <= few
    said = re.search(r"No verdict, for too few scores: (.*?)\.", board.answer)
    assert set(said[1].split(", ")) == few
    told = re.search(r"Not told apart from ce: (.*?)\.", board.answer)
    assert not told or not few & set(told[1].split(", "))


def test_the_cheapest_of_the_best_has_its_costs(fake_study, frame):
    members = build_leaderboard(frame, fake_study.plan, COST).best.members
    assert len(members) > 1
    # The one whose step is cheapest trains most networks.
    rows = {
        label: {"relative": 1.5 - n / 10, "training": 2.0 + n}
        for n, label in enumerate(sorted(members))
    }
    cheapest = sorted(members)[0]
    board = build_leaderboard(frame, fake_study.plan, {"machine": "m", "rows": rows})
    told = f"The cheapest of these to train is {cheapest}: its training takes 2.00 times what ce"
    assert told in board.answer
    assert "the student has 100 parameters and takes 1,000 multiply-adds an image" in board.answer
    # It may be the reference, which costs once itself.
    of_reference = {**rows, "ce": {"training": 1.0}} if "ce" in members else rows
    costs = {"machine": "m", "rows": of_reference}
    answer = build_leaderboard(frame, fake_study.plan, costs).answer
    assert ("to train is ce, the reference; deployed" in answer) == ("ce" in members)
    # Where one has no cost, none can be called the cheapest.
    del rows[sorted(members)[-1]]["training"]
    board = build_leaderboard(frame, fake_study.plan, {"machine": "m", "rows": rows})
    assert "cheapest" not in board.answer


def test_every_sentence_begins_with_a_capital_or_a_number(fake_study, frame):
    costs = {label: {"training": 2.0} for label in fake_study.plan.listing}
    for best in ("kd", "ce"):
        rows = [r for r in fake_study.plan.rows if r.label in ("ce", "dml", "at", best)]
        kept = frame[frame["label"].isin([*(r.label for r in rows), "teacher"])]
        for rows_of_cost in ({}, costs, {k: {"training": 1.0} for k in ("ce", "kd", "dml", "at")}):
            plan, cost = replace(fake_study.plan, rows=rows), {"rows": rows_of_cost}
            answer = build_leaderboard(kept, plan, cost).answer
            for sentence in re.split(r"(?<=[.!?]) +", answer):
                assert sentence[0].isupper() or sentence[0].isdigit(), sentence


def test_what_to_do_where_nothing_was_told_apart(fake_study, frame):
    only = ("ce", "at")  # `at` varies most, and is as good as the reference on average
    plan = replace(fake_study.plan, rows=[r for r in fake_study.plan.rows if r.label in only])
    board = build_leaderboard(frame[frame["label"].isin([*only, "teacher"])], plan, COST)
    (verdict,) = board.family.verdicts.values()
    assert verdict.text.startswith("cannot tell")
    margin = board.family.analysis.margin
    seeds = seeds_to_tell(board.family, board.family.sd, margin)
    assert f"a difference of {margin:.2g} points takes about {seeds:,} seeds" in board.answer
    hours = seeds * seconds_a_seed(frame[frame["label"].isin(only)]) / 3600
    assert (f", {hours:.1f} hours of one worker" in board.answer) == (hours > 0)


def test_it_is_said_first_in_every_format_but_the_paper_s(board, report_data, capsys):
    from rich.console import Console

    from kdbench.report.figures.render import Drawn
    from kdbench.report.writers.console import TerminalTable

    document = leaderboard_document(board, "0123")
    markdown = to_markdown(document)
    assert markdown.index("methods are better") < markdown.index("| method")
    page = render_page(board, report_data, Drawn({}, {}, {}, {}))
    assert page.index('<p class="answer">') < page.index('<table id="leaderboard"')
    Console(width=200).print(TerminalTable(board))
    shown = capsys.readouterr().out
    assert shown.index("better than ce") < shown.index("verdict")


def test_mlflow_s_view_has_room_for_the_verdict(board):
    table = method_table(board)
    judged = ["difference", "p_adjusted", "verdict"]
    assert table.shown == ["n", "accuracy", *judged, "relative cost", "hparams"]


def test_nothing_is_said_where_nothing_was_compared(fake_study, frame):
    plan = replace(fake_study.plan, rows=[r for r in fake_study.plan.rows if r.label == "ce"])
    assert build_leaderboard(frame[frame["label"] == "ce"], plan, COST).answer == ""


def test_a_reference_without_a_score_is_what_is_to_blame(fake_study, frame):
    lost = frame.copy()
    lost.loc[lost["label"] == "ce", ["state", "accuracy"]] = ["diverged", math.nan]
    board = build_leaderboard(lost, fake_study.plan, COST)
    assert board.table["best"].any()
    said = " ".join((board.answer, *board.captions, *board.notes))
    expected = (
        "The reference ce has no score (diverged on every seed), so nothing could be compared "
        "with it; take another: report.reference"
    )
    assert said.count(expected) == 1
    for wrong in ("too few scores", "no bold", "Fewer than 3 seeds"):
        assert wrong not in said
    assert set(board.table["verdict"].dropna()) == {"no verdict without the reference"}
    # Runs that are still to come may give it one.
    lost.loc[(lost["label"] == "ce") & (lost["seed"] == 1), "state"] = "missing"
    notes = " ".join(build_leaderboard(lost, fake_study.plan, COST).notes)
    assert "The reference ce has no score yet, so nothing is compared with it." in notes
    assert "report.reference" not in notes


def test_bold_beside_a_reference_with_two_scores_is_not_denied(fake_study, frame):
    lost = frame.copy()
    few = (lost["label"] == "ce") & (lost["seed"] > 1)
    lost.loc[few, ["state", "accuracy"]] = ["diverged", math.nan]
    board = build_leaderboard(lost, fake_study.plan, COST)
    assert board.table["best"].any()
    assert not any("no bold" in note for note in board.notes)
    assert any(note.startswith("Fewer than 3 seeds") for note in board.notes)


def test_costs_that_a_measurement_does_not_tell_apart_are_not_ranked(fake_study, frame):
    """With a teacher's forward beside it a step cannot be cheaper, whatever one measurement says;
    a cost further away is told apart."""
    members = sorted(build_leaderboard(frame, fake_study.plan, COST).best.members)
    assert len(members) > 1
    cheap = {members[0]: {"training": 0.98}, members[1]: {"training": 1.0}}
    rows = {**{label: {"training": 3.0} for label in members}, **cheap}
    answer = build_leaderboard(frame, fake_study.plan, {"machine": "m", "rows": rows}).answer
    told = f"The cheapest of these to train, within 5 %, are {members[0]} and {members[1]}: the"
    assert f"{told} training of each takes 0.98 to 1.00 times what ce takes" in answer
    rows[members[1]] = {"training": 1.04}
    answer = build_leaderboard(frame, fake_study.plan, {"machine": "m", "rows": rows}).answer
    assert f"The cheapest of these to train is {members[0]}: its training takes 0.98" in answer


def test_two_seeds_have_no_verdict_and_so_nothing_would_have_been_seen(fake_study, frame):
    board = build_leaderboard(frame[~(frame["seed"] > 1)], fake_study.plan, COST)
    assert board.family.seeds == 2
    assert {v.text for v in board.family.verdicts.values()} == {"no verdict below 3 seeds"}
    assert "would have been seen" not in board.answer
    assert "detectable difference" not in " ".join(board.captions)
    assert board.table["detectable"].isna().all()
