"""Rules that the code keeps: who may import whom, who may know a method's name, and what the
inner loop never does."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import kdbench
from kdbench.methods import BUILTIN

HOME = Path(kdbench.__file__).parent
MODULES = {
    ".".join(p.relative_to(HOME.parent).with_suffix("").parts).removesuffix(".__init__"): p
    for p in sorted(HOME.rglob("*.py"))
}

#: Packages by floor: each imports from floors below it and from itself.
LAYERS: list[set[str]] = [
    {"errors"},
    {"losses", "registry", "records", "stats"},
    {"models", "data", "tracking"},
    {"methods", "report"},
    {"training", "study"},
    {"execution"},
    {"cli"},
    {"__main__"},
]
#: Packages that a machine without torch can use, for the command line at least until a command
#: is given.
TORCHLESS = ("stats", "records", "tracking", "report", "registry", "errors")
#: Words that are no method where they stand, or that wait for a better place.
EXCUSED: dict[str, set[str]] = {
    # Losses are formulas, and some are called what the world calls them.
    "kdbench.losses": {"cosine", "feature_mse", "logit_mse"},
    "kdbench.losses.features": {"cosine", "feature_mse"},
    "kdbench.losses.logits": {"logit_mse"},
    # A schedule of the learning rate; a place in a file.
    "kdbench.training.optim": {"cosine"},
    "kdbench.study.schema": {"cosine"},
    "kdbench.study.load": {"at"},
    # The second column of differences; reports cannot ask the registry of methods, which needs torch.
    "kdbench.report.leaderboard": {"kd"},
}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def part(module: str) -> str:
    """`kdbench.report.board` is of the part `report`; the package itself is ''."""
    return module.split(".")[1] if "." in module else ""


def imported(module: str, nodes: Iterator[ast.AST] | None = None) -> set[str]:
    """All modules that a module names in import statements, inside functions too."""
    found = set()
    for node in nodes or ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            assert node.module
            found.add(node.module)
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & set(MODULES)
    return found


def at_work(module: str, functions: bool = True) -> set[str]:
    """What is imported when the module runs, so not for types alone; without what is imported
    inside of functions, what is imported as soon as the module is."""

    def outer(nodes: list[ast.stmt]) -> Iterator[ast.AST]:
        for node in nodes:
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                continue
            yield node
            if functions or not isinstance(node, ast.FunctionDef):
                for name in ("body", "orelse", "finalbody", "handlers"):
                    yield from outer(getattr(node, name, []))

    return imported(module, outer(tree(module).body))


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] == "kdbench"}


def layer(module: str) -> int:
    (found,) = (n for n, parts in enumerate(LAYERS) if part(module) in parts)
    return found


def test_every_module_has_a_layer() -> None:
    parts = {part(m) for m in MODULES} - {""}
    assert parts == set.union(*LAYERS)


@pytest.mark.parametrize("module", sorted(m for m in MODULES if part(m)))
def test_imports_point_one_way_only(module: str) -> None:
    for other in ours(imported(module)):
        if part(other):
            assert layer(other) <= layer(module), f"{module} imports {other}"


def test_no_two_parts_import_each_other() -> None:
    wanted = {
        name: {part(o) for m in MODULES if part(m) == name for o in ours(at_work(m))} - {"", name}
        for name in set.union(*LAYERS)
    }
    while wanted:
        free = {name for name, others in wanted.items() if not others & set(wanted)}
        assert free, f"a ring among {sorted(wanted)}"
        wanted = {name: others for name, others in wanted.items() if name not in free}


@pytest.mark.parametrize("name", TORCHLESS)
def test_reports_and_records_never_reach_torch(name: str) -> None:
    """Not even through another module."""
    seen: set[str] = set()
    todo = {m for m in MODULES if part(m) == name} | {"kdbench"}
    while todo:
        module = todo.pop()
        seen.add(module)
        names = at_work(module)
        heavy = {n for n in names if n.split(".")[0] in ("torch", "torchvision", "torchmetrics")}
        assert not heavy, f"{module} imports {heavy}"
        todo |= (ours(names) & set(MODULES)) - seen


def test_the_command_line_loads_nothing_heavy_by_itself() -> None:
    """What is imported together with `kdbench.cli`, until a command is given."""
    seen: set[str] = set()
    todo = {"kdbench.cli"}
    while todo:
        module = todo.pop()
        seen.add(module)
        names = at_work(module, functions=False)
        assert {n.split(".")[0] for n in names} <= {*sys.stdlib_module_names, "typer", "kdbench"}
        todo |= (ours(names) & set(MODULES)) - seen


def test_only_the_evaluation_opens_the_test_set() -> None:
    users = {m for m in MODULES if "kdbench.data.test_set" in imported(m)}
    assert users <= {"kdbench.training.evaluate", "kdbench.data"}
    openers = {
        m
        for m in MODULES
        for node in ast.walk(tree(m))
        if isinstance(node, ast.Name) and node.id == "open_test_set"
    }
    assert openers <= {"kdbench.training.evaluate"}


# -- no method's name


def words(module: str) -> Iterator[tuple[int, str]]:
    """Every whole string and identifier of a module, docstrings left out."""
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree(module)):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in docs:
                yield line, node.value
        elif isinstance(node, ast.Name):
            yield line, node.id
        elif isinstance(node, ast.Attribute):
            yield line, node.attr
        elif isinstance(node, ast.arg) or (isinstance(node, ast.keyword) and node.arg):
            yield line, node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield line, node.name


@pytest.mark.parametrize("module", sorted(m for m in MODULES if part(m) != "methods"))
def test_no_method_is_known_by_name(module: str) -> None:
    """The key, its file's name or its class, as a whole word of the code."""
    names = set(BUILTIN) | {key.replace("-", "_") for key in BUILTIN}
    names |= {kind.__name__ for kind in BUILTIN.values()}
    names -= EXCUSED.get(module, set())
    found = [
        f"{MODULES[module].name}:{line} {word}" for line, word in words(module) if word in names
    ]
    assert not found


# -- the inner loop

#: What brings a value back from the device, and so waits for it.
WAITS = {"item", "tolist", "cpu", "numpy", "synchronize"}


def functions(module: str) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef)}


def test_a_step_never_waits_for_the_device() -> None:
    known = functions("kdbench.training.batches") | functions("kdbench.training.run")
    path = ["step", "_frozen_output", "_measure", "images", "live"]
    assert set(path) <= set(known)
    for name in path:
        for node in ast.walk(known[name]):
            if isinstance(node, ast.Attribute):
                assert node.attr not in WAITS, f"{name} line {node.lineno}: .{node.attr}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("float", "int", "bool"), f"{name} line {node.lineno}"


@pytest.mark.parametrize("module", sorted(m for m in MODULES if part(m) in ("methods", "losses")))
def test_a_loss_never_waits_for_the_device(module: str) -> None:
    for name in ("loss", *(functions(module) if part(module) == "losses" else ())):
        node = functions(module).get(name)
        for inner in ast.walk(node) if node else ():
            if isinstance(inner, ast.Attribute):
                assert inner.attr not in WAITS, f"{module}.{name}: .{inner.attr}"


def test_every_excuse_is_still_needed() -> None:
    for module, excused in EXCUSED.items():
        assert excused <= {word for _, word in words(module)}, module
