"""Fuzz: whatever stands in a study file or a data file, there is a sound result or an error
that says what is wrong; never another exception, a hang, or a file that should not be there.

`make test` runs a short form with the same examples each time; `make fuzz` a long one.
"""

import contextlib
import copy
import dataclasses
import hashlib
import io
import os
import pickle
import resource
import shutil
import signal
import struct
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from data.test_data import FILED, PER_FILE, fake_file, md5
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdbench.data import DataError, File
from kdbench.data.builtin import BUILTIN
from kdbench.data.datasets import DATASETS
from kdbench.data.load import load, verify_test_files
from kdbench.data.test_set import open_test_set
from kdbench.records.spec import canonical
from kdbench.study.fields import NAME
from kdbench.study.load import SHOWN, WIDEST, StudyError, load_study, parse_study, shipped
from kdbench.study.schema import Study

#: Examples of study files in the long form; data files take a tenth of it.
LONG = int(os.environ.get("KDBENCH_FUZZ", "0"))
STUDY_FILES, DATA_FILES = (LONG, max(LONG // 10, 60)) if LONG else (240, 60)
#: Processor time and memory beyond today's that one example may take.
SECONDS, MEMORY = 5.0, 1 << 30
#: Entries of a list that is as long as a file may have it; fewer where time is short.
MANY = 9000 if LONG else 3000


def fuzz(share: float, of: int = STUDY_FILES) -> settings:
    """A share of the examples: drawn afresh in the long form, always the same in the short."""
    return settings(
        max_examples=max(1, round(share * of)),
        deadline=None,
        derandomize=not LONG,
        print_blob=bool(LONG),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


class TooSlow(BaseException):
    """Not an `Exception`, so that nothing takes it for a fault of the file."""


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """No warning, no word printed, no more than `SECONDS`."""

    def ring(*_: object) -> None:
        raise TooSlow

    words = io.StringIO()
    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(words),
            contextlib.redirect_stderr(words),
        ):
            warnings.simplefilter("error")
            yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    assert words.getvalue() == ""


@pytest.fixture(autouse=True, scope="module")
def little_memory() -> Iterator[None]:
    """A bomb meets a MemoryError here, not the machine's end."""
    load("digits")  # whatever is imported late is imported now
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2 * MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


# --- the study file ---------------------------------------------------------------------

TEXTS = {name: path.read_text() for name, path in shipped().items()}
SOUND = {name: yaml.safe_load(text) for name, text in TEXTS.items()}


def judge(act: Callable[[], Study]) -> Study | None:
    """The property: a sound study that can be written and read again, or faults in words."""
    study = None
    with watched():
        try:
            study = act()
        except StudyError as error:
            told, found = str(error), error.faults
    if study is None:
        assert 0 < len(found) <= SHOWN + 1
        for fault in found:
            assert fault.strip()
            assert fault.isprintable()
            assert len(fault) < 10 * WIDEST  # one character may be written as ten
        assert told.count("\n") == len(found)
        told.encode()
        return None
    for name in (study.name, *(entry.label for entry in study.methods)):
        assert NAME.fullmatch(name)
        assert Path(name).name == name
        assert name not in (".", "..")
    canonical(study.model_dump(mode="json")).encode()
    assert parse_study(as_file(study), "again") == study
    return study


def as_file(study: Study) -> str:
    """The study as the text of a file: slots stand under their own names there."""
    raw = study.model_dump(mode="json")
    for entry in raw["methods"]:
        entry.update({slot: {"model": model} for slot, model in entry.pop("slots").items()})
    return yaml.safe_dump(raw)


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
        "0x" + "f" * 5000, "9" * 5000, "-" + "9" * 400, "1" * 300 + ".5", ":".join(["59"] * 4000),
        '"\\ud800"', '"\\0"', '"\\e[31mred"', '"a\\nb"', "\u202eabc", "ünïcödé", '"\\U0010ffff"',
        "x" * 20000, "[" * 60 + "]" * 60, "[" * 2000, "{a: " * 300 + "1" + "}" * 300,
        "[" + "1, " * 9000 + "]", "[" + "kd, " * 9000 + "]", "|\n  a\n  b", "'", '"', "{", "- ",
        "1e400", "-1", "0", "1", "1.0", "NaN", "", "true", "0.1", "100.1", "2147483648",
        "1" + "0" * 30, "1" + "0" * 400,
    ]
)  # fmt: skip
NAMES = st.sampled_from(
    [
        "../../x", "/etc/passwd", "a/b", ".", "..", "~", "~root", "", " ", "a ", "a\0b", "a\n",
        "con", "nul", "aux.txt", "com1", "a.", "a..", "-a", ".a", "A", "ä", "a\\b", "C:", "a:b",
        "x" * 300, "x" * 65, "\ud800", "a\u200b", "$HOME", "`id`", "*", "a%2fb", "<b>", "lpt9.x",
    ]
)  # fmt: skip
SAFE = st.sampled_from(["a", "a-b", "a.b", "0", "x" * 64, "console", "nuls", "com", "com10"])
WORDS = st.sampled_from(
    sorted(
        {
            *Study.model_fields,
            *(key for part in SOUND["cifar10"].values() if isinstance(part, dict) for key in part),
            *("ce", "kd", "takd", "ban", "digits-cnn", "label", "hparams", "method", "assistant"),
            *("temperature", "alpha", "slots", "shared", "low", "high", "sources", "stages"),
        }
    )
)
NUMBERS = st.one_of(
    st.integers(-3, 5),
    st.integers(),
    st.floats(),
    st.sampled_from([10**400, -(10**400), 2**31, 2**63, 2**64, 10**4200, 1e308, 5e-324, -0.0]),
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
KEYS |= st.one_of(st.floats(), st.dates(), st.just("k" * 3000), st.just(10**4200))
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


# -- bombs and names, one by one


def laughs(kind: str, depth: int = 12) -> str:
    """Aliases of aliases: nine times as much at each level."""
    start, one = {
        "list": ("[x]", "[{}]"),
        "map": ("{a: 1}", "{{x: [{}]}}"),
        "merge": ("{a: 1}", "{{<<: [{}]}}"),
        "pairs": ("!!pairs [a: 1]", "!!pairs [a: [{}]]"),
    }[kind]
    lines = [f"k0: &a0 {start}"]
    for n in range(1, depth):
        lines.append(f"k{n}: &a{n} " + one.format(", ".join([f"*a{n - 1}"] * 9)))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("kind", ["list", "map", "merge", "pairs"])
@pytest.mark.parametrize(
    "use", ["", "methods: [{method: *a11}]", "methods: *a11", "report: {published: *a11}"]
)
def test_a_billion_laughs(kind: str, use: str) -> None:
    text = laughs(kind) + use
    assert judge(lambda: parse_study(text, "bomb.yaml")) is None


@pytest.mark.parametrize(
    "text",
    [
        "[" * 90_000,
        "- " * 45_000,
        "{a: " * 20_000,
        "? " * 40_000,
        "a: " + "x" * 10**7,
        "a: [" + "1, " * 30_000 + "]",
        "".join(f"k{n}: 1\n" for n in range(9000)),
        "methods: [" + "kdx, " * MANY + "]",
        "methods: [" + ", ".join(f"kx{n}" for n in range(MANY)) + "]",
        "methods: [" + "kd, " * MANY + "]",
        "final: {seeds: [" + "1, " * 9000 + "]}",
        f"final: {{seeds: {list(range(9000))}}}",
        "".join(f"{n}: &a{n} x\n" for n in range(5000)),
        "a: '" + "\\n" * 40_000 + "'",
        "#" * 90_000,
        "\n" * 90_000,
        "a: " + ":".join(["59"] * 30_000),
    ],
    ids=range(17),
)
def test_large_files_are_refused_in_time(text: str) -> None:
    assert judge(lambda: parse_study(text, "large.yaml")) is None


@pytest.mark.parametrize("spot", ["name", "label", "option"])
@given(name=NAMES)
@settings(max_examples=100, deadline=None, derandomize=True)
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
@fuzz(0.05)
def test_any_name_of_a_study(name: str) -> None:
    judge(lambda: load_study(name))


def test_a_file_without_end() -> None:
    assert judge(lambda: load_study("/dev/zero")) is None


# --- data files -------------------------------------------------------------------------


@cache
def originals(name: str) -> dict[str, bytes]:
    """Small files in the real layout, by path."""
    rng, found = np.random.default_rng(0), {}
    with tempfile.TemporaryDirectory() as folder:
        for index, file in enumerate((*BUILTIN[name].train_files, *BUILTIN[name].test_files)):
            path = Path(folder, file.path)
            fake_file(path, rng, index)
            found[file.path] = path.read_bytes()
    return found


class Evil:
    """A pickle that would write a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


@st.composite
def batches(draw: st.DrawFn, marker: Path) -> bytes:
    """A pickle that is no CIFAR file, by a little or by much."""
    rows = np.zeros((PER_FILE, 3072), np.uint8)
    labels: list[Any] = [k % 10 for k in range(PER_FILE)]
    odd = st.sampled_from([-1, 100, 2**40, 2**70, 1.5, 1.0, "1", None, [1], True, float("nan")])
    deed = draw(st.integers(0, 12))
    if deed == 0:
        labels[draw(st.integers(0, PER_FILE - 1))] = draw(odd)
    elif deed == 1:
        labels = labels[: draw(st.integers(0, PER_FILE - 1))]
    elif deed == 2:
        rows = rows[: draw(st.integers(0, PER_FILE - 1))]
    elif deed == 3:
        rows = rows[:, : draw(st.integers(0, 3071))]
    elif deed == 4:
        rows = rows.astype(draw(st.sampled_from([np.float32, np.int64, np.bool_, object])))
    batch: Any = {"data": rows, "labels": labels, "fine_labels": labels}
    if deed == 5:
        batch["data"] = draw(st.sampled_from([None, [], "x", 5, {}, [[1, 2], [3]], b"abc"]))
    elif deed == 6:
        batch["labels"] = batch["fine_labels"] = draw(
            st.sampled_from([None, [], "x", 5, {}, [[1, 2], [3]], np.zeros((2, 3)), [[0]] * 20])
        )
    elif deed == 7:
        del batch[draw(st.sampled_from(sorted(batch)))]
    elif deed == 8:
        batch = draw(st.sampled_from([None, [], 5, "data", rows, {1: 2}]))
    elif deed == 9:
        batch[draw(st.sampled_from(["data", "labels", "more"]))] = Evil(marker)
    elif deed == 10:
        return asking_for_much(draw(st.sampled_from([10**10, 10**15, 2**62])))
    elif deed == 11:
        return b"\x80\x04\x8e" + struct.pack("<Q", draw(st.sampled_from([2**40, 2**62]))) + b"x."
    elif deed == 12:
        module, name = draw(
            st.sampled_from(
                [
                    ("os", "system"), ("builtins", "eval"), ("numpy", "load"), ("torch", "load"),
                    ("numpy.core.multiarray", "fromfile"), ("numpy.lib", "DataSource"),
                    ("no.such", "module"), ("numpy", "ndarray"), ("numpy", "dtype"),
                ]
            )
        )  # fmt: skip
        return f"c{module}\n{name}\n(S'{marker}'\ntR.".encode()
    return pickle.dumps(batch, draw(st.integers(0, pickle.HIGHEST_PROTOCOL)))


def asking_for_much(count: int) -> bytes:
    """A pickle that has NumPy make an array of `count` bytes."""
    empty = pickle.dumps(np.zeros(3, np.uint8), 2)
    return empty.replace(b"K\x00\x85", b"\x8a\x08" + struct.pack("<q", count) + b"\x85")


@st.composite
def damage(draw: st.DrawFn, content: bytes, path: str, marker: Path) -> bytes:
    """Other content for a file."""
    kinds = ["tenth", "cut", "flip", "empty", "longer", "noise", "header", "swap"]
    deed = draw(st.sampled_from([*kinds, *(["batch"] * 8 if "cifar" in path else [])]))
    size = len(content)
    if deed == "batch":
        return draw(batches(marker))
    if deed == "tenth":
        return content[: size * draw(st.integers(0, 9)) // 10]
    if deed == "cut":
        return content[: draw(st.integers(0, size - 1))]
    if deed == "empty":
        return b""
    if deed == "longer":
        return content + draw(st.binary(min_size=1, max_size=900))
    if deed == "noise":
        return draw(st.binary(max_size=3000))
    if deed == "swap":
        at = draw(st.integers(0, size - 1))
        return content[at:] + content[:at]
    changed = bytearray(content)
    if deed == "flip":
        for at in draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20)):
            changed[at] ^= draw(st.integers(1, 255))
        return bytes(changed)
    # The first numbers: magic, count, height, width; or a pickle's first opcodes.
    at = 4 * draw(st.integers(0, 3))
    number = st.sampled_from([0, 1, 2049, 2051, 2**31, 2**32 - 1, PER_FILE - 1, 14, 56, 784, 27])
    changed[at : at + 4] = struct.pack(">I", draw(number))
    return bytes(changed)


@pytest.mark.parametrize("name", FILED)
@given(st.data())
@fuzz(0.25, DATA_FILES)
def test_a_damaged_data_file(tmp_path_factory: Any, name: str, data: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / f"damaged-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    marker = tmp_path_factory.getbasetemp() / "executed"
    contents = dict(originals(name))
    hit = data.draw(st.sampled_from(sorted(contents)))
    contents[hit] = data.draw(damage(contents[hit], hit, marker))
    gone = data.draw(st.sampled_from(["", "", "", "", "", "", "missing", "folder", "loop"]))
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    if gone:
        (folder / hit).unlink()
    if gone == "folder":
        (folder / hit).mkdir()
    elif gone == "loop":
        (folder / hit).symlink_to(folder / hit)
    # Known: the MD5 and size of the sound file are. Else the reader is on its own, as with a
    # file whose MD5 nobody published.
    known = data.draw(st.booleans())
    changes = {
        part: tuple(described(file, originals(name)[file.path], known) for file in files)
        for part in ("train_files", "test_files")
        for files in [getattr(BUILTIN[name], part)]
    }
    source = dataclasses.replace(BUILTIN[name], download=None, **changes)
    before = sorted(folder.rglob("*"))
    with mock.patch.dict(DATASETS, {name: source}):
        train = outcome(lambda: load(name, folder), folder / hit)
        test = outcome(lambda: open_test_set(name, folder), folder / hit)
        verified = outcome(lambda: verify_test_files(name, folder), folder / hit)
    assert not marker.exists()
    assert sorted(folder.rglob("*")) == before
    same = contents[hit] == originals(name)[hit] and not gone
    in_train = any(file.path == hit for file in BUILTIN[name].train_files)
    if gone:
        assert isinstance(train, DataError)
        assert isinstance(test, DataError)
        assert in_train or isinstance(verified, DataError)
        return
    bad, good = (train, test) if in_train else (test, train)
    right(name, good)
    if same:
        right(name, bad)
        assert verified is None
    elif known:
        assert isinstance(bad, DataError)
        assert isinstance(verified, DataError) != in_train
    elif not isinstance(bad, DataError):
        right(name, bad)  # other pixels or labels, but pixels and labels
    elif "ubyte" in hit:
        assert "MemoryError" not in str(bad)


def described(file: File, content: bytes, known: bool) -> File:
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return File(file.path, digest, len(content)) if known else File(file.path)


def outcome(act: Callable[[], Any], hit: Path) -> Any:
    """What came back, or the DataError: a line that names the file and says what to do."""
    with watched():
        try:
            return act()
        except DataError as error:
            told = str(error)
            found = error
    assert str(hit) in told or ("looked in" in told and hit.name in told)
    assert "\n" not in told
    assert any(word in told for word in ("Replace", "replace", "Provide", "Check"))
    return found


def right(name: str, found: Any) -> None:
    """Arrays that can be trained on."""
    assert not isinstance(found, DataError), found
    assert found.images.dtype == torch.uint8
    assert found.images.shape[1:] == ((3, 32, 32) if "cifar" in name else (1, 28, 28))
    assert found.labels.dtype == torch.int64
    assert len(found.labels) == len(found.images) > 0
    assert 0 <= int(found.labels.min()) <= int(found.labels.max()) < len(found.class_names)


def test_the_small_files_are_sound(tmp_path: Path) -> None:
    for name in FILED:
        for path, content in originals(name).items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content)
            assert md5(tmp_path / path) == described(File(path), content, True).md5
        loose = {
            part: tuple(File(file.path) for file in getattr(BUILTIN[name], part))
            for part in ("train_files", "test_files")
        }
        with mock.patch.dict(DATASETS, {name: dataclasses.replace(BUILTIN[name], **loose)}):
            right(name, load(name, tmp_path))
            right(name, open_test_set(name, tmp_path))
