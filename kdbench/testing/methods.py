"""What every method owes in its declaration."""

import dataclasses
import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from kdbench.methods import METHODS
from kdbench.methods.base import Incompatible, Method
from kdbench.methods.networks import Average, Frozen, Shared, Snapshot, Trained
from kdbench.methods.types import MIXED, PREVIOUS, SAME_CLASS, STRONG
from kdbench.registry import Paper
from kdbench.testing import fakes
from kdbench.testing.report import Checks, require


@contextmanager
def registered(method: str | type[Method]) -> Iterator[str]:
    """The key of a method; a class is registered under its name in small letters while this
    lasts."""
    if isinstance(method, str):
        METHODS[method]
        yield method
        return
    key = method.__name__.lower()
    if key in METHODS:
        key += "-class"
    METHODS[key] = method
    try:
        yield key
    finally:
        del METHODS[key]


def check_dataclass(key: str) -> None:
    """A frozen dataclass whose fields are all hyperparameters."""
    kind = METHODS[key]
    require(issubclass(kind, Method), f"{kind.__name__} is no subclass of Method")
    own = kind.__dict__.get("__dataclass_params__")
    require(own and own.frozen, f"{kind.__name__} needs the decorator @dataclass(frozen=True)")
    for field in dataclasses.fields(kind):
        require("hparam" in field.metadata, f"the field {field.name} is not declared with hparam()")
    require(kind() == kind() and hash(kind()) == hash(kind()), "two equal methods differ")


def check_docstring(key: str) -> None:
    """One sentence about the student, the formula, its symbols, differences, hyperparameters."""
    kind = METHODS[key]
    text = inspect.cleandoc(kind.__dict__.get("__doc__") or "")
    sentence = re.match(r"The student[^.]*\.", text.replace("\n", " "))
    require(sentence, "the docstring does not begin with a sentence `The student ...`")
    for heading in ("Formula:", "Symbols:", "Differs from the paper:"):
        require(heading in text, f"the docstring has no part `{heading}`")
    listed = text.split("Differs from the paper:")[1].lstrip(" ")
    require(
        listed.startswith(("nothing known", "\n    - ")),
        "`Differs from the paper:` is followed by a list (`    - ...`) or by `nothing known`",
    )
    longest = max(map(len, text.splitlines()))
    require(
        longest <= 96, f"a line of the docstring has {longest} characters, at most 96 are shown"
    )
    for name, spec in kind.hparams().items():
        require(spec.help, f"hyperparameter {name} has no help")
        symbol = {"temperature": "T"}.get(name, name)
        require(re.search(rf"\b{symbol}\b", text), f"the docstring does not name {symbol}")


def check_hyperparameters(key: str) -> None:
    """Defaults lie in their search ranges, and those in the limits."""
    method = METHODS[key]()
    for name, spec in method.hparams().items():
        value, search = getattr(method, name), spec.search
        if search is None:
            number = not isinstance(value, str)
            require(not number or spec.low is not None, f"{name} has no lower limit (low=)")
            continue
        require(isinstance(value, float), f"{name} is searched but no float")
        require(search.low <= value <= search.high, f"the default of {name} is outside its range")
        require(spec.low is None or spec.low <= search.low, f"{name} is searched below its limit")
        require(
            spec.high is None or search.high <= spec.high, f"{name} is searched above its limit"
        )
        require(not search.log or search.low > 0, f"the log range of {name} begins at 0 or below")


def check_limits(key: str) -> None:
    """A value that has no meaning is refused by a `ValueError` that names the hyperparameter."""
    for name, spec in METHODS[key].hparams().items():
        values: list[float | None] = [None]
        values += [] if spec.low is None else [spec.low - 1]
        values += [] if spec.high is None else [spec.high + 1]
        for value in values:
            message = ""
            try:
                METHODS[key](**{name: value})
            except ValueError as error:
                message = str(error)
            require(message, f"{name} = {value} is accepted")
            require(message.startswith(f"{name} = "), f"the error does not name {name}: {message}")


def check_paper(key: str) -> None:
    """A whole citation, with a key of surname and year; a preprint's kind is `misc`."""
    paper = getattr(METHODS[key], "paper", None)
    require(isinstance(paper, Paper), "no class attribute `paper` of kdbench.methods.Paper")
    assert isinstance(paper, Paper)
    for name in ("key", "authors", "title", "venue"):
        require(getattr(paper, name), f"paper.{name} is empty")
    require(1950 < paper.year < 2100, f"paper.year is {paper.year}")
    require(str(paper.year) in paper.key, f"the key {paper.key} lacks the year {paper.year}")
    surname = paper.authors.split(",")[0].lower()
    require(paper.key.startswith(surname), f"the key {paper.key} does not begin with {surname!r}")
    require(
        paper.kind == "misc" or not paper.venue.lower().startswith("arxiv"),
        f"paper.venue is {paper.venue}, so paper.kind is 'misc', not {paper.kind!r}",
    )


def check_networks(key: str) -> None:
    """The student is trained, sources are there, and searched hyperparameters do not move them."""
    kind = METHODS[key]
    method = kind()
    networks = method.networks()
    require(networks.get("student") == Trained("student"), "networks() lacks the trained student")
    for role, source in networks.items():
        if isinstance(source, Snapshot | Average | Shared):
            followed = networks.get(source.of)
            require(
                isinstance(followed, Trained), f"{role} follows {source.of}, which is not trained"
            )
        if isinstance(source, Frozen):
            METHODS[source.run.method](**source.run.hparams)
    unknown = sorted(set(method.views) - set(networks))
    require(not unknown, f"views names roles that are not in networks(): {', '.join(unknown)}")
    for role, examples in method.examples.items():
        require(role in networks, f"examples names {role}, which is not in networks()")
        kinds = (SAME_CLASS, PREVIOUS, MIXED, STRONG)
        require(examples in kinds, f"examples gives {role} {examples!r}")
        allowed = examples in (MIXED, STRONG) or not isinstance(networks[role], Frozen)
        require(allowed, f"the frozen {role} sees the batch's own examples, MIXED or STRONG")
    low, high = (
        kind(**{name: getattr(r, end) for name, r in kind.searched().items()})
        for end in ("low", "high")
    )
    require(low.networks() == high.networks(), "networks() depends on a searched hyperparameter")
    require(low.layers() == high.layers(), "layers() depends on a searched hyperparameter")


def check_missing_stages(key: str) -> None:
    """A model without stages gets `Incompatible` from a method that reads them."""
    method = METHODS[key]()
    sizes = fakes.shapes(method, student={"embedding": (12,)})
    reason = ""
    try:
        method.helpers(sizes)
    except Incompatible as incompatible:
        reason = str(incompatible)
    if any("stage" in layer for layer in method.layers()):
        require(
            re.search(r"needs .*stage.*none", reason),
            "helpers() does not raise Incompatible where there are no stages: "
            "ask kdbench.methods.stages or shape for them",
        )
    else:
        require(not reason, f"helpers() refuses a model with an embedding: {reason}")


DECLARATION = (
    check_dataclass,
    check_docstring,
    check_hyperparameters,
    check_limits,
    check_paper,
    check_networks,
    check_missing_stages,
)


def declaration_checks(key: str) -> Checks:
    """The checks of a method's declaration, by name."""
    return {check.__name__.removeprefix("check_"): partial(check, key) for check in DECLARATION}
