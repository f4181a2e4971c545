"""The site that `make docs` builds: every page can be found, every link leads somewhere, and
nothing is fetched from a network."""

import importlib
import inspect
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PUBLIC = ("kdbench", "kdbench.methods", "kdbench.models", "kdbench.data", "kdbench.testing")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def public_names() -> list[tuple[str, str, object]]:
    modules = [importlib.import_module(name) for name in PUBLIC]
    return [(m.__name__, name, getattr(m, name)) for m in modules for name in m.__all__]


def test_the_api_page_has_every_public_name() -> None:
    """Classes and functions come with their module; what has no docstring is in the table."""
    page = (ROOT / "docs" / "api.md").read_text()
    assert set(PUBLIC) <= set(re.findall(r"^::: (\S+)$", page, flags=re.MULTILINE))
    for module, name, value in public_names():
        assert inspect.isroutine(value) or inspect.isclass(value) or written(name, module, page)


def written(name: str, module: str, page: str) -> bool:
    return f"`{name}`" in page or f"`{module}.{name}`" in page


class Links(HTMLParser):
    """What a page fetches, and what it links to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.fetched: set[str] = set()
        self.linked: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.fetched.add(values.get("src") or "")
        link = values.get("href") or ""
        (self.fetched if tag == "link" else self.linked).add(link)


@pytest.mark.long
def test_the_site_is_whole_without_a_network(site: Path) -> None:
    """MkDocs checks the links between pages; these are all others, copied files included."""
    pages = [*site.glob("*.html"), *site.glob("docs/**/*.html"), site / "reports" / "index.html"]
    assert len(pages) > 40
    for page in pages:
        links = Links(page)
        assert not [link for link in links.fetched if "//" in link], page
        if page.name == "404.html":  # its links begin at the root of a server
            continue
        for link in {link.partition("#")[0] for link in links.fetched | links.linked} - {""}:
            assert "//" in link or (page.parent / link).exists(), f"{page}: {link}"


@pytest.mark.long
def test_the_public_names_are_on_the_built_page(site: Path) -> None:
    page = (site / "docs" / "api.html").read_text()
    source = (ROOT / "docs" / "api.md").read_text()
    for module, name, _ in public_names():
        shown = re.search(rf'id="{module}\.(\w+\.)?{name}"', page)
        assert shown or written(name, module, source), f"{module}.{name}"
