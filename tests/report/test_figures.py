"""The figures of a report: what they show, that there is none where there is nothing to show,
and that equal numbers give equal bytes."""

import hashlib
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_profile import fake_profile

from kdbench.records.plan_file import PlanFile
from kdbench.report.data.report_data import CONFUSIONS, CURVES, TRIALS, ReportData
from kdbench.report.data.runs import COLUMNS, typed
from kdbench.report.figures import PREPARE, WIDE, draw_figures
from kdbench.report.figures.axes import limits_of
from kdbench.report.figures.confusion import MOST_COUNTS
from kdbench.report.figures.forest import KINDS
from kdbench.report.figures.labels import arrange
from kdbench.report.figures.render import column_figure, embeddable
from kdbench.report.figures.style import (
    INK,
    MARKS,
    REFERENCE,
    highlights,
    marks_of,
    primary_table,
    short,
    styled,
)
from kdbench.report.leaderboard import build_leaderboard

ODD = "_a_b%&#$x_1$<b>"
LONG = "a-method-whose-name-nobody-can-remember-with-warmup"
SEEDS, EPOCHS, TRIED, CLASSES = 4, 8, 6, 3
ALL = set(PREPARE)
SVG = "{http://www.w3.org/2000/svg}"

#: Mean accuracy of each row in percent, best first; kd is the second.
MEANS = {
    ("kd", "tuned"): 94.0,
    ("kd", "default"): 92.0,
    ("kd-pinned", "pinned"): 93.0,
    (ODD, "tuned"): 91.5,
    (LONG, "tuned"): 90.2,
    ("ce", "only"): 90.0,
    ("rkd", "tuned"): 40.0,
}


# -- fake data


def accuracies(mean, seeds, rng):
    return (mean + rng.normal(0, 0.2, seeds)) / 100


def fake_data(means=None, seeds=SEEDS, sampler="random", classes=CLASSES, epochs=EPOCHS):
    """Everything that a study has: runs, curves, trials, cost and confusions."""
    rng = np.random.default_rng(0)
    runs, rows, curves, trials, confusions, cost = [], [], [], [], [], {}
    for k, ((label, row), mean) in enumerate((means or MEANS).items()):
        ids = [f"{k}-{seed}" for seed in range(seeds)]
        searched = ["temperature", "beta"] if row == "tuned" else []
        rows.append({"label": label, "row": row, "method": label, "hparams": {}, "cite": None,
                     "runs": dict(zip(map(str, range(seeds)), ids, strict=True)),
                     "searched": searched, "best_trial": 2, "incompatible": None})  # fmt: skip
        cost[label] = {"relative": 1.0, "training": 1 + k / 10, "peak_mb": 1.0}
        for seed, accuracy in enumerate(accuracies(mean, seeds, rng)):
            runs.append({"label": label, "row": row, "method": label, "seed": seed,
                         "id": ids[seed], "name": f"{label} seed {seed}", "state": "done",
                         "accuracy": accuracy, "agreement": accuracy + 0.01,
                         "images": 1000})  # fmt: skip
            curves += [(ids[seed], e, metric, accuracy * e / epochs)
                       for e in range(1, epochs + 1)
                       for metric in ("train.accuracy", "val.accuracy")]  # fmt: skip
        if row == "tuned":
            trials += [(label, n, f"t{n}", accuracy, 0.3, n == 2,
                        json.dumps({"temperature": 1.0 + n, "beta": 10.0 ** -n, "stages": "x"}))
                       for n, accuracy in enumerate(accuracies(mean, TRIED, rng))]  # fmt: skip
        confusions += [(label, row, against, a, b, 7 * seeds if a == b else 1)
                       for against in ("truth", "teacher")
                       for a in range(classes) for b in range(classes)]  # fmt: skip
    plan = {
        "study": "fake_study", "question": "Which one?", "hash": "0123", "reference": "ce",
        "margin": 0.3, "selection": "last", "rows": rows, "complete": True,
        "data": {"name": "digits", "validation": 200, "checksum": "c" * 64,
                 "classes": [f"class_{k}%" for k in range(classes)]},
        "tune": {"trials": TRIED, "epochs": 3, "seeds": [100], "sampler": sampler},
        "teachers": {"0": "t"},
    }  # fmt: skip
    return ReportData(
        PlanFile.from_dict(plan),
        {"rows": cost, "machine": "a machine"},
        typed(pd.DataFrame(runs, columns=list(COLUMNS), dtype=object)),
        pd.DataFrame(curves, columns=list(CURVES)),
        pd.DataFrame(trials, columns=list(TRIALS)),
        pd.DataFrame(confusions, columns=list(CONFUSIONS)),
        profile=fake_profile([r for r in means or MEANS if r[0] != "kd"], [("kd", "tuned")]),
    )


def judged(report_data):
    return build_leaderboard(report_data.runs, report_data.plan, report_data.cost)


def picture(name, board, report_data):
    return PREPARE[name](board, report_data)


def prepared(name, report_data):
    return picture(name, judged(report_data), report_data)


def sketch(picture):
    """Drawn and laid out, but not written: most of what can go wrong, at a tenth of the time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=picture.size, layout="constrained")
        FigureCanvasAgg(figure)
        picture.draw(figure)
        figure.draw_without_rendering()
    return figure


def texts(figure):
    from matplotlib.text import Text

    return {t.get_text() for t in figure.findobj(Text) if t.get_visible()}


@pytest.fixture(scope="module")
def report_data():
    return fake_data()


@pytest.fixture(scope="module")
def board(report_data):
    return judged(report_data)


@pytest.fixture(scope="module")
def drawn(board, report_data):
    return draw_figures(board, report_data)


# -- all of them


def test_every_figure_is_drawn_in_every_form(drawn):
    assert set(drawn.svg) == set(drawn.png) == set(drawn.pdf) == set(drawn.titles) == ALL
    assert all(png.startswith(b"\x89PNG") for png in drawn.png.values())
    assert all(pdf.startswith(b"%PDF") for pdf in drawn.pdf.values())
    wide = {f"{n}.{form}" for n in ALL for form in ("png", "pdf")}
    assert set(drawn.files()) == wide | {f"{n}-column.pdf" for n in ALL - set(WIDE)}
    assert drawn.files()["forest.pdf"] == drawn.pdf["forest"]
    assert all(title.endswith(".") for title in drawn.titles.values())


def test_figures_for_a_column_have_its_width_and_one_size_of_type(board, report_data, drawn):
    from matplotlib.text import Text

    for name, content in drawn.column.items():
        assert re.search(rb"/MediaBox \[ ?0 0 252 ", content), name
        with styled():
            figure = column_figure(PREPARE[name](board, report_data))
        assert {t.get_fontsize() for t in figure.findobj(Text) if t.get_text()} == {7.0}
        box = figure.get_tightbbox()
        assert box.x0 > -0.05, name
        assert box.x1 < 3.55, name


def test_what_has_nothing_to_show_is_left_out(report_data):
    """External results are scores and nothing else."""
    plan = replace(report_data.plan, tune=None, data=None, teachers={})
    bare = ReportData(
        plan, {}, report_data.runs.assign(agreement=math.nan),
        *(pd.DataFrame(columns=list(c)) for c in (CURVES, TRIALS, CONFUSIONS)),
    )  # fmt: skip
    board = judged(bare)
    shown = {name for name, prepare in PREPARE.items() if prepare(board, bare) is not None}
    assert shown == {"forest", "profiles"}
    none = replace(bare, runs=bare.runs.assign(state="missing", accuracy=math.nan))
    assert not draw_figures(judged(none), none).svg


def test_equal_numbers_give_equal_bytes_anywhere(report_data, drawn, tmp_path):
    """Drawn a second time, in a process that hashes otherwise, from the files of a report;
    and without torch, MLflow or pyplot."""
    for name, content in report_data.files().items():
        (tmp_path / name).write_bytes(content)
    code = (
        "import sys, hashlib, pathlib; from kdbench.report.data.report_data import load; "
        "from kdbench.report.leaderboard import build_leaderboard; "
        "import kdbench.report.figures as f; "
        "early = 'matplotlib' in sys.modules; e = load(pathlib.Path(sys.argv[1])); "
        "f.PREPARE = {n: f.PREPARE[n] for n in sys.argv[2].split()}; "
        "d = f.draw_figures(build_leaderboard(e.runs, e.plan, e.cost), e); "
        "heavy = {'torch', 'mlflow', 'matplotlib.pyplot'} & set(sys.modules); "
        "parts = [p for n in d.svg for p in (d.svg[n].encode(), d.png[n], d.pdf[n])]; "
        "print(hashlib.sha256(b''.join(parts)).hexdigest(), sorted(heavy), early)"
    )
    some = ("forest", "confusion")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), " ".join(some)],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    parts = [p for n in some for p in (drawn.svg[n].encode(), drawn.png[n], drawn.pdf[n])]
    assert done.stdout.split(maxsplit=1) == [
        hashlib.sha256(b"".join(parts)).hexdigest(), "[] False\n",
    ]  # fmt: skip


def test_the_users_settings_neither_count_nor_change(board, report_data, drawn, monkeypatch):
    import matplotlib as mpl

    few = {"forest": PREPARE["forest"]}
    monkeypatch.setattr("kdbench.report.figures.PREPARE", few)
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 30}):
        before = dict(mpl.rcParams)
        assert draw_figures(board, report_data).png["forest"] == drawn.png["forest"]
        assert dict(mpl.rcParams) == before


def test_files_say_nothing_of_when_they_were_made(drawn):
    for pdf, png in zip(drawn.pdf.values(), drawn.png.values(), strict=True):
        assert not re.search(rb"CreationDate|Producer|Creator|atplotlib", pdf)
        assert b"atplotlib" not in png
    assert not any("metadata" in svg or "<style" in svg for svg in drawn.svg.values())


# -- SVG


def test_svg_takes_the_pages_colours(drawn):
    ids = []
    for svg in drawn.svg.values():
        root = ElementTree.fromstring(svg)
        assert svg.startswith("<svg ")
        assert "currentColor" in svg
        assert INK not in svg
        assert "#000000" not in svg
        for text in root.iter(f"{SVG}text"):
            assert re.search(r"fill: (currentColor|#ffffff)", text.get("style", ""))
        own = [e.get("id") for e in root.iter() if e.get("id")]
        used = re.findall(r'(?:href="|url\()#([^")]*)', svg)
        assert set(used) <= set(own)
        ids += own
    assert len(ids) == len(set(ids))
    white = [n for n, svg in drawn.svg.items() if "#ffffff" in svg]
    assert white == ["confusion"]  # numbers on dark cells, and nothing behind a figure


def test_names_with_specials_are_drawn_as_they_are(drawn):
    for name in ("forest", "cost", "curves", "tuning", "budget", "fidelity", "profiles"):
        root = ElementTree.fromstring(drawn.svg[name])
        assert ODD in {t.text for t in root.iter(f"{SVG}text")}, name
    root = ElementTree.fromstring(drawn.svg["confusion"])
    assert "class_1%" in {t.text for t in root.iter(f"{SVG}text")}


def test_inline_leaves_texts_alone():
    text = 'id=&quot;x&quot; url(#y) id="z" 1.23456 #010203'
    svg = f'<?xml?>\n<svg a="1"><g id="g" style="fill: #010203; x: 1.23456">{text}</g></svg>'
    out = embeddable(svg, "one", 'says "<this>"')
    assert text in out
    assert '<g id="one-g" style="fill: currentColor; x: 1.23">' in out
    assert ElementTree.fromstring(out).get("aria-label") == 'says "<this>"'


# -- which methods, and in which colour


def test_main_rows_are_those_that_stand_for_a_method(board):
    rows = list(zip(primary_table(board)["method"], primary_table(board)["row"], strict=True))
    assert rows == [r for r in MEANS if r != ("kd", "default")]


def test_the_best_the_reference_and_the_second_are_coloured():
    means = {(f"m{k:02}", "only"): 90 - k for k in range(25)}
    means |= {("kd", "only"): 50, ("ce", "only"): 40}
    board = judged(fake_data(means))
    labels = [m for m, _ in means]
    marks = highlights(board, labels)
    assert list(marks) == [*(f"m{k:02}" for k in range(5)), "kd", "ce"]
    assert marks["ce"] == REFERENCE
    assert len(set(marks.values())) == len(MARKS) + 1
    fewer = highlights(board, ["m20", "m01", "kd"])
    assert list(fewer) == ["m01", "m20", "kd"]
    assert [fewer[m] for m in ("m01", "kd")] == [marks[m] for m in ("m01", "kd")]
    assert len(set(fewer.values())) == 3
    assert all(one.marker != other.marker for one in MARKS for other in MARKS if one != other)


def test_a_method_has_one_mark_in_all_figures():
    means = {(f"m{k:02}", "only"): 90 - k for k in range(25)}
    means |= {("kd", "only"): 50, ("ce", "only"): 40}
    board = judged(fake_data(means))
    marks = marks_of(board)
    assert set(marks) == {m for m, _ in means}
    assert len({(mark.colour, mark.marker) for mark in marks.values()}) == len(marks)
    for among in ([m for m, _ in means], ["m20", "m01", "kd"], ["m24", "m23", "ce"]):
        drawn = highlights(board, among)
        assert drawn
        assert all(marks[m] == mark for m, mark in drawn.items())
    assert highlights(board, list(marks))["kd"] in MARKS


@settings(max_examples=50)
@given(st.text(max_size=60), st.integers(8, 40))
def test_short_names_fit_and_keep_their_ends(name, longest):
    out = short(name, longest)
    assert len(out) <= longest
    flat = " ".join(name.split())
    assert out == flat or (flat.startswith(out[:3]) and flat.endswith(out[-3:]) and "…" in out)


def test_a_window_leaves_out_only_what_presses_the_rest():
    assert limits_of([1, 2, math.nan], [3, 4, math.nan], margin=0) == (1, 4)
    low, high = limits_of([1.0, 1.2, 1.4, -60.0], [2.0, 2.1, 2.2, -59.0])
    assert -1 < low < 1
    assert 2.2 < high < 3
    assert limits_of([1, 2, 3, 6], [1, 2, 3, 6], margin=0) == (1, 6)
    assert limits_of([5.0], [5.0]) == (4.5, 5.5)


# -- what each one shows


def test_forest_dots_are_the_paired_differences(board, report_data):
    forest = picture("forest", board, report_data)
    runs = report_data.runs.set_index(["label", "row", "seed"])["accuracy"].sort_index()
    assert [e.label for e in forest.entries] == ["kd", ODD, LONG, "rkd", "kd-pinned"]
    for entry in forest.entries[:-1]:
        wanted = 100 * (runs[entry.label, "tuned"] - runs["ce", "only"])
        assert entry.dots == pytest.approx(tuple(wanted))
        assert entry.mean == pytest.approx(wanted.mean())
        verdict = board.family.verdicts[entry.label]
        assert (entry.low, entry.high) == (verdict.difference.low, verdict.difference.high)
        assert entry.corrected == (verdict.low, verdict.high)
        assert verdict.text.startswith(entry.kind)
    pinned = forest.entries[-1]
    assert (pinned.kind, pinned.dots) == ("pinned, no verdict", ())
    wanted = 100 * (runs["kd-pinned", "pinned"] - runs["ce", "only"])
    assert pinned.mean == pytest.approx(wanted.mean())


def test_forest_draws_its_dots_and_marks_what_lies_far_out(board, report_data):
    forest = picture("forest", board, report_data)
    axes = sketch(forest).axes[0]
    kd = forest.entries[0]
    lines = [tuple(map(float, line.get_xdata())) for line in axes.lines]
    assert kd.dots in lines
    assert (kd.low, kd.high) in lines
    left, right = axes.get_xlim()
    assert left > -10  # rkd is 50 points below
    assert right > max(kd.dots)
    assert any(t.get_text().startswith("\N{MINUS SIGN}50") for t in axes.texts)


def test_every_verdict_has_a_look_of_its_own():
    from kdbench.stats import verdict_text

    cases = [(1, 5, p, q) for p in (0.01, 0.5) for q in (0.01, 0.5)]
    verdicts = {verdict_text(sign * m, n, p, q, 0.05) for m, n, p, q in cases for sign in (1, -1)}
    verdicts.add(verdict_text(1, 2, 0.01, 0.5, 0.05))
    kinds = [next(k for k in reversed(KINDS) if v.startswith(k)) for v in sorted(verdicts)]
    assert len(kinds) == len(set(kinds)) == len(KINDS) - 1
    assert len({marker for marker, _ in KINDS.values()}) == len(KINDS)


def test_cost_front_is_what_no_other_beats(board, report_data):
    cost = picture("cost", board, report_data)
    front = {p.label for p in cost.points if p.strong}
    assert front == {"kd"}  # the cheapest and the best
    prices = {"kd": 2.0, "ce": 1.0, ODD: 1.5, LONG: 1.7, "rkd": 1.6, "kd-pinned": 2.5}
    rows = {k: {"relative": 1.0, "training": v} for k, v in prices.items()}
    dear = replace(report_data, cost={"rows": rows})
    cost = prepared("cost", dear)
    assert {p.label for p in cost.points if p.strong} == {"ce", ODD, "kd"}
    xs = [x for x, _ in cost.front]
    assert xs == [1.0, 1.5, 1.5, 2.0, 2.0]
    one = replace(report_data, cost={"rows": {"kd": {"relative": 1.2, "training": 1.2}}})
    assert prepared("cost", one) is None


def test_curves_take_validation_first_and_leave_gaps_out(board, report_data):
    curves = picture("curves", board, report_data)
    assert curves.metric == "validation accuracy"
    best = curves.series[0]
    runs = report_data.runs[
        (report_data.runs["label"] == "kd") & (report_data.runs["row"] == "tuned")
    ]
    assert best.y[-1] == pytest.approx(100 * runs["accuracy"].mean())
    assert best.low[-1] == pytest.approx(100 * runs["accuracy"].min())
    assert {s.label for s in curves.series if s.low is not None} == {"kd", "ce"}
    train = replace(report_data, curves=report_data.curves.query("metric == 'train.accuracy'"))
    assert prepared("curves", train).metric == "training accuracy"
    assert "training accuracy" in prepared("curves", train).title
    nothing = replace(report_data, curves=report_data.curves.assign(value=math.nan))
    assert prepared("curves", nothing) is None


def test_tuning_shows_searched_hyperparameters_and_the_chosen_trial(report_data):
    tuning = prepared("tuning", report_data)
    assert list(tuning.panels) == ["temperature", "beta"]
    chosen = {t.label: t.value for t in tuning.panels["beta"] if t.chosen}
    assert chosen == {"kd": 0.01, ODD: 0.01, LONG: 0.01, "rkd": 0.01}
    first, second = sketch(tuning).axes
    assert (first.get_xscale(), second.get_xscale()) == ("linear", "log")
    lost = report_data.trials.assign(accuracy=math.nan)
    assert prepared("tuning", replace(report_data, trials=lost)) is None


def test_budget_is_for_random_trials_alone(report_data):
    budget = prepared("budget", report_data)
    kd = next(s for s in budget.series if s.label == "kd")
    trials = report_data.trials.query("label == 'kd' and number > 0")["accuracy"]
    assert list(kd.x) == list(range(1, TRIED))
    assert kd.y[0] == pytest.approx(100 * trials.mean())
    assert kd.y[-1] == pytest.approx(100 * trials.max())
    assert prepared("budget", fake_data(sampler="tpe")) is None
    trials = report_data.trials.copy()
    trials.loc[(trials["label"] == "kd") & (trials["number"] == 3), "accuracy"] = math.nan
    lost = prepared("budget", replace(report_data, trials=trials))
    assert "kd" not in {s.label for s in lost.series}
    assert "1 left out for a trial without a score" in lost.title


def test_fidelity_has_intervals_of_both(board, report_data):
    points = picture("fidelity", board, report_data).points
    assert [p.label for p in points] == [r["method"] for _, r in primary_table(board).iterrows()]
    for p in points:
        assert p.left < p.x < p.right
        assert p.low < p.y < p.high
        assert p.x == pytest.approx(p.y + 1)


def test_confusion_is_of_the_best_method(board, report_data):
    confusion = picture("confusion", board, report_data)
    assert confusion.label == "kd"
    assert list(confusion.counts) == ["truth", "teacher"]
    assert (np.diag(confusion.counts["truth"]) == 7 * SEEDS).all()
    assert "28" in texts(sketch(confusion))
    many = prepared("confusion", fake_data({("ce", "only"): 90.0}, classes=100))
    assert many.counts["teacher"].shape == (100, 100)
    assert "28" not in texts(sketch(many))
    assert "with the counts" not in many.title
    alone = report_data.confusions.query("against == 'truth'")
    assert len(sketch(prepared("confusion", replace(report_data, confusions=alone))).axes) == 1
    assert MOST_COUNTS >= 10


def test_profiles_fall_from_all_to_none(board, report_data):
    profiles = picture("profiles", board, report_data)
    for one in profiles.series:
        assert (one.y[0], one.y[-1]) == (100, 0)
        assert (np.diff(one.y) <= 0).all()
    kd = profiles.series[0]
    scores = 100 * report_data.runs.query("label == 'kd' and row == 'tuned'")["accuracy"]
    middle = np.searchsorted(kd.x, scores.median(), side="right") - 1
    assert kd.y[middle] == 50


# -- names beside points


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(0, 400), st.floats(0, 300)), min_size=1, max_size=12))
def test_names_stay_near_and_are_placed_the_same_again(points):
    sizes = [(40.0, 12.0)] * len(points)
    frame = (0.0, 0.0, 400.0, 300.0)
    boxes = arrange(points, sizes, [], frame)
    assert boxes == arrange(points, sizes, [], frame)
    for (x, y), box in zip(points, boxes, strict=True):
        gap = math.hypot(max(box[0] - x, 0, x - box[2]), max(box[1] - y, 0, y - box[3]))
        assert gap < 80


def test_names_of_a_crowd_do_not_cover_each_other():
    points = [(200.0 + 9 * k, 150.0 + 5 * (k % 3)) for k in range(10)]
    boxes = arrange(points, [(50.0, 12.0)] * 10, [], (0.0, 0.0, 400.0, 300.0))
    for k, a in enumerate(boxes):
        for b in boxes[k + 1 :]:
            across = min(a[2], b[2]) - max(a[0], b[0])
            upright = min(a[3], b[3]) - max(a[1], b[1])
            assert min(across, upright) <= 1e-9


# -- studies of any size


@pytest.mark.parametrize(
    "case",
    [
        {"means": {(f"{LONG}-{k}", "tuned"): 80 + k / 9 for k in range(24)} | {("ce", "only"): 80}},
        {"means": {("ce", "only"): 90.0, ("kd", "tuned"): 91.0}, "epochs": 2},
        {"seeds": 1},
        {"means": {("ce", "only"): 90.0}, "seeds": 2, "epochs": 1, "classes": 40},
    ],
    ids=["25 methods", "2 methods", "1 seed", "1 method"],
)
def test_any_size_is_drawn_without_a_warning(case, recwarn):
    made = fake_data(**case)
    board = judged(made)
    for prepare in PREPARE.values():
        picture = prepare(board, made)
        if picture is not None:
            sketch(picture)
    assert [str(w.message) for w in recwarn] == []


def test_runs_without_a_score_are_passed_over(report_data):
    runs = report_data.runs.copy()
    lost = (runs["label"] == ODD) | ((runs["label"] == "kd") & (runs["seed"] == 1))
    runs.loc[lost, ["state", "reason"]] = ["diverged", "diverged in epoch 2"]
    runs.loc[lost, ["accuracy", "agreement"]] = math.nan
    made = replace(report_data, runs=runs)
    forest = prepared("forest", made)
    at = {e.label: e for e in forest.entries}
    assert len(at["kd"].dots) == SEEDS - 1
    assert (at[ODD].reason, at[ODD].dots) == ("diverged", ())
    assert "diverged" in texts(sketch(forest))
    for name in ("cost", "curves", "fidelity", "profiles"):
        assert ODD not in texts(sketch(prepared(name, made))), name
