"""What a package index shows of a wheel: links that lead somewhere, and the project's addresses."""

import re
from pathlib import Path

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

from kdbench import __version__

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://example.org/someone/kdbench"


def metadata(monkeypatch: pytest.MonkeyPatch, repository: str | None) -> tuple[str, dict[str, str]]:
    """The README and the addresses that a wheel holds."""
    if repository is None:
        monkeypatch.delenv("KDBENCH_REPOSITORY", raising=False)
    else:
        monkeypatch.setenv("KDBENCH_REPOSITORY", repository)
    core = ProjectMetadata(str(ROOT), PluginManager()).core
    assert core.readme_content_type == "text/markdown"
    return core.readme, core.urls


@pytest.mark.parametrize("written", [REPOSITORY, REPOSITORY + "/", REPOSITORY + ".git"])
def test_every_link_leads_to_a_file_of_the_release(
    written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme, urls = metadata(monkeypatch, written)
    targets = re.findall(r"\]\(([^)]+)\)", readme)
    assert targets
    for target in targets:
        kind = "raw" if target.endswith(".png") else "blob"
        start = f"{REPOSITORY}/{kind}/v{__version__}/"
        assert target.startswith(start), target
        assert (ROOT / target.removeprefix(start).partition("#")[0]).exists(), target
    assert urls["Repository"] == REPOSITORY
    assert set(urls) == {"Repository", "Documentation", "Changelog", "Issues"}


def test_nothing_else_of_the_text_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    readme, _ = metadata(monkeypatch, REPOSITORY)
    relative = re.sub(rf"{REPOSITORY}/(raw|blob)/v{re.escape(__version__)}/", "", readme)
    assert relative == (ROOT / "README.md").read_text()


def test_without_an_address_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    readme, urls = metadata(monkeypatch, None)
    assert readme == (ROOT / "README.md").read_text()
    assert not urls


def test_an_address_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="write https://HOST/OWNER/NAME"):
        metadata(monkeypatch, "git@example.org:someone/kdbench.git")
