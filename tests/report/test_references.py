"""What a report cites, and how it says what was done: BibTeX and the paragraph for a paper."""

import dataclasses
import re
import shutil
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pybtex
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pybtex.database import parse_string
from support.fake_study import COST, ODD

from kdbench.data.load import TrainingData
from kdbench.records.plan_file import PlanFile
from kdbench.records.spec import Recipe
from kdbench.records.store import Store
from kdbench.registry import KEY, KINDS, Paper, balanced
from kdbench.report.data.external import read_results, split_settings
from kdbench.report.data.runs import records_frame
from kdbench.report.leaderboard import build_leaderboard
from kdbench.report.writers.bibtex import protect, to_bibtex
from kdbench.report.writers.cells import leaderboard_document
from kdbench.report.writers.latex import to_latex
from kdbench.report.writers.methods_section import paragraph
from kdbench.stats import Analysis, paired_difference, seeds_to_tell_apart
from kdbench.study.load import load_study
from kdbench.study.plan_file import plan_file
from kdbench.study.planner import Planner

FIELDS = {
    "authors": "Müller, Zoë and García, José & Co. and {Société X} and Strauß, Øyvind",
    "title": "Nets_and 100% of CIFAR-10: a FitNets & KD-Lib study, Part A",
    "venue": "Proceedings of #1",
    "year": 2024,
    "kind": "article",
    "url": "https://example.org/a_b?c=d%20e",
}


#: Of a method, the data set, the student's model, an assistant's, and a copied number.
PAPERS = ("hinton2015", "digits1998", "small2020", "third2021", "table2024")


@pytest.fixture(scope="module")
def cited(fake_study):
    """The plan of the made-up study with papers, a recipe and a copied number."""
    rows = [
        replace(row, cite="hinton2015" if row.label in ("kd", "kd-tutorial") else None)
        for row in fake_study.plan.rows
    ]
    paper = {**FIELDS, "authors": "Rossi, Ada", "url": None}
    return replace(
        fake_study.plan,
        rows=rows,
        data=replace(fake_study.plan.data, images=1200, shape=(1, 8, 8)),
        recipe=Recipe(
            epochs=20, batch=64, optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=0.0005,
            schedule="step", milestones=(0.5, 0.75), gamma=0.1, precision="fp32",
            teacher_outputs="auto",
        ),
        references=dict.fromkeys(PAPERS, paper),
        cites={"data": "digits1998", "models": {"small": "small2020", "third": "third2021"}},
        published=(
            {"label": "kd", "accuracy": 91.2, "seeds": None, "note": "", "cite": "table2024"},
        ),
    )  # fmt: skip


def keys(*texts: str) -> set[str]:
    """The keys of all \\cite commands."""
    found = [m for text in texts for m in re.findall(r"\\cite\{([^}]*)\}", text)]
    return {key.strip() for group in found for key in group.split(",")}


def sound(text: str) -> bool:
    """Whether braces pair up, comments and escaped ones aside."""
    return balanced(re.sub(r"\\[{}%\\]|(?m:^%.*)", "", text))


def parsed(text: str):
    with pybtex.errors.capture() as faults:
        found = parse_string(text, "bibtex")
    assert not faults
    return found.entries


# -- BibTeX


def test_entries_read_back_as_they_were():
    papers = {"b2024": FIELDS, "a2024": {**FIELDS, "kind": "misc", "url": None}}
    plan = PlanFile("bib", "last", references=papers)
    found = parsed(to_bibtex(plan))
    assert list(found) == ["a2024", "b2024"]
    entry = found["b2024"]
    assert entry.type == "article"
    assert [str(p) for p in entry.persons["author"]] == [
        r"M{\"{u}}ller, Zo{\"{e}}", r"Garc{\'{\i}}a, Jos{\'{e}} \& Co.",
        r"{Soci{\'{e}}t{\'{e}} X}", r"Strau{\ss}, {\O}yvind",
    ]  # fmt: skip
    assert entry.fields["title"] == (
        r"Nets\_and 100\% of {CIFAR-10}: a {FitNets} \& {KD-Lib} study, Part A"
    )
    assert entry.fields["journal"] == r"Proceedings of \#1"
    assert (entry.fields["year"], entry.fields["url"]) == ("2024", FIELDS["url"])
    assert found["a2024"].fields["howpublished"] == entry.fields["journal"]
    assert "url" not in found["a2024"].fields


def test_a_number_on_arxiv_is_an_eprint_unless_the_venue_says_it():
    paper = {**FIELDS, "url": None, "arxiv": "2401.00001"}
    papers = {"a2024": paper, "b2024": {**paper, "venue": "arXiv:2401.00001"}}
    found = parsed(to_bibtex(PlanFile("bib", "last", references=papers)))
    assert found["a2024"].fields["eprint"] == "2401.00001"
    assert found["a2024"].fields["archivePrefix"] == "arXiv"
    assert "eprint" not in found["b2024"].fields


def test_nothing_to_cite_is_an_empty_file():
    assert to_bibtex(PlanFile("bib", "last")) == ""


@pytest.mark.parametrize(
    ("title", "protected"),
    [
        ("Do Deep Nets Really Need to be Deep?", "Do Deep Nets Really Need to be Deep?"),
        ("FitNets: Hints for Thin Deep Nets", "{FitNets}: Hints for Thin Deep Nets"),
        ("KD-Lib: A PyTorch library", "{KD-Lib}: A {PyTorch} library"),
        ("Self-Knowledge Distillation", "Self-Knowledge Distillation"),
        ("A 3D view (of MNIST)", "A {3D} view (of {MNIST})"),
    ],
)
def test_acronyms_keep_their_capitals(title, protected):
    assert protect(title) == protected


@given(
    st.text(st.sampled_from("aB _%&#$~^\\<>|éß±"), max_size=20).filter(str.strip),
    st.sampled_from(sorted(KINDS)),
)
@settings(deadline=None)
def test_any_text_makes_an_entry(text, kind):
    fields = {**FIELDS, "title": f"X {text}", "authors": "Rossi, Ada", "kind": kind}
    out = to_bibtex(PlanFile("bib", "last", references={"a2024": fields}))
    assert set(parsed(out)) == {"a2024"}
    rest = out.replace(FIELDS["url"], "").replace(r"$\pm$", "")
    assert not re.search(r"(?<!\\)[%&#$_]", rest)


def test_a_paper_that_bibtex_could_not_hold():
    good = Paper("a2024", "Rossi, Ada", "T", "V", 2024)
    for change, words in (
        ({"key": "a,b"}, "no BibTeX key"),
        ({"kind": "paper"}, "unknown kind"),
        ({"authors": "{Rossi"}, "braces"),
    ):
        with pytest.raises(ValueError, match=words):
            dataclasses.replace(good, **change)
    assert KEY.fullmatch("van-der:berg2024_a.b+c/d")
    assert not any(map(KEY.fullmatch, ("", "a b", "a}", "a,b", "a%", "é", "a\n")))


# -- every key is there, and no other


@pytest.fixture(scope="module", params=["digits", "cifar10"])
def shipped(request, tmp_path_factory):
    """The plan of a shipped study before its first run, and its board."""
    study = load_study(request.param)
    size, shape = (1200, (1, 8, 8)) if request.param == "digits" else (50_000, (3, 32, 32))
    pixels = torch.zeros(1, *shape, dtype=torch.uint8).expand(size, *shape)
    names = tuple(str(n) for n in range(10))
    statistics = (0.0,) * shape[0]
    data = TrainingData(
        study.data.name,
        pixels,
        torch.arange(size) % 10,
        names,
        255,
        statistics,
        statistics,
        "c" * 12,
    )
    store = Store(tmp_path_factory.mktemp("shipped"))
    planner = Planner(study, data, store)
    plan = plan_file(planner, planner.plan())
    return plan, build_leaderboard(records_frame(store, plan), plan)


def test_what_a_shipped_study_cites_is_what_the_file_holds(shipped):
    plan, board = shipped
    text = paragraph(board, plan)
    assert keys(text, to_latex(leaderboard_document(board, "0" * 16))) == set(
        parsed(to_bibtex(plan))
    )
    assert sound(text)


def test_a_plan_keeps_the_numbers_on_arxiv(shipped):
    plan, _ = shipped
    assert plan.references["hinton2015distilling"]["arxiv"] == "1503.02531"
    assert "arxiv" not in plan.references["bridle1990probabilistic"]


def test_a_style_finds_all_that_it_needs(shipped):
    plan, _ = shipped
    with warnings.catch_warnings(), pybtex.errors.capture() as faults:
        warnings.simplefilter("error")
        shown = pybtex.format_from_string(
            to_bibtex(plan), style="unsrt", citations=["*"], output_backend="plaintext"
        )
    assert not faults
    assert shown.count("[") == len(plan.references)
    assert "Distilling the knowledge in a neural network" in shown


def test_all_references_are_cited_once_there_are_scores(frame, cited):
    board = build_leaderboard(frame, cited, COST)
    text = paragraph(board, cited)
    assert keys(text, to_latex(leaderboard_document(board, "0" * 16))) == set(cited.references)
    assert keys(text) == set(cited.references) - {"table2024"}
    assert any("Grey rows" in sentence for sentence in board.captions)
    assert not any(
        "Grey rows" in s for s in build_leaderboard(frame, replace(cited, published=())).captions
    )


# -- the paragraph


def test_the_paragraph_says_what_was_done(fake_study, frame, cited):
    board = build_leaderboard(frame, cited, COST)
    text = paragraph(board, cited)
    for part in (
        r"compares Relational KD, Knowledge distillation~\cite{hinton2015}, a\_b\%\&\#, "
        r"kd-tutorial~\cite{hinton2015} (alpha=0.9",
        "with Cross-entropy, the reference.",
        "Flow of solution procedure could not be compared: layers differ in channels: 16 and 32.",
        r"The data set is digits~\cite{digits1998} (1,200 training images of 1x8x8 values, "
        "4 classes, checksum cccccccccccc); validation holds out 200 images",
        "the final runs train on the other training images.",
        r"The student is small~\cite{small2020} (100 parameters), the teacher is large "
        r"(100 parameters) and methods that need further networks use third~\cite{third2021}.",
        "trained for 20 epochs in batches of 64 with sgd (learning rate 0.05, step schedule (times "
        r"0.1 after 50 \%, 75 \% of the epochs), momentum 0.9, weight decay 0.0005, fp32).",
        r"over 5 seeds (0, 1, 2, 3, 4) of the weights of the last epoch, with a 95 \% Student t",
        "8 trials of 3 epochs (random sampler, seeds 100)",
        "two-sided paired t test against the reference, Holm-corrected over 6 comparisons",
        "a margin of 0.2 points (one test image is 0.1 points)",
        f"The smallest detectable difference at 80 \\% power with 5 seeds and 6 comparisons is "
        f"{board.family.detectable:.2f} points",
        f"conditional on teacher {fake_study.teacher} (96.00 \\% on test)",
        "commit f00d", "hardware a machine", "hash of the study file is 0123",
    ):  # fmt: skip
        assert part in text, part
    assert ODD not in text
    assert sound(text)
    assert not re.search(r"(?<!\\)[&#$_]", "".join(text.splitlines(True)[1:]))


@pytest.mark.parametrize("name", ["a", "a margin of 0.2 points", "the"])
def test_only_the_reference_is_called_the_reference(frame, cited, name):
    rows = [replace(r, label=name) if r.label == "ce" else r for r in cited.rows]
    plan = replace(cited, rows=rows, reference=name)
    board = build_leaderboard(frame.replace({"label": {"ce": name}}), plan, COST)
    text = paragraph(board, plan)
    assert "paired t test against the reference, Holm-corrected" in text
    assert "two one-sided tests against a margin of 0.2 points (" in text


def test_the_students_size_is_without_a_head_that_one_method_gives_it(frame, cited):
    board = build_leaderboard(frame, cited, COST)
    first = board.table.index[0]
    board.table.loc[first, "student_parameters"] = 270538
    assert r"The student is small~\cite{small2020} (100 parameters)" in paragraph(board, cited)


def test_the_words_follow_the_analysis(fake_study, frame, cited):
    usual = build_leaderboard(frame, cited, COST)
    other = build_leaderboard(
        frame, cited, COST, Analysis(0.5, alpha=0.1, level=0.9, power=0.9, correction="bonferroni")
    )
    for text in (paragraph(usual, cited), "\n".join(usual.captions)):
        assert "Holm" in text
        assert "Bonferroni" not in text
    for text in (paragraph(other, cited).replace("\\%", "%"), "\n".join(other.captions)):
        assert "Holm" not in text
        for part in (
            "Bonferroni-corrected over 6 comparisons", "family-wise error of 10 %",
            "90 % Student t interval", "margin of 0.5 points", "at 90 % power",
        ):  # fmt: skip
            assert part in text, part


def test_a_tuned_learning_rate_and_augmentation_are_told(frame, cited):
    rows = [replace(r, searched=("recipe.lr",) * (r.row == "tuned")) for r in cited.rows]
    data = replace(cited.data, augment="flip", train_on="all")
    plan = replace(cited, rows=rows, data=data)
    text = paragraph(build_leaderboard(frame, plan, COST), plan)
    assert "learning rate 0.05 unless tuned" in text
    assert "train on all training images, augmented by flip." in text


def test_a_key_without_a_reference_is_not_cited(frame, cited):
    plan = replace(cited, references={})
    text = paragraph(build_leaderboard(frame, plan, COST), plan)
    assert not keys(text)
    assert to_bibtex(plan) == ""


def test_a_plan_that_tells_little(tmp_path):
    """External results: no data, models, recipe, tuning, teacher or hardware."""
    path = tmp_path / "results.csv"
    lines = [
        f"{m},one_%,{s},{70 + s + d + 0.1 * d * s}"
        for m, d in (("ce", 0), ("kd_x", 1))
        for s in range(4)
    ]
    path.write_text("\n".join(["method,setting,seed,score", *lines]))
    ((_, report_data),) = split_settings(read_results(path), "results", "ce", 0.2).items()
    board = build_leaderboard(report_data.runs, report_data.plan, report_data.cost)
    text = paragraph(board, report_data.plan)
    assert text.splitlines()[2] == r"The study one\_\% compares kd\_x with ce, the reference."
    for part in (
        "Score is given in \\%",
        "over 4 seeds (0, 1, 2, 3)",
        "Holm-corrected over 1 comp",
    ):
        assert part in text
    for part in ("None", "teacher", "tuned at", "Data", "Made with", "epoch", "one test image"):
        assert part not in text
    assert not any("measured" in s or "Nothing was tuned" in s for s in board.captions)
    assert sound(text)


# -- how many seeds would tell the best apart


def near(frame: pd.DataFrame) -> pd.DataFrame:
    """The made-up runs, where rkd comes close to kd."""
    moved = frame.copy()
    at = (frame["label"] == "rkd") & (frame["row"] == "tuned")
    kd = frame[(frame["label"] == "kd") & (frame["row"] == "tuned")].set_index("seed")["accuracy"]
    steps = {0: 0.001, 1: -0.002, 2: 0.003, 3: -0.004, 4: 0.0}
    close = [kd[s] + steps[s] for s in frame.loc[at, "seed"]]
    moved.loc[at, "accuracy"] = close
    return moved


def apart(board):
    return [s for s in board.captions if s.topic == "apart"]


def test_the_seeds_that_would_tell_the_two_best_apart(fake_study, frame):
    board = build_leaderboard(near(frame), fake_study.plan)
    (sentence,) = apart(board)
    best = board.table.set_index(["method", "row"])
    assert "kd and rkd, differ by 0.04 points" in sentence
    assert best.loc[("kd", "tuned"), "best"]
    assert best.loc[("rkd", "tuned"), "best"]
    assert f"at 80 % power and {board.best.comparisons} pairs" in sentence
    steps = dict(enumerate((-0.1, 0.2, -0.3, 0.4, 0.0)))
    wanted = seeds_to_tell_apart(
        paired_difference(steps, dict.fromkeys(steps, 0.0)),
        board.best.analysis,
        board.best.comparisons,
    )
    assert f"would need about {wanted:,} seeds" in sentence


def test_where_the_best_is_told_apart_no_seeds_are_named(fake_study, frame):
    assert not apart(build_leaderboard(frame, fake_study.plan))
    few = frame[frame["seed"].isna() | (frame["seed"] < 2)]
    assert not apart(build_leaderboard(few, fake_study.plan))


# -- it compiles


def test_the_paragraph_says_which_methods_have_a_precision_of_their_own(fake_study, frame, cited):
    other = {"kd": "bf16", "rkd": "bf16"}
    rows = [replace(row, precision=other.get(row.label, "")) for row in cited.rows]
    text = paragraph(build_leaderboard(frame, cited), replace(cited, rows=rows))
    assert "weight decay 0.0005, fp32; rkd and kd in bf16)." in text


@pytest.mark.skipif(
    not (shutil.which("pdflatex") and shutil.which("bibtex")), reason="no LaTeX to compile it with"
)
def test_paragraph_table_and_references_compile_together(frame, cited, tmp_path: Path):
    board = build_leaderboard(frame, cited, COST)
    document = "\n".join([
        r"\documentclass{article}\usepackage[utf8]{inputenc}",
        r"\usepackage{array,booktabs,longtable,url,xcolor}\begin{document}",
        paragraph(board, cited),
        to_latex(leaderboard_document(board, "0" * 16)),
        r"\bibliographystyle{plain}\bibliography{references}",
        r"\end{document}",
    ])  # fmt: skip
    (tmp_path / "t.tex").write_text(document)
    full = replace(cited, references={**cited.references, "hinton2015": FIELDS})
    (tmp_path / "references.bib").write_text(to_bibtex(full))
    commands = (["pdflatex", "-halt-on-error", "t"], ["bibtex", "t"])
    for command in (commands[0], commands[1], commands[0], commands[0]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:]
        assert "Warning--" not in done.stdout
    assert "undefined" not in (tmp_path / "t.log").read_text(errors="replace")
