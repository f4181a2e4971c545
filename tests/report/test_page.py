"""The web page of a report: the table's words, what is behind them, and nothing from outside."""

import base64
import io
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from importlib import resources

import numpy as np
import pandas as pd
import pytest

from kdbench.records.method_text import MethodText
from kdbench.records.plan_file import PlanFile
from kdbench.report.data.report_data import CONFUSIONS, CURVES, TRIALS, ReportData
from kdbench.report.data.runs import COLUMNS, typed
from kdbench.report.leaderboard import build_leaderboard
from kdbench.report.page import FILES, render_page
from kdbench.report.page.details import run_curves
from kdbench.report.page.matrix import READABLE, confusion_matrix
from kdbench.report.writers.cells import leaderboard_document

HOSTILE = "a_b%&#<script>alert(1)</script>\"'"
VOID = {"meta", "link", "img", "br", "hr", "input"}
SEEDS, EPOCHS = 3, 4


@dataclass
class Pictures:
    """Stands for what `figures` draws."""

    svg: dict = field(default_factory=dict)
    png: dict = field(default_factory=dict)
    pdf: dict = field(default_factory=dict)
    titles: dict = field(default_factory=dict)


NONE = Pictures()
SOME = Pictures(
    {"forest": '<svg viewBox="0 0 9 9"><path d="M0 0h9" stroke="currentColor"/></svg>'},
    {"forest": b"png"},
    {"forest": b"pdf"},
    {"forest": "Differences < 1 & more."},
)


# -- fake data


def run_id(label, kind, seed):
    """12 hex digits, the same for a default that tuning chose again."""
    return f"{hash_of(f'{label} {kind}') % 16**10:010x}{seed:02x}"


def hash_of(text):
    return sum((k + 1) * 7919 ** (k % 5) * ord(c) for k, c in enumerate(text))


def plan_row(label, kind, seeds=SEEDS, hparams=None, searched=(), incompatible=None, same=None):
    runs = {str(s): run_id(label, same or kind, s) for s in range(seeds)}
    return {
        "label": label, "row": kind, "method": label, "hparams": hparams or {},
        "incompatible": incompatible,
        "searched": list(searched), "runs": {} if incompatible else runs, "cite": "hinton2015",
    }  # fmt: skip


def run_line(label, kind, seed, name, **changes):
    right = 0.9 + hash_of(f"{label} {kind} {seed}") % 97 / 1000
    line = dict.fromkeys(COLUMNS)
    line |= {
        "label": label, "row": kind, "method": label, "seed": seed, "id": name, "name": name,
        "state": "done", "accuracy": right, "nll": 0.31415926, "ece": 0.0123, "f1": right,
        "agreement": 0.95, "kl": 0.1, "images": 1000, "parameters": 110,
        "student_parameters": 100, "macs": 1000, "measured.seconds": 12.34, "teacher": "t" * 12,
        "device": "cpu", "torch": "2.11", "commit": "c0ffee" * 6 + "c0de", "dirty": seed == 1,
        "data": "d", "test": "t", "hparams": "{}",
    }  # fmt: skip
    return line | changes


def fake_study(rows, classes=("cat", "dog<b>"), epochs=EPOCHS, **plan):
    """ReportData of these rows: runs, curves, trials for tuned rows, confusions."""
    runs, curves, trials, confusions = [], [], [], []
    for row in rows:
        label, kind = row["label"], row["row"]
        if row["incompatible"]:
            runs.append(run_line(label, kind, None, None, state="incompatible",
                                 reason=row["incompatible"], accuracy=None, dirty=None,
                                 commit=None, test=None))  # fmt: skip
        runs += [run_line(label, kind, int(s), name) for s, name in row["runs"].items()]
        if kind == "tuned":
            for number in range(3):
                hparams = json.dumps({"alpha": number / 3, "mode": "x"})
                score = None if number == 2 else 0.8 + number / 100
                trials.append((label, number, "r", score, 0.5, number == 1, hparams))
        for expected in range(len(classes)):
            for predicted in (expected, (expected + 1) % len(classes)):
                count = 90 if expected == predicted else 10
                confusions.append((label, kind, "truth", expected, predicted, count))
        confusions.append((label, kind, "teacher", 0, 0, 12345))
    teacher = {"row": "teacher", "agreement": None, "kl": None, "accuracy": 0.99}
    runs.append(run_line("teacher", "only", 0, "t" * 12, **teacher))
    for name in dict.fromkeys(r["id"] for r in runs if r["id"]):
        for metric in ("train.loss", "train.accuracy", "val.accuracy", "lr"):
            values = (1 / (e + 1) + hash_of(name + metric) % 1000 / 3e5 for e in range(epochs))
            curves += [(name, e, metric, v) for e, v in enumerate(values, start=1)]
    whole = {
        "study": "fake_study", "question": "Which & why?", "reference": "ce", "margin": 0.2,
        "selection": "last", "rows": rows, "complete": True, "hash": "0123", "recipe": {},
        "teachers": {"0": "t" * 12}, "models": {"student": "small", "teacher": "large"},
        "data": {"name": "digits", "checksum": "c" * 12, "validation": 200, "augment": "none",
                 "train_on": "fit", "classes": list(classes)},
        "tune": {"trials": 3, "epochs": 2, "seeds": [100], "sampler": "random"},
    } | plan  # fmt: skip
    return ReportData(
        PlanFile.from_dict(whole),
        {"machine": "2 cores", "rows": {"kd": {"relative": 1.5, "training": 2.5, "peak_mb": 20.0}}},
        typed(pd.DataFrame(runs, columns=list(COLUMNS), dtype=object)),
        pd.DataFrame(curves, columns=list(CURVES)),
        pd.DataFrame(trials, columns=list(TRIALS)).astype({"accuracy": float}),
        pd.DataFrame(confusions, columns=list(CONFUSIONS)),
    )


HPARAMS = {"alpha": 0.3333333, "mode": "x"}
ROWS = [
    plan_row("ce", "only"),
    plan_row("kd", "default", hparams=HPARAMS),
    plan_row("kd", "tuned", hparams=HPARAMS, searched=["alpha"]),
    plan_row("rkd", "default", same="both"),
    plan_row("rkd", "tuned", same="both"),
    plan_row(HOSTILE, "only", hparams={"<i>": "</table>"}),
    plan_row("fsp", "only", incompatible="layers differ: 16 & 32"),
]
PUBLISHED = [
    {"label": "kd", "accuracy": 91.0, "cite": "gou2021", "note": "from <Table 1>", "seeds": 3}
]


def board_and_page(report_data, drawn=NONE):
    board = build_leaderboard(report_data.runs, report_data.plan, report_data.cost)
    return board, render_page(board, report_data, drawn)


@pytest.fixture(scope="module")
def report_data():
    return fake_study(ROWS, published=PUBLISHED)


@pytest.fixture(scope="module")
def made(report_data):
    return board_and_page(report_data, SOME)


# -- reading a page


class Read(HTMLParser):
    """A tree's worth of facts, and a fault where tags do not close as they opened."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.links, self.texts = [], [], [], {}
        self.tables, self.table, self.json = {}, None, {}
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        assert len(values) == len(attributes), f"an attribute twice: {attributes}"
        if "id" in values:
            self.ids.append(values["id"])
        links = [v for k, v in attributes if k in ("href", "src", "srcset", "action", "data")]
        # What is only a place to go to is not asked for anything by the page.
        self.links += [v for v in links if not (tag == "a" and v.startswith("https://"))]
        if tag == "table":
            self.tables[values.get("id")] = self.table = []
        elif tag == "tr" and self.table is not None:
            self.table.append((values.get("class", ""), []))
        elif tag in ("td", "th"):
            self.table[-1][1].append("")
        elif tag == "strong" and self.table is not None:
            self.table[-1][1][-1] += "<strong>"
        if tag not in VOID:
            self.open.append((tag, values))

    def handle_startendtag(self, tag, attributes):
        assert any(t == "svg" for t, _ in self.open), f"<{tag}/> is no HTML"

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1][0] == tag, f"</{tag}> closes {self.open[-1]}"
        self.open.pop()
        if tag == "table":
            self.table = None

    def handle_data(self, data):
        tag, values = self.open[-1] if self.open else ("", {})
        self.texts.setdefault(tag, []).append(data)
        if tag == "script" and values.get("type") == "application/json":
            self.json[values["id"]] = json.loads(data)
        elif self.table and any(t in ("td", "th") for t, _ in self.open):
            self.table[-1][1][-1] += data

    @property
    def text(self):
        """What a person can read."""
        hidden = ("script", "style")
        return " ".join(t for tag, ts in self.texts.items() if tag not in hidden for t in ts)


def test_the_table_says_what_the_grid_says(report_data, made) -> None:
    board, text = made
    grid = leaderboard_document(board, report_data.digest).grid
    (_, headers), *rows = Read(text).tables["leaderboard"]
    plain = [re.sub(r" in (%|points|nats)", "", header) for header in headers]
    assert {*plain, "hyperparameters"} == set(grid.headers)
    assert [classes.split()[0] for classes, _ in rows] == list(grid.kinds)
    for (_, cells), expected, kind in zip(rows, grid.rows, grid.kinds, strict=True):
        texts = [("<strong>" if cell.bold else "") + cell.text for cell in expected]
        said = dict(zip(grid.headers, texts, strict=True))
        method, words = said.pop("method"), dict(zip(plain, cells, strict=True))
        assert said.pop("hyperparameters") == kind
        label = method.removeprefix("<strong>")
        assert words["method"].startswith(method.removesuffix(label))
        assert words.pop("method").endswith(
            label if kind in ("only", "teacher") else f"{label} · {kind}"
        )
        assert words == said
    assert rows[-1][0].split()[0] == "published"
    assert any(c.bold for row in grid.rows for c in row)


def test_titles_words_figures_and_files_are_there(report_data, made) -> None:
    board, text = made
    read = Read(text)
    for sentence in (board.title, board.question, *board.captions, *board.notes):
        assert sentence in read.text
    assert SOME.svg["forest"] in text
    assert SOME.titles["forest"] in read.text
    assert {*FILES, "figures/forest.pdf"} <= set(read.links)
    assert f'<meta name="kdbench-made-from" content="{report_data.digest}">' in text


def test_every_run_has_one_anchor_and_every_link_a_place(report_data, made) -> None:
    read = Read(made[1])
    assert len(read.ids) == len(set(read.ids))
    wanted = {f"run-{name}" for name in report_data.runs["id"].dropna()}
    assert wanted == {i for i in read.ids if i.startswith("run-")}
    assert {link[1:] for link in read.links if link.startswith("#")} <= set(read.ids)


def test_runs_hyperparameters_trials_and_reasons_are_shown(report_data, made) -> None:
    text = Read(made[1]).text
    first = report_data.runs["id"].iloc[0]
    assert f"tags.`kdbench.id` = '{first}'" in text
    for words in (
        "No run: layers differ: 16 & 32.",
        "Copied from a paper, so it has no runs. from <Table 1>.",
        "0.3333333",
        "with uncommitted changes",
        "validation NLL, nats",
        "interquartile mean (descriptive), %",
        "dog<b>",
    ):
        assert words in text
    assert "12345" not in text  # the confusions against the teacher are in a file only


def test_nothing_in_a_label_is_taken_for_markup(made) -> None:
    text = made[1]
    assert HOSTILE in Read(text).text
    assert "<script>alert" not in text
    assert "<i>" not in text
    assert text.count("</script>") == 3


def test_a_run_cannot_break_out_of_the_numbers(report_data) -> None:
    name = "</script><script>alert(1)</script>"
    curves = report_data.curves.replace({"id": {report_data.runs["id"].iloc[0]: name}})
    _, text = board_and_page(replace(report_data, curves=curves))
    assert text.count("</script>") == 3
    assert name in Read(text).json["curves"]


def test_nothing_is_asked_of_a_network(made) -> None:
    text = made[1]
    for link in Read(text).links:
        assert re.match(r"#|data:|[\w./-]+$", link), link
    styles = resources.files("kdbench.report.page").joinpath("style.css").read_text()
    assert "url(" not in styles
    assert "@import" not in styles
    assert "default-src 'none'" in text


def test_the_curves_are_those_of_the_runs_in_five_digits(report_data, made) -> None:
    curves = Read(made[1]).json["curves"]
    assert set(curves) == set(report_data.runs["id"].dropna())
    for name, metrics in {"loss": "train.loss", "accuracy": "val.accuracy"}.items():
        kept = report_data.curves[report_data.curves["metric"] == metrics]
        for run, group in kept.groupby("id"):
            assert curves[run][name] == pytest.approx(group["value"].tolist(), rel=1e-4)
            assert all(v == float(f"{v:.5g}") for v in curves[run][name])


def test_curves_have_gaps_and_fall_back_on_training() -> None:
    frame = pd.DataFrame(
        [("a", 1, "train.loss", 1.0), ("a", 3, "train.loss", np.inf), ("a", 4, "train.loss", 0.5),
         ("a", 2, "train.accuracy", 0.25)],
        columns=list(CURVES),
    )  # fmt: skip
    assert run_curves(frame) == {"a": {"loss": [1.0, None, None, 0.5], "accuracy": [None, 0.25]}}


def test_what_is_missing_is_left_out() -> None:
    """External results: no curves, trials, confusions, teacher, hyperparameters, costs, data."""
    rows = [plan_row(label, "only") for label in ("ce", "kd")]
    for row in rows:
        row |= {"cite": None, "runs": {s: f"line {n}" for n, s in enumerate(row["runs"])}}
    kept = ("label", "row", "method", "seed", "state", "accuracy")
    runs = [
        {k: v for k, v in run_line(r["label"], "only", int(s), name).items() if k in kept}
        | {"id": f"line {r['label']} {s}"}
        for r in rows
        for s, name in r["runs"].items()
    ]
    report_data = ReportData(
        PlanFile.from_dict({
            "study": "external", "score": "Score", "reference": "ce", "margin": 0.2,
            "selection": "as given", "rows": rows, "complete": True,
        }),
        {},
        typed(pd.DataFrame(runs, columns=list(COLUMNS), dtype=object)),
        *(pd.DataFrame(columns=list(c)) for c in (CURVES, TRIALS, CONFUSIONS)),
    )  # fmt: skip
    board, text = board_and_page(report_data)
    read = Read(text)
    assert sum("Score,\N{NO-BREAK SPACE}%" in t for t in read.texts["th"]) == 2
    assert "run-line-ce-0" in read.ids
    for words in ("MLflow", "Learning curves", "Confusion", "Hyperparameters", "Trials", "Figures"):
        assert words not in re.sub(r"<(script|style)>.*?</\1>", "", text, flags=re.DOTALL)
    assert set(read.json) == {"pair-numbers"}
    assert board.title in read.text


def test_many_classes_are_a_picture_and_few_are_counts() -> None:
    few = confusion_matrix(
        pd.DataFrame([(0, 0, 3), (0, 2, 1)], columns=list(CONFUSIONS[3:])), ("a", "b")
    )
    assert few is not None
    assert few.names == ("a", "b", "2")
    assert dict(few.rows)["a"] == [(3, 0.87), (0, 0.0), (1, 0.5)]
    assert dict(few.rows)["b"] == [(0, 0.0)] * 3
    many = fake_study(ROWS[:3], classes=[f"class {k}" for k in range(READABLE + 1)])
    board, text = board_and_page(many)
    assert text.count('<img class="matrix" src="data:image/png;base64,') == 3
    assert '<table class="matrix' not in text
    assert len(board.table) == 4


@pytest.mark.parametrize("classes", [21, 100, 257])
def test_the_picture_is_a_png_of_the_shades(classes) -> None:
    from matplotlib import image

    cells = pd.DataFrame([(0, 0, 4), (classes - 1, 1, 1)], columns=list(CONFUSIONS[3:]))
    values = confusion_matrix(cells, [str(k) for k in range(classes)])
    assert values is not None
    data = base64.b64decode(values.picture.partition(",")[2])
    pixels = image.imread(io.BytesIO(data), format="png")
    assert pixels.shape == (classes, classes, 4)
    opaque = pixels[..., 3]
    assert opaque[0, 0] == opaque[-1, 1] == 1
    assert opaque.sum() == 2


def test_equal_numbers_give_equal_pages(report_data, made) -> None:
    assert board_and_page(fake_study(ROWS, published=PUBLISHED), SOME)[1] == made[1]


def test_the_digest_is_not_that_of_the_methods_documentation(report_data) -> None:
    plan = replace(report_data.plan, methods={"kd": MethodText("KD", "The student learns.")})
    assert replace(report_data, plan=plan).digest == report_data.digest


def test_a_study_of_42_rows_fits_in_1_5_megabytes() -> None:
    labels = ["ce", *(f"method-{k}" for k in range(20))]
    rows = [plan_row(m, k, 5, HPARAMS, ["alpha"]) for m in labels for k in ("default", "tuned")]
    classes = [f"class {k}" for k in range(10)]
    text = board_and_page(fake_study(rows, classes, epochs=20))[1]
    assert len(text.encode()) < 0.8e6  # the figures take as much again


def test_neither_torch_nor_mlflow_is_imported() -> None:
    code = (
        "import sys, kdbench.report.page\n"
        "assert not {'torch', 'mlflow', 'jinja2', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
