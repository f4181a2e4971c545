"""Rules that the code keeps: who may import whom, who may know a method's name, and what the
inner loop never does."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import kdbench
from kdbench.methods import BUILTIN

HOME = Path(kdbench.__file__).parent
MODULES = {
    ".".join(p.relative_to(HOME.parent).with_suffix("").parts).removesuffix(".__init__"): p
    for p in sorted(HOME.rglob("*.py"))
}

#: Packages by floor: each imports from floors below its own and from itself.
FLOORS: list[set[str]] = [
    {"errors", "masking"},
    {"losses", "registry", "records", "stats"},
    {"models", "data", "tracking"},
    {"methods", "report"},
    {"training", "study"},
    {"execution", "hours"},
    {"export"},
    {"profile"},
    {"cli", "testing"},
    {"__main__"},
]
#: Packages that work on a machine without torch.
TORCHLESS = {"errors", "masking", "registry", "records", "stats", "tracking", "report"}
LONGEST_FILE = 300
#: Words that are no method where they stand.
EXCUSED: dict[str, set[str]] = {
    # Losses are formulas, and some are called what the world calls them.
    "kdbench.losses": {"cosine", "feature_mse", "logit_mse"},
    "kdbench.losses.features": {"cosine", "feature_mse"},
    "kdbench.losses.logits": {"logit_mse"},
    # A schedule of the learning rate; a place in a file.
    "kdbench.training.optim": {"cosine"},
    "kdbench.study.schema": {"cosine", "label_smoothing"},
    "kdbench.testing.world": {"cosine", "one"},
    # A field of a recipe, under torch's name.
    "kdbench.losses.self_targets": {"label_smoothing"},
    "kdbench.records.spec": {"label_smoothing"},
    "kdbench.report.writers.methods_section": {"label_smoothing"},
    "kdbench.study.probe": {"label_smoothing"},
    "kdbench.testing.losses": {"label_smoothing"},
    "kdbench.training.batches": {"label_smoothing"},
    "kdbench.training.run": {"label_smoothing"},
    # A mark in a figure.
    "kdbench.report.figures.tuning": {"dot"},
    # The length of a vector; the normal distribution.
    "kdbench.losses.affinities": {"norm"},
    "kdbench.losses.class_relations": {"norm"},
    "kdbench.stats.power": {"norm"},
    # The number, as in "one and the other".
    "kdbench.report.compare": {"one"},
    "kdbench.report.figures.axes": {"one"},
    "kdbench.report.pooled_table": {"one"},
    "kdbench.stats.pooled": {"one"},
    "kdbench.stats.pooled_verdicts": {"one"},
    "kdbench.testing.training": {"one"},
    # The distribution of an entry point; the standard library's distance, and NumPy's.
    "kdbench.registry": {"dist"},
    "kdbench.report.figures.labels": {"dist", "norm"},
    "kdbench.study.load": {"at"},
    # The second column of differences; reports cannot ask the registry, which needs torch.
    "kdbench.report.leaderboard": {"kd"},
}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def package(module: str) -> str:
    """`kdbench.report.rows` is of the package `report`; kdbench itself of ''."""
    return module.split(".")[1] if "." in module else ""


def imported(module: str, at_import: bool = False) -> set[str]:
    """The modules that a module names in its import statements: all of them, those for types
    and inside of functions too, or those that are loaded `at_import` of the module."""
    found = set()
    for node in statements(tree(module).body) if at_import else ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            assert node.module
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & set(MODULES)
            if names - set(MODULES):
                found.add(node.module)
    return found


def statements(nodes: list[ast.stmt]) -> Iterator[ast.AST]:
    """The statements that run when a module is imported."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        ):
            continue
        yield node
        for name in ("body", "orelse", "finalbody", "handlers"):
            yield from statements(getattr(node, name, []))


def of_kdbench(names: set[str]) -> set[str]:
    return names & set(MODULES)


def reached(modules: set[str], at_import: bool) -> dict[str, set[str]]:
    """Every module that is loaded with these ones, parent packages included, and what each
    imports from other projects."""
    outside: dict[str, set[str]] = {}
    todo = set(modules)
    while todo:
        module = todo.pop()
        names = imported(module, at_import or module == "kdbench")
        outside[module] = {name.split(".")[0] for name in names} - {"kdbench"}
        parents = {name.rpartition(".")[0] for name in of_kdbench(names) | {module}} - {""}
        todo |= (of_kdbench(names) | parents) - outside.keys()
    return outside


def floor(module: str) -> int:
    (number,) = (n for n, packages in enumerate(FLOORS) if package(module) in packages)
    return number


def test_every_package_has_a_floor() -> None:
    assert {package(m) for m in MODULES} - {""} == set.union(*FLOORS)


def test_imports_point_one_way_only() -> None:
    wrong = [
        f"{module} imports {other}"
        for module in MODULES
        for other in of_kdbench(imported(module))
        if package(module) and package(other) and package(other) != package(module)
        if floor(other) >= floor(module)
    ]
    assert not wrong


def test_no_circle_of_imports() -> None:
    """Neither between packages nor between the modules of one."""
    graph = {m: of_kdbench(imported(m)) for m in MODULES if m != "kdbench"}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_file_is_long() -> None:
    lines = {m: len(p.read_text(encoding="utf-8").splitlines()) for m, p in MODULES.items()}
    assert not {module: count for module, count in lines.items() if count > LONGEST_FILE}


@pytest.mark.parametrize("name", sorted(TORCHLESS))
def test_a_machine_without_torch_can_use(name: str) -> None:
    loaded = reached({m for m in MODULES if package(m) == name}, at_import=False)
    torch = {"torch", "torchvision", "torchmetrics"}
    assert not {module: names & torch for module, names in loaded.items() if names & torch}


@pytest.mark.parametrize("module", ["kdbench", "kdbench.cli", "kdbench.registry", "kdbench.errors"])
def test_starts_quickly(module: str) -> None:
    """The package and the command line, until a command is given, load nothing but typer."""
    light = {*sys.stdlib_module_names, "typer"}
    loaded = reached({module}, at_import=True)
    assert not {name: others - light for name, others in loaded.items() if others - light}


def test_torchvision_is_loaded_where_it_is_used() -> None:
    """It loads torch's compiler, which takes as long as torch itself."""
    loaded = reached(set(MODULES), at_import=True)
    assert not [module for module, names in loaded.items() if "torchvision" in names]


def test_only_the_evaluation_opens_the_test_set() -> None:
    users = {m for m in MODULES if "kdbench.data.test_set" in imported(m)}
    openers = {
        m
        for m in MODULES
        for node in ast.walk(tree(m))
        if isinstance(node, ast.Name) and node.id == "open_test_set"
    }
    assert users | openers == {"kdbench.training.evaluate"}


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


def test_no_method_is_known_by_name() -> None:
    """The key, its file's name or its class, as a whole word of the code."""
    names = set(BUILTIN) | {key.replace("-", "_") for key in BUILTIN}
    names |= {kind.__name__ for kind in BUILTIN.values()}
    found = [
        f"{module}:{line} {word}"
        for module in MODULES
        if package(module) != "methods"
        for line, word in words(module)
        if word in names - EXCUSED.get(module, set())
    ]
    assert not found


def test_every_excuse_is_still_needed() -> None:
    for module, excused in EXCUSED.items():
        assert excused <= {word for _, word in words(module)}, module


# -- the inner loop

#: What brings a value back from the device, and so waits for it.
WAITS = {"item", "tolist", "cpu", "numpy", "synchronize"}


def functions(module: str) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef)}


def test_a_step_never_waits_for_the_device() -> None:
    known = functions("kdbench.training.batches") | functions("kdbench.training.run")
    path = ["step", "compute", "_forward", "_ask", "_add_to_sums", "images", "live"]
    assert set(path) <= set(known)
    for name in path:
        for node in ast.walk(known[name]):
            if isinstance(node, ast.Attribute):
                assert node.attr not in WAITS, f"{name} line {node.lineno}: .{node.attr}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("float", "int", "bool"), f"{name} line {node.lineno}"


def test_a_loss_never_waits_for_the_device() -> None:
    for module in (m for m in MODULES if package(m) in ("methods", "losses")):
        for name in ("loss", *(functions(module) if package(module) == "losses" else ())):
            node = functions(module).get(name)
            for inner in ast.walk(node) if node else ():
                if isinstance(inner, ast.Attribute):
                    assert inner.attr not in WAITS, f"{module}.{name}: .{inner.attr}"
