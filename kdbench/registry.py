"""Named things that studies choose from: methods, models, data sets and engines.

A registry holds kdbench's own entries and those that other packages add through an
entry-point group of the registry's name (`kdbench.methods`, `kdbench.models`, ...).
"""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from kdbench.errors import KdbenchError, one_line

T = TypeVar("T")


#: BibTeX's entry types, and the field that holds the venue of each.
KINDS = {
    "article": "journal",
    "inproceedings": "booktitle",
    "misc": "howpublished",
    "phdthesis": "school",
    "techreport": "institution",
}
#: What a citation key may look like: it is written into LaTeX as it stands.
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._/+-]{0,63}")
#: An address of a source, which is written into BibTeX as it stands.
URL = r"^https?://[^\s{}\\]+$"
#: A number of arXiv, in the form that it has had since 2007.
ARXIV = r"[0-9]{2}(0[1-9]|1[0-2])\.[0-9]{4,5}"


class UnknownName(KdbenchError, KeyError, ValueError):
    """No entry has that name; the message says which is near."""


class BrokenPlugin(KdbenchError, ImportError, TypeError):
    """A plug-in cannot be imported, or its object is of the wrong kind."""


class NameClash(KdbenchError, ValueError):
    """Two installed packages, or one and kdbench itself, claim one name."""


def did_you_mean(word: object, names: Iterable[str]) -> str:
    """` (did you mean 'kd'?)`, or all names where none is near."""
    names = sorted(names)
    text = word[:100] if isinstance(word, str) else ""
    small = {name.lower(): name for name in names}
    near = difflib.get_close_matches(text.lower(), small, n=1, cutoff=0.5)
    return f" (did you mean '{small[near[0]]}'?)" if near else f"; known: {', '.join(names)}"


class Registry(MutableMapping[str, T]):
    """Entries of one kind by name; a plug-in is imported when it is first looked up.

    Not before: a plug-in imports kdbench, so loading it while kdbench is being imported
    would find it half imported, and a broken plug-in disturbs only those who ask for it.

    `kind` is what an entry is called in messages, `group` the entry-point group, `builtin`
    kdbench's own entries, and `check` says what is wrong with a plug-in's object, or None.
    `entries` replaces the installed entry points.

    Raises `NameClash` where two entries claim one name. Looking a name up raises `UnknownName`
    where nothing has it, and `BrokenPlugin` where a plug-in cannot be imported or `check`
    refuses it; both name the distribution.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        builtin: Mapping[str, T],
        check: Callable[[object], str | None] = lambda entry: None,
        entries: Iterable[EntryPoint] | None = None,
    ) -> None:
        self.kind, self.group, self.builtin = kind, group, dict(builtin)
        self._check = check
        self._loaded = dict(builtin)
        installed = entry_points(group=group) if entries is None else entries
        self._entries = _by_name(installed, builtin)

    def __getitem__(self, name: str) -> T:
        if name not in self._loaded:
            if name not in self._entries:
                raise UnknownName(f"unknown {self.kind} {name!r}{did_you_mean(name, self)}")
            self._loaded[name] = self._load(self._entries[name])
        return self._loaded[name]

    def __setitem__(self, name: str, entry: T) -> None:
        self._loaded[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._loaded, *self._entries)))

    def __len__(self) -> int:
        return len(self._loaded.keys() | self._entries.keys())

    def __contains__(self, name: object) -> bool:
        # Mapping would look the name up, and so import a plug-in to say that it is there.
        return name in self._loaded or name in self._entries

    def origin(self, name: str) -> str:
        """`kdbench` for an entry of its own, `distribution==version` for a plug-in's."""
        return _distribution(self._entries[name]) if name in self._entries else "kdbench"

    def usable(self) -> tuple[dict[str, T], dict[str, str]]:
        """The entries that can be used, and why the others cannot, both by name."""
        usable, broken = {}, {}
        for name in self:
            try:
                usable[name] = self[name]
            except BrokenPlugin as error:
                broken[name] = str(error)
        return usable, broken

    def _load(self, entry: EntryPoint) -> T:
        where = f"the {self.kind} {entry.name} of {_distribution(entry)} ({entry.value})"
        try:
            loaded = entry.load()
        except (Exception, SystemExit) as error:  # a script that ends when it is imported
            raise BrokenPlugin(f"{where} cannot be imported: {one_line(error)}") from error
        if wrong := self._check(loaded):
            raise BrokenPlugin(f"{where} {wrong}")
        return loaded


def _by_name(entries: Iterable[EntryPoint], builtin: Mapping[str, object]) -> dict[str, EntryPoint]:
    """Entries by name, in an order that does not depend on the installation's."""
    by_name: dict[str, EntryPoint] = {}
    for entry in sorted(entries, key=lambda e: (e.name, e.value, _distribution(e))):
        if entry.name in builtin or entry.name in by_name:
            first = _place(by_name[entry.name]) if entry.name in by_name else "kdbench itself"
            raise NameClash(
                f"the name {entry.name!r} is taken by {first} and by {_place(entry)}; "
                "rename one or uninstall its package"
            )
        by_name[entry.name] = entry
    return by_name


def _distribution(entry: EntryPoint) -> str:
    """The distribution an entry point comes from, as `name==version`."""
    return f"{entry.dist.name}=={entry.dist.version}" if entry.dist else "unknown==?"


def _place(entry: EntryPoint) -> str:
    return f"{_distribution(entry)} ({entry.value}, entry-point group {entry.group})"


@dataclass(frozen=True)
class Paper:
    """A source. `key` is its BibTeX key, `authors` as BibTeX wants them (`Last, First and
    Last, First`, an institution in braces); title and venue are plain text, not LaTeX.
    `kind` is one of `KINDS`. `arxiv` is the paper's number on arXiv, without a version, as in
    1910.10699; `url` is an address that lasts, for what is not there. Neither tells papers apart.

    Raises `ValueError` where no BibTeX entry could be made of it.
    """

    key: str
    authors: str
    title: str
    venue: str
    year: int
    kind: str = "inproceedings"
    url: str | None = field(default=None, compare=False)
    arxiv: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not KEY.fullmatch(self.key):
            raise ValueError(f"{self.key!r} is no BibTeX key")
        if self.kind not in KINDS:
            raise ValueError(f"{self.key}: unknown kind {self.kind!r}; known: {', '.join(KINDS)}")
        if not balanced(self.authors):
            raise ValueError(f"{self.key}: the braces of its authors do not pair up")
        if self.url is not None and not re.fullmatch(URL, self.url):
            raise ValueError(f"{self.key}: {self.url!r} is no address")
        if self.arxiv is not None and not re.fullmatch(ARXIV, self.arxiv):
            raise ValueError(f"{self.key}: {self.arxiv!r} is no arXiv number, as in 1910.10699")
        if self.url is not None and self.arxiv is not None:
            raise ValueError(f"{self.key}: has both `url` and `arxiv`; leave out `url`")

    @property
    def address(self) -> str | None:
        """Where the paper is found; None where it says neither `url` nor `arxiv`."""
        return arxiv_page(self.arxiv) if self.arxiv else self.url


def arxiv_page(number: str) -> str:
    """The address of a paper on arXiv."""
    return f"https://arxiv.org/abs/{number}"


def balanced(text: str) -> bool:
    """Whether every brace has its partner."""
    depth = 0
    for char in text:
        depth += {"{": 1, "}": -1}.get(char, 0)
        if depth < 0:
            return False
    return depth == 0
