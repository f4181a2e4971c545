"""The tables for a paper fit its column and compile, with the references, in the usual classes."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from kdbench.report.check import check_report
from kdbench.report.data.report_data import load
from kdbench.report.write import leaderboard_of, text_files, write_report
from kdbench.report.writers.latex_column import UnknownColumn

REPORTS = Path(__file__).parents[2] / "reports"
#: A class and its style of references, and whether it has two columns.
CLASSES = {
    "IEEEtran": (r"\documentclass[journal]{IEEEtran}", "IEEEtran", True),
    "plainnat": (r"\documentclass{article}\usepackage{natbib}", "plainnat", False),
    "acmart": (r"\documentclass[sigconf,nonacm]{acmart}", "ACM-Reference-Format", True),
    "llncs": (r"\documentclass{llncs}", "splncs04", False),
}
AUTHOR = r"\author{A}\affiliation{\institution{I}\city{C}\country{D}}"


def files_of(study, columns=()):
    data = replace(load(REPORTS / study), columns=columns)
    return {k: v.decode() for k, v in text_files(leaderboard_of(data), data).items()}


@pytest.fixture(scope="module")
def files():
    return files_of("cifar10")


def compiled(files, name, folder):
    """The log of a paper with the paragraph, both tables and the references."""
    if not (shutil.which("pdflatex") and shutil.which("bibtex")):
        pytest.skip("no LaTeX to compile it with")
    head, style, columns = CLASSES[name]
    if not subprocess.run(["kpsewhich", f"{style}.bst"], capture_output=True).stdout:
        pytest.skip(f"{style} is not installed")
    for file, text in files.items():
        if file.endswith((".tex", ".bib")):
            (folder / file).write_text(text)
    packages = files["leaderboard.tex"].splitlines()[0].removeprefix("% ")
    assert packages == files["leaderboard-full.tex"].splitlines()[0].removeprefix("% ")
    document = "\n".join([
        head, packages, r"\begin{document}\title{T}", AUTHOR if name == "acmart" else r"\author{A}",
        r"\maketitle\input{methods}\input{leaderboard}", r"\onecolumn" * columns,
        r"\input{leaderboard-full}", rf"\bibliographystyle{{{style}}}\bibliography{{references}}",
        r"\end{document}",
    ])  # fmt: skip
    (folder / "t.tex").write_text(document)
    latex = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t"]
    for command in (latex, ["bibtex", "t"], latex, latex):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
        assert done.returncode == 0, done.stdout[-2000:]
    return (folder / "t.log").read_text(errors="replace")


def assert_sound(log):
    assert "Overfull" not in log
    assert not re.search(r"Warning: (Citation|Reference)|undefined", log)


def test_tables_and_references_compile_in_a_column_of_ieee(files, tmp_path):
    assert_sound(compiled(files, "IEEEtran", tmp_path))


@pytest.mark.long
@pytest.mark.parametrize("study", ["digits", "digits-all", "digits-few-labels", "cifar10", "mnist"])
@pytest.mark.parametrize("name", CLASSES)
def test_every_report_compiles_in_every_class(name, study, tmp_path):
    assert_sound(compiled(files_of(study), name, tmp_path))


def test_a_method_has_one_row_with_its_name_scores_difference_and_mark(files):
    text = files["leaderboard.tex"]
    assert r"\resizebox" not in text
    row = next(line for line in text.splitlines() if "you2017learning" in line)
    assert row == (
        r"\textbf{Ensemble of teachers}~\cite{you2017learning} & 70.40 & \textbf{70.53} & "
        r"+0.85 [0.22, 1.47] & $\uparrow$ \\"
    )
    assert r"method & default & tuned & $\Delta$ [95 \% CI] &" in text
    notes = text[text.index(r"\begin{minipage}") :]
    assert r"difference from Cross-entropy; $\uparrow$ better; $\circ$ cannot tell." in notes
    assert "worse" not in notes  # no method is
    assert "(Ensemble of teachers)" in notes


def test_nothing_is_said_twice(files):
    paragraph = files["methods.tex"]
    for name in ("leaderboard.tex", "leaderboard-full.tex"):
        lines = {line for line in files[name].splitlines() if line.endswith(".")}
        assert lines
        assert not [line for line in lines if line in paragraph]


def test_the_paragraph_has_titles_and_no_keys(files):
    text = files["methods.tex"]
    assert r"Similarity-preserving KD~\cite{tung2019similarity}" in text
    assert r"FitNets (hint-tutorial)~\cite{romero2015fitnets} (beta=0.25" in text
    assert r"with Cross-entropy~\cite{bridle1990probabilistic}, the reference." in text
    assert "against ce" not in text


def test_columns_are_chosen_and_checked_with_the_report(report_data, tmp_path):
    chosen = ("tuned", "nll", "relative cost (measured)")
    write_report(replace(report_data, columns=chosen), tmp_path)
    text = (tmp_path / "leaderboard.tex").read_text()
    assert r"method & tuned & NLL & cost \\" in text
    assert "Columns marked (measured)" in text
    assert load(tmp_path).columns == chosen
    assert check_report(tmp_path / "leaderboard.tex") == []
    with pytest.raises(UnknownColumn, match=r"no column 'tune' \(did you mean 'tuned'\?\)"):
        text_files(leaderboard_of(report_data), replace(report_data, columns=("tune",)))


def test_more_columns_than_fit_take_both(tmp_path):
    text = files_of("cifar10", ("accuracy", "difference", "versus_second", "hparams"))
    assert r"\begin{table*}" in text["leaderboard.tex"]
    assert_sound(compiled(text, "IEEEtran", tmp_path))
