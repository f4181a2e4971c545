"""The code of a student's network as one Python file, which needs no kdbench.

Its function `build_student` gives the network with fresh weights.
"""

import ast
import inspect
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from kdbench.export.errors import CannotExport
from kdbench.models import MODELS, ImageShape
from kdbench.models.foreign import with_small_stem
from kdbench.models.names import ModelName, is_foreign, without_input
from kdbench.models.source_files import source_text

HEAD = '"""The network {name}, for images of {shape} and {classes} classes."""\n\n'


def model_source(name: str, shape: ImageShape, classes: int) -> str:
    """The file of the model `name`. Raises `CannotExport` where a plug-in has no entry of that
    name, or the network has an input layer of kdbench's."""
    base, given = without_input(name)
    if given:
        raise CannotExport(f"the network {base} scales its images with kdbench's code")
    if is_foreign(base):
        return _foreign(ModelName.parse(base), shape, classes)
    builder = getattr(MODELS[base], "builder", None)
    if builder is None:
        return _plugin(base, shape, classes)
    function, options = (
        (builder.func, builder.keywords) if isinstance(builder, partial) else (builder, {})
    )
    source = _without_kdbench(sys.modules[function.__module__])
    return source + _of_entry(function.__name__, shape, classes, options)


def _of_entry(entry: str, shape: ImageShape, classes: int, options: Mapping[str, Any]) -> str:
    # A default, so that the entry may have any name.
    return _build(f"network({tuple(shape)!r}, {classes}{_words(options)})", f"network={entry}")


def _build(call: str, default: str = "", before: str = "") -> str:
    return (
        f"\n\ndef build_student({default}):\n"
        '    """The network with fresh weights."""\n'
        f"{before}    return {call}\n"
    )


def _words(options: Mapping[str, Any]) -> str:
    return "".join(f", {key}={value!r}" for key, value in options.items())


def _without_kdbench(module: Any) -> str:
    """The source of a module of the zoo: functions that it imports from other modules of kdbench
    in place of the import, and without the papers."""
    tree = ast.parse(inspect.getsource(module))
    body: list[ast.stmt] = []
    left_out: set[str] = set()
    for node in tree.body:
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kdbench"):
            for alias in node.names:
                value = getattr(module, alias.name)
                if inspect.isfunction(value):
                    body += ast.parse(inspect.getsource(value)).body
                else:
                    left_out.add(alias.name)
        elif not (isinstance(node, ast.Assign) and names & left_out):
            body.append(node)
    return ast.unparse(ast.Module(body, [])) + "\n"


def _foreign(name: ModelName, shape: ImageShape, classes: int) -> str:
    options = dict(name.options)
    if name.checksum:
        source = source_text(name.source, name.checksum)
        return source + _of_entry(name.entry, shape, classes, options)
    text = "x".join(map(str, shape))
    head = HEAD.format(name=f"{name.source}:{name.entry}", shape=text, classes=classes)
    stem = options.pop("stem", None)
    words = _words(options)
    if name.source == "timm":
        call = f"create_model({name.entry!r}, num_classes={classes}, in_chans={shape[0]}{words})"
        return f"{head}from timm import create_model\n{_build(call)}"
    call = f"get_model({name.entry!r}, weights=None, num_classes={classes}{words})"
    imports = "from torchvision.models import get_model\n"
    if stem:
        helper = inspect.getsource(with_small_stem)
        imports = f"from torch import nn\n{imports}\n\n{helper}"
        call = f"{with_small_stem.__name__}({call})"
    return f"{head}{imports}{_build(call)}"


def _plugin(name: str, shape: ImageShape, classes: int) -> str:
    """A file that asks for the entry point of the package that the network comes from."""
    origin = MODELS.origin(name)
    if origin == "kdbench":
        raise CannotExport(f"the code of the network {name} is in no package and no file")
    head = HEAD.format(name=f"{name} of {origin}", shape="x".join(map(str, shape)), classes=classes)
    call = f"entry.load()({tuple(shape)!r}, {classes})"
    find = f"    (entry,) = entry_points(group={MODELS.group!r}, name={name!r})\n"
    return f"{head}from importlib.metadata import entry_points\n{_build(call, before=find)}"


def build_from(source: str, name: str) -> nn.Module:
    """The network that `build_student` of a file's `source` gives; `name` is what messages call
    the file."""
    scope: dict[str, Any] = {"__name__": "kdbench_export_model"}
    exec(compile(source, name, "exec"), scope)
    return scope["build_student"]()
