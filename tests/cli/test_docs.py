"""What is written down is what the code says."""

import ast
import inspect
import json
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import click
import pytest
import typer
import yaml

import kdbench
from kdbench.cli import app, catalogue
from kdbench.data import DATASETS
from kdbench.methods import METHODS
from kdbench.models import MODELS
from kdbench.study.load import shipped
from kdbench.study.schema import RecipePart

ROOT = Path(__file__).parents[2]


def test_the_methods_page_is_the_registry() -> None:
    assert (ROOT / "docs" / "methods.md").read_text() == catalogue.markdown(), "run `make methods`"


def test_the_methods_page_lists_every_method_with_its_year() -> None:
    introduction, _, index = catalogue.markdown().partition("|---|---|---|---|\n")
    rows = [cells(line)[1:4:2] for line in index.partition("\n\n")[0].splitlines()]
    assert rows == [[f"[{key}](#{key})", str(kind.paper.year)] for key, kind in METHODS.items()]
    assert f"The {len(rows)} methods" in introduction
    (left_out,) = re.findall(r"\]\((decisions/.+?)\)", introduction)
    assert (ROOT / "docs" / left_out).is_file()


def pages_in(entry: object) -> set[str]:
    """The pages that a part of the site's navigation names."""
    if isinstance(entry, str):
        return {entry}
    parts = entry.values() if isinstance(entry, dict) else entry
    return set().union(*(pages_in(part) for part in parts))


def test_every_page_is_in_the_navigation() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")}
    assert pages <= pages_in(nav), "add it to `nav` in mkdocs.yml"


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"^- \[(.+)\]\((.+)\)$", (folder / "README.md").read_text(), re.MULTILINE)
    decisions = sorted(folder.glob("[0-9]*.md"))
    titles = [path.read_text().splitlines()[0].removeprefix("# ") for path in decisions]
    assert listed == [(title, path.name) for title, path in zip(titles, decisions, strict=True)]


def test_the_readme_opens_with_its_two_commands() -> None:
    lines = [x.split("#")[0].strip() for x in (ROOT / "README.md").read_text().splitlines()]
    commands = [line for line in lines if line]
    assert commands[1:3] == ["make study", "make test"]  # the fence stands before them


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == kdbench.__version__


PAGES = [ROOT / "README.md", ROOT / "reports" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    fence = rf"^```{language}\n(.*?)^```"
    return re.findall(fence, page.read_text(), flags=re.DOTALL | re.MULTILINE)


def test_every_report_of_the_project_has_its_study_here() -> None:
    """In `studies`, or on a page. Of the reports under version control: whoever works here may have
    reports of their own."""
    command = ["git", "ls-files", "reports/*/study.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no git, or no checkout")
    reports = {Path(line).parts[1] for line in done.stdout.splitlines()}
    assert reports
    shown = [yaml.safe_load(text) for page in PAGES for text in blocks(page, "yaml")]
    for name in reports - set(shipped()):
        (study,) = [study for study in shown if study.get("name") == name]
        plan = json.loads((ROOT / "reports" / name / "study.json").read_text())["plan"]
        assert study["question"] == plan["question"]
        assert study["recipe"].items() <= plan["recipe"].items()
        assert set(study["methods"]) == set(plan["methods"])


def test_the_page_of_studies_lists_every_network() -> None:
    text = (ROOT / "docs" / "studies.md").read_text()
    for name in MODELS.builtin:
        assert f"`{name}`" in text, name


def test_the_keys_of_a_recipe_are_listed_with_their_defaults() -> None:
    text = (ROOT / "docs" / "your-own-data.md").read_text()
    (section,) = re.findall(r"^## Recipes\n(.*?)^## ", text, flags=re.DOTALL | re.MULTILINE)
    rows = [cells(line) for line in section.splitlines() if line.startswith("| `")]
    for key, field in RecipePart.model_fields.items():
        (row,) = [row for row in rows if re.search(rf"`{key}[`:]", row[1])]
        if len(row) == 5:  # of the other table nothing is on by default
            names, shown = row[1].split(", "), row[2].replace("`", "").split(", ")
            default = shown[names.index(f"`{key}`")] if len(shown) == len(names) else ""
            real = None if field.is_required() else field.default
            assert {"": None, "none": ()}.get(default, yaml.safe_load(default)) == real, key
        else:
            assert field.default in (0, "none"), key


def commands_in(page: Path) -> list[list[str]]:
    """The `kdbench ...` lines of a page's code blocks, without their comments."""
    code = "\n".join(blocks(page, r"\w*"))
    lines = [re.split(r" {2,}| > ", line)[0] for line in code.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("kdbench ")]


@pytest.mark.parametrize(
    "words",
    sorted({tuple(words) for page in PAGES for words in commands_in(page)}),
    ids=" ".join,
)
def test_commands_of_the_pages_parse(words: tuple[str, ...]) -> None:
    group = typer.main.get_command(app)
    name, command, rest = group.resolve_command(click.Context(group), list(words))
    assert name
    assert not command.hidden
    command.make_context(name, rest)  # raises where an option or argument is not known


def test_the_page_of_commands_has_every_one() -> None:
    text = (ROOT / "docs" / "studies.md").read_text()
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        assert command.hidden or f"kdbench {name}" in text, name


def test_the_python_of_the_first_page_runs_as_written() -> None:
    (block,) = blocks(ROOT / "docs" / "start.md", "python")
    calls = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
    for call in calls:
        owner, _, name = ast.unparse(call.func).partition(".")
        if owner == "kdbench":
            names = [keyword.arg for keyword in call.keywords]
            inspect.signature(getattr(kdbench, name)).bind(*call.args, **dict.fromkeys(names))


def test_the_plug_ins_of_the_guide_have_keys_that_are_free() -> None:
    """Two entries of one name are refused, so a reader could not follow the page."""
    page = (ROOT / "docs" / "your-own-method.md").read_text()
    keys = re.findall(r'^([\w-]+) = "\w+:\w+"$', page, flags=re.MULTILINE)
    assert len(keys) == 3
    for registry in (METHODS, MODELS, DATASETS):
        assert not set(keys) & set(registry.builtin)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]


def test_the_table_of_the_readme_is_that_of_the_report_it_names() -> None:
    """Some columns of it, and of each method the row that is compared."""
    text = (ROOT / "README.md").read_text()
    (source,) = re.findall(r"\]\((reports/[\w-]+/leaderboard\.md)\)", text)
    lines = (ROOT / source).read_text().splitlines()
    head, rule, *rows = [cells(line) for line in lines if line.startswith("|")]
    shown = ("method", "n", "accuracy", "Δ", "p (", "verdict")
    columns = [next(i for i, x in enumerate(head) if x.startswith(start)) for start in shown]
    compared = [row for row in rows if {"tuned", "only", "teacher"} & set(row)]
    table = [[row[i] for i in columns] for row in (head, rule, *compared)]
    expected = "\n".join("| " + " | ".join(row) + " |" for row in table)
    assert expected in text, f"it is now\n{expected}"


#: Words in backticks that stand for something of the reader's or of the system's.
NOT_IN_THE_CODE = {"COMMAND", "CUDA_VISIBLE_DEVICES", "Pss", "Pss_Anon", "knobs"}


@pytest.mark.parametrize(
    "page",
    [
        *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name != "methods.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ],
    ids=lambda path: path.name,
)
def test_names_on_a_page_are_those_of_the_code(page: Path) -> None:
    """Every word in backticks occurs in the code, and every path is there."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for name in re.findall(r"`([^`\n]+)`", text):
        if "<" in name or "*" in name:
            continue
        if re.fullmatch(r"(kdbench|tests|docs|studies|benchmarks)/[\w/.-]+", name):
            assert (ROOT / name).exists(), name
            continue
        unknown = set(re.findall(r"[A-Za-z_]\w*", name)) - code_words() - NOT_IN_THE_CODE
        assert not unknown, f"`{name}`"


@cache
def code_words() -> set[str]:
    files = [ROOT / "Makefile", ROOT / "pyproject.toml", *(ROOT / "studies").glob("*.yaml")]
    for folder in ("kdbench", "tests", "benchmarks"):
        files += (ROOT / folder).rglob("*.py")
    return {word for path in files for word in re.findall(r"[A-Za-z_]\w*", path.read_text())}
