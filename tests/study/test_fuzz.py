"""Fuzz: whatever stands in a study file, there is a valid study or an error that says what is
wrong; never another exception, a warning, or something printed.

`make test` runs a short form with the same examples each time; `make fuzz` a long one.
"""

import contextlib
import copy
import io
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kdbench.records.spec import canonical
from kdbench.study.fields import NAME
from kdbench.study.load import StudyError, load_study, parse_study, shipped
from kdbench.study.schema import Study

#: Examples in the long form; 0 for the short one.
LONG = int(os.environ.get("KDBENCH_FUZZ", "0"))
EXAMPLES = LONG or 120


def fuzz(share: float) -> settings:
    """A share of the examples: drawn afresh in the long form, always the same in the short."""
    return settings(
        max_examples=max(1, round(share * EXAMPLES)),
        deadline=None,
        derandomize=not LONG,
        print_blob=bool(LONG),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Nothing warns and nothing is printed."""
    output = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        warnings.simplefilter("error")
        yield
    assert output.getvalue() == ""


# --- the study file ---------------------------------------------------------------------

TEXTS = {name: path.read_text() for name, path in shipped().items()}
SOUND = {name: yaml.safe_load(text) for name, text in TEXTS.items()}


def judge(act: Callable[[], Study]) -> Study | None:
    """The property: a sound study that can be written and read again, or faults in words."""
    study = None
    with silent():
        try:
            study = act()
        except StudyError as error:
            text, faults = str(error), error.faults
    if study is None:
        assert faults
        for fault in faults:
            assert fault.strip()
            assert fault.isprintable()
        assert text.count("\n") == len(faults)
        text.encode()
        return None
    for name in (study.name, *(entry.label for entry in study.methods)):
        assert NAME.fullmatch(name)
        assert Path(name).name == name
        assert name not in (".", "..")
    canonical(study.model_dump(mode="json")).encode()
    assert parse_study(as_file(study), "again") == study
    return study


class WithoutAliases(yaml.SafeDumper):
    """Writes a value again where it stands twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def as_file(study: Study) -> str:
    """The study as the text of a file: slots stand under their own names there."""
    raw = study.model_dump(mode="json")
    for entry in raw["methods"]:
        entry.update({slot: {"model": model} for slot, model in entry.pop("slots").items()})
    return yaml.dump(raw, Dumper=WithoutAliases)


# What YAML reads in a way of its own, and what it must not do at all.
ODD = st.sampled_from(
    [
        "~", "yes", "0o17", "017", "0x1F", "1:30:00", "1_000", "1e3", ".inf", "-.inf", ".nan",
        "2020-01-01", "2020-13-45", "2001-12-14t21:59:43.10-05:00", "=", "<<", "*x", "&x [*x]",
        "&x {a: *x}", "!!int x", '!!int ""', "!!float x", "!!bool x", "!!null x", "!!timestamp x",
        "!!binary é", "!!binary aGVsbG8=", "!!set {kd, ce}", "!!omap [a: 1]", "!!pairs [a: 1]",
        "!!str 1", "!!seq {}", "!!map []", "!!python/object:os.system x", "!!merge x", "!x y",
        "!!python/object/apply:os.system [touch /tmp/kdbench-fuzz]", "{a: 1, a: 2}", "{<<: {a: 1}}",
        "{1: 2, null: 3, 2020-01-01: 4, 1.5: 6, yes: 7}", "{? [a] : b}", "{? {a: 1} : b}",

        '"\\ud800"', '"\\0"', '"\\e[31mred"', '"a\\nb"', "\u202eabc", "ünïcödé", '"\\U0010ffff"',
        "x" * 2000,
        "|\n  a\n  b", "'", '"', "{", "- ",
        "1e400", "-1", "0", "1", "1.0", "NaN", "", "true", "0.1", "100.1", "2147483648",
        "1" + "0" * 30,
    ]
)  # fmt: skip
NAMES = st.sampled_from(
    [
        "../../x", "/etc/passwd", "a/b", ".", "..", "~", "~root", "", " ", "a ", "a\0b", "a\n",
        "a.", "a..", "-a", ".a", "A", "ä", "a\\b", "C:", "a:b",
        "x" * 300, "x" * 65, "\ud800", "a\u200b", "$HOME", "`id`", "*", "a%2fb", "<b>",
    ]
)  # fmt: skip
SAFE = st.sampled_from(["a", "a-b", "a.b", "0", "x" * 64])
WORDS = st.sampled_from(
    sorted(
        {
            *Study.model_fields,
            *(key for part in SOUND["cifar10"].values() if isinstance(part, dict) for key in part),
            *("ce", "kd", "takd", "ban", "digits-cnn", "label", "hparams", "method", "assistant"),
            *("temperature", "alpha", "slots", "shared", "low", "high", "sources", "knobs", "tap"),
        }
    )
)
NUMBERS = st.one_of(
    st.integers(-3, 5),
    st.integers(),
    st.floats(),
    st.sampled_from([2**31, 2**63, 2**64, 1e308, 5e-324, -0.0]),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    NUMBERS.map(str),
    st.text(max_size=12),
    st.text(st.characters(codec=None), max_size=4),
    st.sampled_from(["x" * 5000, "\x1b[2J", "a\x00", "\u2028", "%s {0}", "[red]x[/]"]),
    st.dates(),
    st.datetimes(),
    st.binary(max_size=4),
    NAMES,
    SAFE,
    WORDS,
)
KEYS = st.one_of(WORDS, st.text(max_size=5), st.integers(-1, 3), st.none(), st.booleans())
KEYS |= st.one_of(st.floats(), st.dates(), st.just("k" * 300))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4),
        st.fixed_dictionaries({"model": inner}),
        st.fixed_dictionaries({"method": inner, "label": inner, "hparams": inner}),
    ),
    max_leaves=10,
)


def places(tree: Any, above: tuple = ()) -> list[tuple]:
    """Every place in a tree of mappings and lists."""
    inner = tree.items() if isinstance(tree, dict) else ()
    found = [above] if above else []
    for key, value in enumerate(tree) if isinstance(tree, list) else inner:
        found += places(value, (*above, key))
    return found


def mutate(draw: st.DrawFn, raw: Any) -> None:
    """Drop, double, rename, nest, swap or retype what stands at one place."""
    found = places(raw)
    if not found:
        return
    *path, last = draw(st.sampled_from(found))
    at = raw
    for part in path:
        at = at[part]
    deed = draw(st.sampled_from(["drop", "double", "rename", "nest", "retype", "retype", "add"]))
    value = at[last]
    if deed == "drop":
        del at[last]
    elif deed == "double" and isinstance(at, list):
        at.insert(last, copy.deepcopy(value) if draw(st.booleans()) else value)
    elif deed == "rename" and isinstance(at, dict):
        at[draw(KEYS)] = at.pop(last)
    elif deed == "nest":
        at[last] = draw(st.sampled_from([[value], {last: value}, {"model": value}, [[value]]]))
    elif deed == "add":
        inner = value if isinstance(value, dict) else at
        if isinstance(inner, dict):
            inner[draw(KEYS)] = draw(TREES)
        else:
            inner.append(draw(TREES))
    else:
        at[last] = draw(TREES)


@given(st.data())
@fuzz(0.5)
def test_shipped_studies_with_other_values_at_any_place(data: Any) -> None:
    raw = copy.deepcopy(SOUND[data.draw(st.sampled_from(sorted(SOUND)))])
    for _ in range(data.draw(st.integers(1, 4))):
        mutate(data.draw, raw)
    text = yaml.safe_dump(raw, allow_unicode=True)
    judge(lambda: parse_study(text, "fuzz.yaml"))


@given(st.sampled_from(sorted(TEXTS)), st.data())
@fuzz(0.15)
def test_shipped_studies_with_other_bytes(tmp_path_factory: Any, name: str, data: Any) -> None:
    content = bytearray(TEXTS[name].encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        deed = data.draw(st.sampled_from(["cut", "flip", "insert", "crlf", "bom", "double"]))
        if deed == "cut":
            del content[at:]
        elif deed == "flip" and at < len(content):
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        elif deed == "crlf":
            content = bytearray(bytes(content).replace(b"\n", b"\r\n"))
        elif deed == "bom":
            content[:0] = data.draw(st.sampled_from([b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"]))
        elif deed == "double":
            content[at:at] = content[at : at + 200]
        else:
            odd = [
                b"\t",
                b"\0",
                b"\r",
                b"\x0c",
                b"\xc2\x85",
                b"\xff",
                b"\xed\xa0\x80",
                b"%",
                b"---",
            ]
            content[at:at] = data.draw(st.sampled_from([*odd, b"\n", b"&a ", b"*a ", b"!", b"? "]))
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content)
    judge(lambda: load_study(str(path)))


@given(st.sampled_from(sorted(TEXTS)), st.lists(ODD, min_size=1, max_size=3), st.data())
@fuzz(0.15)
def test_shipped_studies_with_odd_yaml(name: str, odd: list[str], data: Any) -> None:
    text = TEXTS[name]
    for piece in odd:
        values = [n for n, c in enumerate(text[:-1]) if c in ":," and text[n + 1] == " "]
        start = data.draw(st.sampled_from(values)) + 1
        ends = [text.find(c, start + 1) for c in ",}]\n"]
        end = min([n for n in ends if n > 0], default=len(text))
        text = f"{text[:start]} {piece}{text[end:]}"
    judge(lambda: parse_study(text, "fuzz.yaml"))


@given(
    st.one_of(
        st.binary(max_size=60).map(lambda b: b.decode("utf-8", "replace")),
        st.text(max_size=60),
        st.text(st.characters(codec=None), max_size=20),
        st.text("{}[]:,-&*!|>'\"# \n\tab1~%@`?<=.", max_size=60),
        st.lists(st.one_of(ODD, WORDS, st.sampled_from(":-,[]{}\n")), max_size=12)
        .map(" ".join)
        .map(lambda text: text[:120_000]),
        st.recursive(ODD, lambda inner: inner.map(lambda t: f"[{t}, {t}]"), max_leaves=3),
    )
)
@fuzz(0.1)
def test_any_text(text: str) -> None:
    judge(lambda: parse_study(text, "fuzz.yaml"))


@given(
    st.sampled_from(sorted(SOUND)),
    st.dictionaries(
        st.one_of(
            st.lists(WORDS, min_size=1, max_size=4).map(".".join),
            st.sampled_from(["name", "recipe.lr", "methods", "tune", "final.seeds", "tune.shared"]),
            st.sampled_from(["methods.0", "methods.0.label", ".", "", "..", "name.x", "a" * 3000]),
            st.text(max_size=8),
        ),
        TREES,
        min_size=1,
        max_size=3,
    ),
)
@fuzz(0.1)
def test_any_change_by_option(name: str, changes: dict[str, Any]) -> None:
    judge(lambda: load_study(name, changes))


# -- names


@pytest.mark.parametrize("spot", ["name", "label", "option"])
@given(name=NAMES)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_names_that_leave_their_folder_are_refused(spot: str, name: str) -> None:
    raw = copy.deepcopy(SOUND["mnist"])
    if spot == "name":
        raw["name"] = name
    elif spot == "label":
        raw["methods"].append({"method": "kd", "label": name})
    changes = {"name": name} if spot == "option" else {}
    text = yaml.safe_dump(raw)
    assert judge(lambda: parse_study(text, "x", changes)) is None


@given(name=SAFE)
@settings(max_examples=20, deadline=None, derandomize=True)
def test_safe_names_are_taken(name: str) -> None:
    assert judge(lambda: parse_study(TEXTS["mnist"], "x", {"name": name})) is not None


@given(st.one_of(NAMES, st.text(max_size=20), st.text(st.characters(codec=None), max_size=4)))
@example("a\0b.yaml")
@example("\ud800")
@fuzz(0.05)
def test_any_name_of_a_study(name: str) -> None:
    judge(lambda: load_study(name))
