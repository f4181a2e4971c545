"""What is written down is what the code says."""

from pathlib import Path

from kdbench import catalogue
from kdbench.study import shipped

ROOT = Path(__file__).parent.parent


def test_the_methods_page_is_the_registry() -> None:
    assert (ROOT / "docs" / "methods.md").read_text() == catalogue.markdown(), "run `make docs`"


def test_the_readme_opens_with_its_two_commands() -> None:
    lines = [x.split("#")[0].strip() for x in (ROOT / "README.md").read_text().splitlines()]
    commands = [line for line in lines if line]
    assert commands[1:3] == ["make study", "make test"]  # the fence stands before them


def test_every_report_belongs_to_a_shipped_study() -> None:
    folders = {path.name for path in (ROOT / "reports").iterdir() if path.is_dir()}
    assert folders <= set(shipped())
