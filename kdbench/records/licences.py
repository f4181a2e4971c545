"""The terms under which images may be shown to others."""

import re
from dataclasses import dataclass

ADDRESS = re.compile(r"https://[^\s\"<>]+")


@dataclass(frozen=True)
class Licence:
    """A licence of a data set's images: its short name and the address of its text, the source to
    be named, and its address. Addresses may be empty.

    Raises `ValueError` where the name is empty or an address is none.
    """

    name: str
    url: str = ""
    source: str = ""
    source_url: str = ""

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError("a licence needs a name")
        for url in (self.url, self.source_url):
            if url and not ADDRESS.fullmatch(url):
                raise ValueError(f"the licence {self.name}: {url!r} is no address (https://...)")
