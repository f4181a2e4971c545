"""The site mirrors the repository, so that a link means the same here and in a checkout.

MkDocs calls `on_files`. It replaces the files of docs/, whose addresses would begin there, by files
whose addresses begin at the repository's root, and adds those that the pages link to.
"""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md", "reports/README.md")
#: Copied as they are.
COPIED = (
    "CITATION.cff",
    "LICENSE",
    "docs/images/*",
    "docs/site.css",
    "kdbench/methods/kd.py",
    "reports/*/**/*",
)


class Copy(File):
    """A file that the site holds unchanged, also where it is Markdown."""

    def is_documentation_page(self) -> bool:
        return False


def on_files(files: Files, config: MkDocsConfig) -> Files:
    theme = [file for file in files if file.src_dir != config.docs_dir]
    return Files([*theme, *found(File, PAGES, config), *found(Copy, COPIED, config)])


def found(kind: type[File], patterns: tuple[str, ...], config: MkDocsConfig) -> list[File]:
    paths = sorted(path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file())
    return [
        kind(str(path.relative_to(ROOT)), str(ROOT), config.site_dir, config.use_directory_urls)
        for path in paths
    ]
