"""The registry that methods, models, data sets and engines share."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

import kdbench
from kdbench import methods
from kdbench.data import DATASETS
from kdbench.errors import KdbenchError
from kdbench.execution.engines import ENGINES
from kdbench.methods import BUILTIN, METHODS, Method
from kdbench.models import MODELS
from kdbench.registry import BrokenPlugin, NameClash, Paper, Registry, UnknownName, did_you_mean


@pytest.mark.parametrize("registry", [METHODS, MODELS, DATASETS, ENGINES], ids=lambda r: r.kind)
def test_each_registry_answers_alike(registry):
    first = next(iter(registry))
    assert registry[first] is registry.builtin[first]
    assert registry.group.startswith("kdbench.")
    assert len(registry) == len(list(registry)) == len(set(registry))
    with pytest.raises(UnknownName, match=f"unknown {registry.kind} 'qqqq'; known: ") as caught:
        registry["qqqq"]
    assert isinstance(caught.value, KdbenchError)


def test_entries_can_be_set_and_deleted():
    table = Registry("thing", "nowhere", {"one": 1}, entries=[])
    table["two"] = 2
    assert dict(table) == {"one": 1, "two": 2}
    del table["two"]
    assert "two" not in table
    assert table.get("two") is None


def test_the_nearest_name_is_suggested():
    assert did_you_mean("kdd", ["kd", "rkd", "at"]) == " (did you mean 'kd'?)"
    assert did_you_mean(3, ["b", "a"]) == "; known: a, b"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": "with space"}, "is no BibTeX key"),
        ({"kind": "blog"}, "unknown kind 'blog'"),
        ({"authors": "{Open"}, "do not pair up"),
        ({"authors": "Close}{"}, "do not pair up"),
    ],
)
def test_a_paper_that_gives_no_bibtex_entry_is_refused(changes, message):
    sound = {"key": "a2020b", "authors": "A, B", "title": "T", "venue": "V", "year": 2020}
    with pytest.raises(ValueError, match=message):
        Paper(**{**sound, **changes})


@dataclass(frozen=True)
class Plugin(Method):
    """A method of another package."""

    paper = Paper(key="other2020", authors="Other, A.", title="T", venue="V", year=2020)


def entry(name, load=lambda: Plugin, dist=("other-kd", "2.1")):
    return SimpleNamespace(
        name=name,
        value="other_kd:Plugin",
        load=load,
        group="kdbench.methods",
        dist=SimpleNamespace(name=dist[0], version=dist[1]),
    )


def test_a_plugin_joins_the_table():
    table = Registry("method", "kdbench.methods", BUILTIN, methods._check, [entry("other")])
    assert "other" in table
    assert list(table) == [*METHODS, "other"]
    assert table["other"] is Plugin
    assert table.origin("other") == "other-kd==2.1"
    assert table.origin("ce") == "kdbench"
    with pytest.raises(KeyError):
        table["nobody"]


def test_a_plugin_is_imported_when_it_is_looked_up_and_once():
    loads = []
    table = Registry(
        "method",
        "kdbench.methods",
        BUILTIN,
        methods._check,
        [entry("other", lambda: loads.append(1) or Plugin)],
    )
    assert "other" in table
    assert table.keys() >= {"ce", "other"}
    assert not loads
    assert table["other"] is table["other"]
    assert loads == [1]


def test_a_clash_names_both():
    with pytest.raises(NameClash, match=r"'kd' is taken by kdbench itself and by other-kd==2\.1"):
        Registry("method", "kdbench.methods", BUILTIN, methods._check, [entry("kd")])
    with pytest.raises(NameClash, match=r"other-kd==2\.1.*third==1"):
        Registry(
            "method",
            "kdbench.methods",
            BUILTIN,
            methods._check,
            [entry("x", dist=("third", "1")), entry("x")],
        )


def test_a_plugin_that_does_not_import_names_its_distribution():
    def broken():
        raise ModuleNotFoundError("No module named 'gone'")

    table = Registry("method", "kdbench.methods", BUILTIN, methods._check, [entry("other", broken)])
    with pytest.raises(BrokenPlugin, match=r"other of other-kd==2\.1 .*No module named 'gone'"):
        table["other"]


def test_a_plugin_that_is_no_method_names_its_distribution():
    table = Registry(
        "method", "kdbench.methods", BUILTIN, methods._check, [entry("other", lambda: 3)]
    )
    with pytest.raises(BrokenPlugin, match=r"other-kd==2\.1 .*is no subclass"):
        table["other"]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (type("Bare", (Method,), {}), "has no attribute `paper`, a kdbench.methods.Paper"),
        (
            dataclass(frozen=True)(
                type("Wide", (Plugin,), {"__annotations__": {"width": int}, "width": 3})
            ),
            "cannot be used: Wide.width is not declared with hparam(): every field of a method is "
            "a hyperparameter; what is none is a ClassVar",
        ),
    ],
)
def test_a_method_without_what_every_method_has_is_broken(found, message):
    table = Registry(
        "method", "kdbench.methods", BUILTIN, methods._check, [entry("other", lambda: found)]
    )
    usable, broken = table.usable()
    assert usable == BUILTIN
    where = "the method other of other-kd==2.1 (other_kd:Plugin)"
    assert broken == {"other": f"{where} {message}"}


def test_a_broken_plugin_is_listed_with_its_reason_and_the_rest_work(monkeypatch):
    from support.command_line import output

    from kdbench.cli import catalogue, listing
    from kdbench.data.builtin import BUILTIN as DATA
    from kdbench.models.zoo import MODELS as ZOO

    def broken():
        raise SystemExit("not a module to import")

    entries = [entry("other", broken)]
    table = Registry("method", "kdbench.methods", BUILTIN, methods._check, entries)
    zoo = Registry("model", "kdbench.models", ZOO.builtin, entries=entries)
    data = Registry("data set", "kdbench.data", DATA, entries=entries)
    monkeypatch.setattr(catalogue, "METHODS", table)
    monkeypatch.setattr(listing, "MODELS", zoo)
    monkeypatch.setattr(listing, "DATASETS", data)
    reason = "cannot be imported: SystemExit: not a module to import"
    for command in (("list", "methods"), ("list", "models"), ("list", "data"), ("methods",)):
        lines = " ".join(output(*command).replace("│", " ").split())
        assert "broken: the" in lines, command
        assert "SystemExit" in lines, command
    listed = catalogue.methods_content()
    assert [item["key"] for item in listed] == [*BUILTIN, "other"]
    assert listed[-1] == {
        "key": "other",
        "from": "other-kd==2.1",
        "broken": f"the method other of other-kd==2.1 (other_kd:Plugin) {reason}",
    }


def test_an_installed_plugin_is_found_whichever_is_imported_first(tmp_path):
    """A package in a folder of its own, with the metadata an installer would write."""
    (tmp_path / "other_kd.py").write_text(
        "from dataclasses import dataclass\n"
        "from kdbench.methods.ce import CE\n"
        "@dataclass(frozen=True)\n"
        "class Other(CE):\n"
        "    'Another.'\n"
    )
    info = tmp_path / "other_kd-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-kd\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text("[kdbench.methods]\nother = other_kd:Other\n")
    root = Path(kdbench.__file__).parent.parent
    path = os.pathsep.join([str(tmp_path), str(root)])
    for first in ("import other_kd", "import kdbench.methods"):
        code = (
            f"{first}\nfrom kdbench.methods import METHODS\n"
            "print(METHODS['other'].__name__, METHODS.origin('other'))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.split() == ["Other", "other-kd==2.1"], done.stderr
