"""Paths and commands as they are printed: ready to be pasted into the shell."""

import os
import shlex
import shutil
import sys
from pathlib import Path


def shown_path(path: Path) -> str:
    """`path` relative to the current folder where it lies below it, else absolute."""
    path, here = path.absolute(), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def command(program: str, *words: str, root: Path | None = None) -> str:
    """A command line that works in the current folder; `--root` is added unless it is the default.

    A program that the shell would not find, or of which it would find another one, is named by
    the path of the one beside this Python.
    """
    beside, on_path = Path(sys.executable).with_name(program), shutil.which(program)
    same = on_path is not None and beside.exists() and os.path.samefile(on_path, beside)
    name = shown_path(beside) if beside.exists() and not same else program
    options = ["--root", shown_path(root)] if root and root.resolve() != Path.cwd() else []
    return shlex.join([name, *words, *options])


def repeated_command() -> str:
    """The command line that was given, to continue with."""
    return command("kdbench", *sys.argv[1:])
