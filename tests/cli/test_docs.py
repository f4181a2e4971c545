"""What is written down is what the code says."""

import subprocess
from pathlib import Path

import pytest

from kdbench.cli import catalogue
from kdbench.study.load import shipped

ROOT = Path(__file__).parents[2]


def test_the_methods_page_is_the_registry() -> None:
    assert (ROOT / "docs" / "methods.md").read_text() == catalogue.markdown(), "run `make docs`"


def test_the_readme_opens_with_its_two_commands() -> None:
    lines = [x.split("#")[0].strip() for x in (ROOT / "README.md").read_text().splitlines()]
    commands = [line for line in lines if line]
    assert commands[1:3] == ["make study", "make test"]  # the fence stands before them


def test_every_report_of_the_project_belongs_to_a_shipped_study() -> None:
    """Of those under version control: whoever works here may have reports of their own."""
    command = ["git", "ls-files", "reports"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no git, or no checkout")
    folders = {Path(line).parts[1] for line in done.stdout.splitlines() if line.count("/") > 1}
    assert folders <= set(shipped())
