"""`python -m kdbench`: the same as the `kdbench` command."""

from kdbench.cli import main

main()
