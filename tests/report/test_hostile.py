"""A report that somebody else made, and names that are written into it: nothing is run, nothing
leaves the folder, and memory stays bounded."""

import csv
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pybtex.errors
import pytest
from markdown_it import MarkdownIt
from pybtex.database import parse_string
from typer.testing import CliRunner

from kdbench.cli import app
from kdbench.records.readers import CorruptRecord
from kdbench.records.store import Store
from kdbench.report import figures
from kdbench.report.check import check_report
from kdbench.report.data.confusion import confusions_frame
from kdbench.report.data.formulas import escape_formula, unescape_formula
from kdbench.report.data.report_data import UnreadableReport, load
from kdbench.report.write import leaderboard_of, text_files, write_report

REPORTS = Path(__file__).parents[2] / "reports"
MEMORY = 64 << 20

#: Names that mean something in one of the formats.
HOSTILE = (
    "<script>document.title='run'</script>",
    '"><img src=x onerror="document.title=\'run\'">',
    "</style></table><svg onload=alert(1)>",
    r"\input{/etc/passwd}",
    r"\immediate\write18{touch written}",
    "^^5cinput{/etc/passwd}",
    "100 % & $x_1^2$ # ~ {",
    "} \\end{tabular} \\begin{verbatim}",
    "a | b | c",
    "`code` **bold** _it_ ~~no~~",
    "[click](javascript:alert(1)) ![](https://example.org/track.png)",
    "[ref]: https://example.org/",
    "&lt;script&gt; &#60;b&#62;",
    "<!-- hidden -->",
    "# heading",
    "two\nlines\n\n- list",
    '=HYPERLINK("https://example.org","click")',
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "'=1",
    "{{ 7*7 }}{% raw %}",
    "NA",
)


@contextmanager
def bounded(most: int = MEMORY) -> Iterator[None]:
    """What runs within takes at most that much more memory."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak / 2**20:.0f} MiB"


# -- reading a report


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return Path(shutil.copytree(REPORTS / "precision", tmp_path / "reports" / "precision"))


def refused(folder: Path) -> str:
    with bounded(), pytest.raises(UnreadableReport) as error:
        load(folder)
    message = str(error.value)
    assert str(folder) in message
    assert "cannot be read: " in message
    assert "\n" not in message
    return message


def zeros(count: int) -> bytes:
    """Compressed zeros, without holding them."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as file:
        for _ in range(count >> 20):
            file.write(bytes(1 << 20))
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["study.json", "runs.csv.gz", "curves.csv.gz"])
def test_a_link_out_of_a_report_is_not_read(report: Path, name: str, tmp_path: Path) -> None:
    (report / name).rename(tmp_path / "outside")
    (report / name).symlink_to(tmp_path / "outside")
    assert "leads out of" in refused(report)


@pytest.mark.parametrize("name", ["study.json", "runs.csv.gz"])
def test_a_sparse_file_of_a_terabyte(report: Path, name: str) -> None:
    os.truncate(report / name, 1 << 40)
    assert "more than the" in refused(report)


def test_a_gzip_bomb(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdbench.report.data.validation.MOST_TABLE", 16 << 20)
    (report / "curves.csv.gz").write_bytes(zeros(64 << 20))
    assert "it holds more than the 16,777,216 bytes allowed" in refused(report)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not whole gzip"),
        (b"id,epoch\n", "not whole gzip"),
        (gzip.compress(b"id,epoch,metric,value\n" * 9, mtime=0)[:-9], "not whole gzip"),
        (gzip.compress(b"a" * 9, mtime=0) + b"rest", "not whole gzip"),
        (gzip.compress(b"," * 10**6, mtime=0), "has other columns"),
        (gzip.compress(b"\xff\xfe", mtime=0), "codec can't decode"),
    ],
)
def test_a_table_that_is_none(report: Path, content: bytes, why: str) -> None:
    (report / "curves.csv.gz").write_bytes(content)
    assert why in refused(report)


CURVES, TRIALS = "id,epoch,metric,value", "label,number,runs,accuracy,nll,chosen,hparams"
CONFUSIONS = "label,row,against,expected,predicted,count"


@pytest.mark.parametrize(
    ("name", "lines", "why"),
    [
        ("curves", [CURVES, "a,1000000000000,train.loss,1"], "epoch in its curves"),
        ("curves", [CURVES, *(f"a{k},9000000,train.loss,1" for k in range(9))], "81,000,000"),
        ("curves", [CURVES, "a,x,train.loss,1"], "epoch in its curves"),
        ("curves", [CURVES, "a,1,train.loss,x"], "value in its curves"),
        ("curves", [CURVES, "a,1,\x1b]52;c;,1"], "holds a control character"),
        ("confusions", [CONFUSIONS, "ce,only,truth,1000000,0,1"], "expected in its confusions"),
        ("confusions", [CONFUSIONS, "ce,only,truth,0,-1,1"], "predicted in its confusions"),
        ("trials", [TRIALS, "kd,0,r,0.5,0.5,True,{"], "Expecting property name"),
        ("trials", [TRIALS, "kd,0,r,0.5,0.5,True,1"], "no hyperparameters"),
        ("trials", [TRIALS, "kd,99999999999999999999,r,0.5,0.5,True,{}"], "number in its trials"),
    ],
)
def test_numbers_that_ask_for_too_much(report: Path, name: str, lines: list[str], why: str) -> None:
    (report / f"{name}.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    assert why in refused(report)


def test_trials_with_a_name_each(report: Path) -> None:
    cells = (json.dumps({f"h{k}": 1}).replace('"', '""') for k in range(5000))
    lines = [f'kd,{k},r,0.5,0.5,False,"{cell}"' for k, cell in enumerate(cells)]
    (report / "trials.csv.gz").write_bytes(gzip.compress("\n".join([TRIALS, *lines]).encode()))
    assert "5,000 hyperparameters" in refused(report)


def changed(folder: Path, *path: object, to: object) -> None:
    """Another value at a place of the study's file."""
    study = json.loads((folder / "study.json").read_text())
    part = study
    for key in path[:-1]:
        part = part[key]  # type: ignore[index]
    part[path[-1]] = to  # type: ignore[index]
    (folder / "study.json").write_text(json.dumps(study))


PAPER = {"authors": "A", "title": "T", "venue": "V", "year": 2000, "kind": "misc"}


@pytest.mark.parametrize(
    ("path", "to", "why"),
    [
        (["plan"], None, "its plan is none of kdbench's"),
        (["plan"], [], "its plan is none of kdbench's"),
        (["plan", "rows"], "abc", "its plan is none of kdbench's"),
        (["plan", "rows", 0, "label"], {"a": 1}, "rows.0.label: Input should be a valid string"),
        (["plan", "rows", 0, "cite"], r"a}\input{/etc/passwd", "is no citation key"),
        (["plan", "rows", 0, "runs"], {"0": ["x"]}, "its plan is none of kdbench's"),
        (["plan", "margin"], float("nan"), "its margin is nan"),
        (["plan", "unknown"], 1, "its plan is none of kdbench's"),
        (["plan", "question"], "\x1b[2J", "holds a control character"),
        (["plan", "data", "classes"], ["c"] * 5000, "5,000 classes, more than allowed"),
        (["plan", "references", "a,b"], PAPER, "its reference 'a,b' is none"),
        (["plan", "references", "a"], {**PAPER, "year": "2000}, x={"}, "its reference 'a'"),
        (["plan", "references", "a"], {**PAPER, "url": r"http://x\write18{y}"}, "is no address"),
        (["plan", "references", "a"], {**PAPER, "arxiv": "1}, x={"}, "is no arXiv number"),
        (["plan", "references", "a"], {**PAPER, "kind": "string"}, "unknown kind"),
        (["plan", "published"], [{"label": "x", "accuracy": "9" * 9}], "a published number"),
        (["plan", "published"], [{"label": "x", "accuracy": 1, "cite": "{"}], "citation key"),
        (["cost"], {"rows": {"ce": {"relative": "x" * 9}}}, "cannot be read: rows"),
        (["cost"], 7, "cannot be read: "),
    ],
)
def test_a_plan_that_is_none(report: Path, path: list[object], to: object, why: str) -> None:
    changed(report, *path, to=to)
    assert why in refused(report)


def test_too_many_rows(report: Path) -> None:
    study = json.loads((report / "study.json").read_text())
    changed(report, "plan", "rows", to=study["plan"]["rows"][:1] * 1001)
    assert "1,001 rows" in refused(report)


def test_json_that_is_deep(report: Path) -> None:
    (report / "study.json").write_text("[" * 10**6)
    refused(report)


@pytest.mark.parametrize("place", ["../../outside", "/etc", "link"])
def test_a_pooled_report_stays_beside_its_parts(report: Path, place: str, tmp_path: Path) -> None:
    shutil.copytree(report, tmp_path / "outside")
    pooled = tmp_path / "reports" / "pooled"
    pooled.mkdir()
    (pooled / "link").symlink_to(tmp_path / "outside")
    parts = {"a": "../precision", "b": place}
    study = {"format": 2, "name": "pooled", "shared": True, "pooled": parts}
    (pooled / "study.json").write_text(json.dumps(study))
    with pytest.raises(UnreadableReport, match="leads out of"):
        check_report(pooled)


def test_checking_does_not_show_a_file_outside(report: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret")
    (report / "leaderboard.md").unlink()
    (report / "leaderboard.md").symlink_to(tmp_path / "secret")
    (difference,) = check_report(report / "leaderboard.md")
    assert "leads out of" in difference


@pytest.mark.parametrize("link", ["reports/results", "reports/results/figures"])
def test_a_report_is_not_written_through_a_link(tmp_path: Path, link: str) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(outside)
    results = tmp_path / "results.csv"
    results.write_text("method,setting,seed,score\nce,a,0,70\nkd,a,0,71\n")
    done = CliRunner().invoke(app, ["report", "--from", str(results), "--root", str(root)])
    assert done.exit_code == 2
    assert "leads out of" in done.output
    assert not list(outside.iterdir())


@pytest.mark.parametrize(
    ("labels", "logits", "why"),
    [
        ([0, 10**15], np.zeros((2, 4)), "has other classes than the 4"),
        ([0, -1], np.zeros((2, 4)), "has other classes than the 4"),
        ([0, 1], np.zeros((2, 9)), "has other classes than the 4"),
        ([0, 1], np.zeros((3, 4)), "2 labels for logits"),
        ([0.5, 1], np.zeros((2, 4)), "there are no labels"),
        ([0, 1], np.zeros(2), "images x classes"),
        ([0, 1], np.zeros((2, 0)), "images x classes"),
    ],
)
def test_predictions_of_other_classes(
    fake_study, frame: pd.DataFrame, tmp_path: Path, labels: list, logits: np.ndarray, why: str
) -> None:
    one = frame[frame["state"] == "done"].iloc[:1]
    record = Store(tmp_path).record(one["id"].iloc[0])
    record.score({"last": {}}, {"labels": np.array(labels), "last": logits})
    with bounded(), pytest.raises(CorruptRecord, match=why):
        confusions_frame(Store(tmp_path), fake_study.plan, one)


def test_no_image_is_ever_read() -> None:
    """So there is none that could be a bomb: but for a user's own folder of images, which a study
    names, the package writes pictures and reads none."""
    package = REPORTS.parent / "kdbench"
    files = [p for p in package.rglob("*.py") if p.relative_to(package).parts[0] != "data"]
    assert len(files) > 100
    sources = "".join(p.read_text() for p in files)
    for reader in ("Image.open", "imread", "read_image", "datasets.ImageFolder", "cv2"):
        assert reader not in sources


# -- writing names


@pytest.fixture(scope="module")
def hostile(report_data):
    """The made-up study with hostile names everywhere: methods, classes, words, papers, runs."""
    plan = report_data.plan
    labels = list(dict.fromkeys(row.label for row in plan.rows if row.label != plan.reference))
    names = dict(zip(labels, HOSTILE, strict=False))
    rows = tuple(replace(r, label=names.get(r.label, r.label)) for r in plan.rows)
    used = len(names)
    published = tuple(
        {"label": text, "accuracy": 91.0, "note": text, "cite": "a2000"} for text in HOSTILE[used:]
    )
    paper = {**PAPER, "url": None}
    references = {f"a{2000 + k}": {**paper, "title": t, "venue": t} for k, t in enumerate(HOSTILE)}
    data = replace(plan.data, classes=HOSTILE[:4], name=HOSTILE[4])
    models = {"student": HOSTILE[3], "teacher": HOSTILE[0]}
    words = " ".join(HOSTILE)
    plan = replace(
        plan, rows=rows, published=published, references=references, data=data, models=models,
        question=f"# {words}", study=HOSTILE[5], hash=HOSTILE[6],
    )  # fmt: skip
    frames = {
        name: getattr(report_data, name).replace({"label": names, "method": names})
        for name in ("runs", "trials", "confusions")
    }
    frames["runs"]["reason"] = frames["runs"]["reason"].where(
        frames["runs"]["reason"].isna(), HOSTILE[1]
    )
    frames["trials"]["hparams"] = [json.dumps({HOSTILE[0]: HOSTILE[3]})] * len(frames["trials"])
    return replace(report_data, plan=plan, **frames)


@pytest.fixture(scope="module")
def board(hostile):
    return leaderboard_of(hostile)


@pytest.fixture(scope="module")
def files(hostile, board) -> dict[str, str]:
    return {name: content.decode() for name, content in text_files(board, hostile).items()}


@pytest.fixture(scope="module", autouse=True)
def draw_what_shows_names():
    """Of the figures those with methods, hyperparameters and classes: drawing takes seconds."""
    some = {name: figures.PREPARE[name] for name in ("forest", "tuning", "confusion")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "PREPARE", some)
        yield


@pytest.fixture(scope="module")
def written(hostile, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    write_report(hostile, folder)
    return folder


ELEMENTS = set(
    """
    a body br caption clippath code dd defs details div dl dt figcaption figure footer form g h1
    h2 h3 head header html image img input label li lineargradient link main math meta mi mn mo
    mrow mspace msub msup nav option output p path rect script section select small span stop strong
    style summary svg table tbody td text th thead title tr tspan ul use
    """.split()  # noqa: SIM905
)


class Elements(HTMLParser):
    """Every element with its attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_holds_no_element_of_a_name(written: Path) -> None:
    page = Elements((written / "index.html").read_text())
    assert {tag for tag, _ in page.elements} <= ELEMENTS
    scripts = [values for tag, values in page.elements if tag == "script"]
    numbers = [{"type": "application/json", "id": name} for name in ("curves", "pair-numbers")]
    assert scripts == [{}, *numbers]
    for tag, values in page.elements:
        assert not [name for name in values if name.startswith("on")], tag
        for name in ("href", "src", "xlink:href", "action", "srcset"):
            if (link := values.get(name)) is not None:
                paper = tag == "a" and re.match(r"https?://", link)  # fetched by a click alone
                assert paper or re.match(r"#|data:|[\w./-]+$", link), link
    for text in HOSTILE:
        assert " ".join(text.split()) in " ".join(page.text.split()), text


def test_the_page_in_a_browser(written: Path) -> None:
    browser = next(filter(shutil.which, ("chromium", "chromium-browser", "google-chrome")), None)
    if browser is None:
        pytest.skip("no chromium or google-chrome is installed")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={written}/profile"]
    page = f"file://{written}/index.html"
    command = [browser, *options, "--virtual-time-budget=2000", "--dump-dom", page]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    dom = Elements(shown)
    assert 'class="js"' in shown  # our own script has run
    titles = re.findall("<title>(.*?)</title>", shown)
    assert titles[0] != "run"
    assert {tag for tag, _ in dom.elements} <= ELEMENTS | {"button"}
    assert not [v for _, v in dom.elements if any(name.startswith("on") for name in v)]


#: What the table and the paragraph may use of LaTeX.
COMMANDS = set(
    r"""
    \# \$ \% \& \Delta \\ \_ \approx \arraybackslash \begin \begingroup \bottomrule \caption
    \centering \circ \cite \dagger \downarrow \end \endfirsthead \endfoot \endgroup \endhead
    \fontsize \label \midrule \noindent \par \pm \raggedleft \raggedright \selectfont \setlength
    \smallskip \tabcolsep \textasciicircum \textasciitilde \textbackslash \textbar \textbf
    \textcolor \textgreater \textless \times \toprule \uparrow \{ \}
    """.split()  # noqa: SIM905
)
MATHS = {
    "$-$", r"$\pm$", r"$\Delta$", r"$\dagger$", r"$\times$", r"$\approx$", r"$\uparrow$",
    r"$\downarrow$", r"$\circ$",
}  # fmt: skip
ENVIRONMENTS = {
    "leaderboard.tex": {"table", "tabular", "minipage"},
    "leaderboard-full.tex": {"longtable"},
    "methods.tex": {"sloppypar"},
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_latex_holds_no_command_of_a_name(files: dict[str, str], name: str) -> None:
    lines = files[name].splitlines()
    comments = [line for line in lines if line.startswith("%")]
    assert len(comments) == (1 if name == "methods.tex" else 2)
    text = "\n".join(line for line in lines if not line.startswith("%"))
    assert "^^" not in text
    assert set(re.findall(r"\\(?:[A-Za-z]+|.)", text)) <= COMMANDS
    bare = re.sub(r"\\(?:[A-Za-z]+|.)", "", text)
    assert not set("%#~^") & set(bare.replace(r"~\cite", "").replace("~{a", "{a"))
    assert bare.count("{") == bare.count("}")
    assert set(re.findall(r"(?<!\\)\$.*?(?<!\\)\$", text)) <= MATHS
    environments = re.findall(r"\\(begin|end)\{(.*?)\}", text)
    assert {e for _, e in environments} == ENVIRONMENTS[name]
    rows = [line for line in lines if line.endswith(r" \\")]
    tables = text.count(r"\begin{longtable}") or 1
    assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) <= tables


def test_latex_compiles_and_runs_nothing(files: dict[str, str], tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex is installed")
    for name in ENVIRONMENTS:
        (tmp_path / name).write_text(files[name])
    body = r"\input{leaderboard}\input{leaderboard-full}\input{methods}"
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{array,booktabs,longtable,url,xcolor}"
        rf"\begin{{document}}{body}\end{{document}}"
    )
    command = ["pdflatex", "-shell-escape", "-halt-on-error", "-interaction=nonstopmode", "paper"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    log = done.stdout.decode(errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert (tmp_path / "paper.pdf").is_file()
    assert not (tmp_path / "written").exists()
    assert "root:" not in log


def test_markdown_shows_names_as_they_are(files: dict[str, str], board) -> None:
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = reader.parse(files["leaderboard.md"])
    assert [t.content for t in tokens if t.type == "html_block"][1:] == []
    assert {t.type for t in tokens} <= {
        "html_block", "heading_open", "heading_close", "paragraph_open", "paragraph_close",
        "inline", "table_open", "table_close", "thead_open", "thead_close", "tbody_open",
        "tbody_close", "tr_open", "tr_close", "th_open", "th_close", "td_open", "td_close",
        "bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close",
    }  # fmt: skip
    assert len([t for t in tokens if t.type == "heading_open"]) == 1
    assert len([t for t in tokens if t.type == "table_open"]) == 1
    assert {t.level for t in tokens if t.type == "bullet_list_open"} == {0}
    inline = [t for t in tokens if t.type == "inline"]
    kinds = {child.type for token in inline for child in token.children or ()}
    assert kinds <= {"text", "text_special", "strong_open", "strong_close", "em_open", "em_close"}
    shown = ["".join(c.content for c in t.children or ()) for t in inline]
    for label in board.table["method"]:
        assert " ".join(label.split()) in shown, label
    assert " ".join(board.question.split()) in shown
    rows = [i for i, t in enumerate(tokens) if t.type == "tr_open"]
    assert len(rows) == len(board.table) + 1


def test_github_s_own_marks_are_escaped_too(files: dict[str, str]) -> None:
    for mark in ("$x", "~~"):
        assert not re.search(rf"(?<!\\){re.escape(mark)}", files["leaderboard.md"])


def test_no_cell_of_a_csv_file_is_a_formula(files: dict[str, str], written: Path, board) -> None:
    rows = list(csv.DictReader(io.StringIO(files["leaderboard.csv"])))
    assert [unescape_formula(r["method"]) for r in rows] == list(board.table["method"])
    kept = [gzip.decompress(p.read_bytes()).decode() for p in written.glob("*.csv.gz")]
    for text in (files["leaderboard.csv"], *kept):
        for row in csv.reader(io.StringIO(text)):
            for cell in row:
                number = re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", cell)
                assert number or not cell.startswith(("=", "+", "-", "@", "\t", "\r", "＝")), cell
    differences = [float(r["difference"]) for r in rows if r["difference"]]
    assert min(differences) < 0  # a number remains a number


@pytest.mark.parametrize("text", [*HOSTILE, "'", "''=", "'a", "＝1", "", "-", "kd"])
def test_an_escaped_formula_is_read_as_it_was(text: str) -> None:
    assert unescape_formula(escape_formula(text)) == text


def test_a_hostile_report_is_read_back_and_checked(hostile, written: Path, board) -> None:
    again = load(written)
    assert list(leaderboard_of(again).table["method"]) == list(board.table["method"])
    assert again.digest == hostile.digest
    assert check_report(written) == []


def test_bibtex_holds_one_entry_a_paper(files: dict[str, str], hostile) -> None:
    with pybtex.errors.capture() as faults:
        entries = parse_string(files["references.bib"], "bibtex").entries
    assert not faults
    assert set(entries) == set(hostile.plan.references)
    for entry in entries.values():
        assert set(entry.fields) == {"title", "howpublished", "year"}
        for value in entry.fields.values():
            assert not re.search(r"\\(input|write|immediate|end|begin)", value)
            assert "^^" not in value


def test_a_terminal_is_told_nothing(tmp_path: Path) -> None:
    """Control characters of a file's name or content are not written to the terminal."""
    path = tmp_path / "\x1b]0;owned\x07.csv"
    path.write_text("method,setting,seed,score\n\x1b[2J,a,0,70\n")
    for name in (path, tmp_path / "no\x1b[2Jsuch.csv"):
        done = CliRunner().invoke(app, ["report", "--from", str(name), "--root", str(tmp_path)])
        assert done.exit_code == 2
        assert "\x1b" not in done.output
        assert "\x07" not in done.output


def test_drawing_takes_no_name_for_mathematics(hostile, board) -> None:
    drawn = figures.draw_figures(board, hostile)
    for svg in drawn.svg.values():
        assert "<script" not in svg
        assert "onerror=" not in re.sub(r">[^<]*<", "><", re.sub(r'"[^"]*"', '""', svg))
