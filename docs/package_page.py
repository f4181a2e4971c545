"""What a wheel's page says that a checkout does not: absolute links, and where the repository is.

`KDBENCH_REPOSITORY=https://HOST/OWNER/NAME python -m build` makes the README's links absolute and
adds the project's addresses. Without the variable the links stay relative.
"""

import os
import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(
    r"(?P<image>!?)\[(?P<text>(?:!\[[^\]]*\]\([^)]*\)|[^\]])*)\]\((?P<target>[^)]+)\)"
)


def absolute_links(markdown: str, repository: str, tag: str) -> str:
    """The text with every relative link leading to the file of `tag` in `repository`, and every
    picture to its bytes, with the addresses that GitHub has for them."""

    def absolute(match: re.Match[str]) -> str:
        target = match["target"]
        if not re.match(r"[a-z]+:|#", target):
            kind = "raw" if match["image"] else "blob"
            target = f"{repository}/{kind}/{tag}/{target}"
        text = absolute_links(match["text"], repository, tag)
        return f"{match['image']}[{text}]({target})"

    return LINK.sub(absolute, markdown)


def project_urls(repository: str, tag: str) -> dict[str, str]:
    """The addresses that a package index shows beside the text."""
    return {
        "Repository": repository,
        "Documentation": f"{repository}/blob/{tag}/docs/start.md",
        "Changelog": f"{repository}/blob/{tag}/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }


class AbsoluteLinks(MetadataHookInterface):
    """Sets `readme` and `urls` of the package."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict) -> None:
        """Add both to the metadata. Raises `ValueError` where the variable is no web address."""
        repository = os.environ.get("KDBENCH_REPOSITORY", "").rstrip("/").removesuffix(".git")
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        if repository:
            if not re.fullmatch(r"https://[^/\s]+/[^/\s]+/[^/\s]+", repository):
                raise ValueError(f"KDBENCH_REPOSITORY={repository}: write https://HOST/OWNER/NAME")
            tag = f"v{metadata['version']}"
            text = absolute_links(text, repository, tag)
            metadata["urls"] = project_urls(repository, tag)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
