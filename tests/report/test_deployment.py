"""What one would deploy: the table and figures that a report has where its study was profiled."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_profile import fake_profile, network, profile
from support.fake_study import RIGHT

from kdbench.records.files import atomic_write
from kdbench.report.check import check_report, data_differences
from kdbench.report.data.report_data import UnreadableReport, load
from kdbench.report.deployment import deployment_of, deployment_table
from kdbench.report.figures import PREPARE, draw_figures
from kdbench.report.figures.deployment import latency_tradeoff
from kdbench.report.page import render_page
from kdbench.report.pareto import front_line, on_front
from kdbench.report.pooled import pool_settings
from kdbench.report.pooled_table import pooled_document, write_pooled
from kdbench.report.write import leaderboard_of, text_files, write_report
from kdbench.report.writers.deployment import deployment_document, digits

HEADED = [("dml", "only")]
ROWS = [row for row in RIGHT if row not in HEADED]
FILES = {"deployment.csv", "deployment.md"}


@pytest.fixture(scope="module")
def profiled(report_data):
    return replace(report_data, profile=fake_profile(ROWS, HEADED))


@pytest.fixture(scope="module")
def board(profiled):
    return leaderboard_of(profiled)


@pytest.fixture(scope="module")
def folder(profiled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("profiled")
    write_report(profiled, folder)
    return folder


# -- the table


def test_each_network_stands_once_with_the_methods_that_train_it_best(board, profiled):
    table = deployment_table(deployment_of(board, profiled)).set_index("network")
    assert list(table.index) == [
        "small",
        "small + dml head",
        "medium",
        "large",
    ]  # the fastest first
    assert table["role"].tolist() == ["student", "student", "assistant", "teacher"]
    small = table.loc["small"]
    tuned = RIGHT["kd", "tuned"]
    assert small["accuracy"] == pytest.approx(sum(tuned) / len(tuned) / 10)
    assert small["trained with"].split(", ")[0] == "kd"
    not_told_apart = set(board.table.loc[board.table["best"], "method"]) - {"dml"}
    assert set(small["trained with"].split(", ")) == {"kd", *not_told_apart}
    assert table.loc["small + dml head", "trained with"] == "dml"
    assert table.loc["large", "accuracy"] == pytest.approx(96.0)
    assert pd.isna(table.loc["medium", "accuracy"])  # no assistant is scored on test


def test_the_gain_over_plain_training_is_the_leaderboard_s(board, profiled):
    table = deployment_table(deployment_of(board, profiled)).set_index("network")
    kd, ce = RIGHT["kd", "tuned"], RIGHT["ce", "only"]
    gain = sum(kd) / len(kd) - sum(ce) / len(ce)
    assert table.loc["small", "difference"] == pytest.approx(gain / 10)
    assert table.loc["small", "difference_low"] < gain / 10 < table.loc["small", "difference_high"]


def test_measured_numbers_are_marked_and_in_their_units(board, profiled):
    table = deployment_table(deployment_of(board, profiled))
    small = table.set_index("network").loc["small"]
    assert small["latency at batch 1 in ms (measured)"] == pytest.approx(0.5)
    assert small["latency at batch 1 in ms, third quartile (measured)"] == pytest.approx(0.6)
    assert small["images a second at batch 32 (measured)"] == pytest.approx(32 / 0.004)
    assert small["peak memory at batch 1 in MB (measured)"] == pytest.approx(0.051)
    assert small["safetensors bytes"] == 50_000
    words = ("latency at", "images a second", "peak memory")
    assert all(c.endswith("(measured)") for c in table.columns if c.startswith(words))


def test_a_network_that_another_beats_in_both_is_not_on_the_front(board, profiled):
    table = deployment_table(deployment_of(board, profiled)).set_index("network")
    for front in ("latency front", "size front"):
        assert table.index[table[front]].tolist() == ["small", "large"], front


def test_heads_of_two_sizes_are_two_networks(board, report_data):
    name = "small + dml head"
    heads = [network(name, "student", [row], 1.0, size, parameters=size)
             for row, size in ((("kd", "tuned"), 100), (("dml", "only"), 200))]  # fmt: skip
    sizes = report_data.runs["student_parameters"].mask(report_data.runs["label"] == "dml", 200)
    runs = report_data.runs.assign(student_parameters=sizes)
    data = replace(report_data, profile=profile(*heads), runs=runs)
    table = deployment_table(deployment_of(board, data))
    assert table["network"].tolist() == [name, name]
    assert set(table["trained with"]) == {"kd", "dml"}


def test_a_method_that_was_not_profiled_is_named(board, report_data):
    data = replace(report_data, profile=profile(network("small", "student", ROWS[:3], 1.0, 10)))
    text = " ".join(deployment_document(deployment_of(board, data), "").captions)
    assert "Not profiled yet: " in text
    assert all(label in text for label in ("dml", "kd-tutorial", "at"))
    assert "`kdbench profile fake_study`" in text


def test_a_study_without_a_score_still_shows_its_networks(profiled):
    none = replace(profiled, runs=profiled.runs.assign(state="missing", accuracy=float("nan")))
    document = deployment_document(deployment_of(leaderboard_of(none), none), "")
    assert "small" in {row[0].text for row in document.grid.rows}
    assert document.answer == ""


# -- a study that was changed after it was profiled


def larger(data, label, column):
    """The same data with larger networks under a label."""
    own = data.runs["label"] == label
    values = data.runs[column].astype(float)
    return replace(data, runs=data.runs.assign(**{column: values.mask(own, values + 1)}))


@pytest.mark.parametrize("change", [
    lambda data: replace(data, plan=replace(data.plan, models={"student": "other"})),
    lambda data: replace(data, plan=replace(data.plan, models={"teacher": "other"})),
    lambda data: larger(data, "ce", "student_parameters"),
    lambda data: larger(data, "ce", "macs"),
    lambda data: larger(data, "teacher", "student_parameters"),
])  # fmt: skip
def test_a_profile_of_other_networks_is_left_out_and_said_to_be(profiled, change):
    data = change(profiled)
    board = leaderboard_of(data)
    assert deployment_of(board, data) is None
    assert not FILES & text_files(board, data).keys()
    assert "`kdbench profile fake_study`" in board.notes[-1]
    assert not any("kdbench profile" in note for note in leaderboard_of(profiled).notes)


def test_a_report_without_its_profile_leaves_no_table_behind(profiled, tmp_path):
    write_report(profiled, tmp_path)
    write_report(larger(profiled, "ce", "macs"), tmp_path)
    assert not FILES & {path.name for path in tmp_path.iterdir()}
    assert not list((tmp_path / "figures").glob("latency*"))
    assert "kdbench profile" in (tmp_path / "leaderboard.md").read_text()


def test_rows_that_are_not_finished_do_not_outdate_a_profile(profiled):
    own = profiled.runs["label"] == "ce"
    runs = profiled.runs.assign(
        student_parameters=profiled.runs["student_parameters"].mask(own), accuracy=float("nan")
    )
    data = replace(profiled, runs=runs)
    assert deployment_of(leaderboard_of(data), data) is not None


# -- the report


def test_a_report_without_a_profile_has_no_such_table(report_data):
    board = leaderboard_of(report_data)
    assert not FILES & set(text_files(board, report_data))
    assert "profile" not in json.loads(report_data.files()["study.json"])
    assert PREPARE["latency"](board, report_data) is None
    assert PREPARE["size"](board, report_data) is None


def test_the_report_keeps_the_profile_and_is_drawn_from_it_again(folder, profiled):
    again = load(folder)
    assert again.profile == profiled.profile
    assert again.digest == profiled.digest  # of what no clock measured
    for name in FILES:
        content = text_files(leaderboard_of(again), again)[name]
        assert content == (folder / name).read_bytes()
    assert {f"{name}.png" for name in ("latency", "size")} <= {
        path.name for path in (folder / "figures").iterdir()
    }
    assert check_report(folder) == []


@pytest.mark.parametrize("name", ["deployment.md", "deployment.csv", "index.html"])
def test_one_digit_is_named(folder, name, tmp_path):
    for path in folder.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    old, new = ("400000", "400001") if name.endswith("csv") else ("8,000", "8,001")
    text = (tmp_path / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new, 1))
    (difference,) = check_report(tmp_path / name)
    assert ("large" if name.endswith("csv") else "small") in difference


def test_another_profile_is_a_difference_from_the_records(profiled, report_data):
    assert not data_differences(profiled, profiled)
    assert any("profile" in text for text in data_differences(profiled, report_data))


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.pop("networks"),
        lambda p: p.update(threads="many"),
        lambda p: p["networks"][0].update(parameters=-1),
        lambda p: p["networks"][0].update(timings=[]),
        lambda p: p["networks"][0]["sizes"].clear(),
        lambda p: p["networks"][0]["timings"][0].update(median=float("nan")),
        lambda p: p["networks"][0]["timings"].pop(0),
    ],
)
def test_a_profile_that_is_none_is_named(folder, change, tmp_path):
    for path in folder.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    study = json.loads((folder / "study.json").read_text())
    change(study["profile"])
    (tmp_path / "study.json").write_text(json.dumps(study))
    with pytest.raises(UnreadableReport, match=r"study\.json cannot be read: its profile is none"):
        load(tmp_path)


def test_the_page_has_the_table_and_its_files(board, profiled, report_data):
    drawn = draw_figures(board, replace(profiled, curves=profiled.curves.iloc[:0]))
    text = render_page(board, profiled, drawn)
    assert "What you would deploy" in text
    assert all(f'href="{name}"' in text for name in FILES)
    assert 'id="figure-latency"' in text
    without = render_page(board, report_data, drawn)
    assert "What you would deploy" not in without
    assert not any(f'href="{name}"' in without for name in FILES)


# -- several students


@pytest.fixture(scope="module")
def students(profiled):
    """Two studies of one teacher, profiled together; the other student is better and slower."""
    runs = profiled.runs.copy()
    own = (runs["row"] != "teacher") & runs["accuracy"].notna()
    runs.loc[own, "accuracy"] += 0.02
    other = profile(
        network("large", "teacher", [("teacher", "teacher")], 4.0, 400_000),
        network("middle", "student", ROWS, 1.5, 120_000),
    )
    plan = replace(profiled.plan, study="other", models={"student": "middle", "teacher": "large"})
    return {
        "fake_study": profiled,
        "other": replace(profiled, plan=plan, runs=runs, profile=other),
    }


def test_students_that_were_profiled_together_stand_on_one_front(students):
    deployment = pool_settings("both", students).deployment
    table = deployment_table(deployment).set_index("network")
    assert table.index[table["role"] == "teacher"].tolist() == ["large"]
    assert table.index[table["latency front"]].tolist() == ["small", "middle", "large"]
    small, middle = (table.loc[name, "accuracy"] for name in ("small", "middle"))
    assert middle == pytest.approx(small + 2)
    # Each against the reference of its own study, whose students are the same.
    assert table.loc["middle", "difference"] == pytest.approx(table.loc["small", "difference"])
    points = {p.label for p in latency_tradeoff(deployment).points}
    assert {"small, kd", "small, ce", "middle, kd", "middle, ce", "large (teacher)"} <= points


def test_studies_that_were_not_profiled_together_are_not_compared(students, report_data):
    later = replace(students["other"].profile, date="2026-01-03T03:04:05+00:00")
    data = replace(students["other"].plan.data, checksum="d" * 64)
    plan = replace(students["other"].plan, data=data)
    for change in ({"profile": later}, {"profile": None}, {"plan": plan}):
        others = {**students, "other": replace(students["other"], **change)}
        assert pool_settings("both", others).deployment is None
    assert pool_settings("both", {"a": report_data, "b": report_data}).deployment is None


def test_students_of_which_one_was_changed_are_not_compared(students, tmp_path):
    changed = {**students, "other": larger(students["other"], "ce", "macs")}
    for settings, notes in ((students, 0), (changed, 1)):
        table = pool_settings("both", settings)
        assert (table.deployment is None) == bool(notes)
        document = pooled_document(table)
        assert sum("`kdbench profile both`" in note for note in document.notes) == notes
        write_pooled(table, tmp_path, {name: f"../{name}" for name in settings})
        assert FILES.isdisjoint(path.name for path in tmp_path.iterdir()) == bool(notes)


def test_a_pooled_report_has_the_table_and_is_checked(students, tmp_path):
    for name, data in students.items():
        for file, content in data.files().items():
            atomic_write(tmp_path / name / file, content)
    folder = tmp_path / "both"
    write_pooled(pool_settings("both", students), folder, {s: f"../{s}" for s in students})
    assert {"latency.png", "size.pdf"} <= {path.name for path in (folder / "figures").iterdir()}
    assert check_report(folder) == []
    text = (folder / "deployment.md").read_text()
    assert "| middle |" in text
    (folder / "deployment.md").write_text(text.replace("| middle |", "| medium |"))
    assert check_report(folder)


# -- the figures


def test_figures_show_the_teacher_the_best_and_the_reference(board, profiled):
    latency, size = (PREPARE[name](board, profiled) for name in ("latency", "size"))
    for picture, places in ((latency, {"small": 0.5, "large": 4.0}), (size, {"small": 0.05})):
        points = {p.label: p for p in picture.points}
        labels = {"small, kd", "small, ce", "small + dml head, dml", "large (teacher)"}
        assert set(points) == labels
        assert {label for label, p in points.items() if p.strong} == {"small, kd", picture.teacher}
        assert points["small, kd"].low < points["small, kd"].y < points["small, kd"].high
        for name, x in places.items():
            own = [
                p.x for label, p in points.items() if label.startswith((f"{name},", f"{name} ("))
            ]
            assert own
            assert all(place == pytest.approx(x) for place in own)
    assert "a machine, 2 cores (cpu, 1 thread" in latency.title


coordinates = st.integers(0, 6).map(float)
points = st.lists(st.tuples(coordinates, coordinates), max_size=12)


@given(points)
def test_the_front_is_what_no_other_point_beats(points):
    strong = {p for p, s in zip(points, on_front(points), strict=True) if s}
    for p in points:
        better = [o for o in points if o != p and o[0] <= p[0] and o[1] >= p[1]]
        assert (p in strong) == (not better)
    line = front_line(points)
    assert strong <= set(line)
    assert list(line) == sorted(line)


def test_digits_are_never_lost_nor_an_exponent_written():
    shown = {0.0012345: "0.00123", 0.5: "0.500", 12.34: "12.3", 123456.0: "123,456"}
    assert {value: digits(value) for value in shown} == shown
