"""What goes wrong when a student is exported or an export is used."""

from kdbench.errors import KdbenchError


class CannotExport(KdbenchError):
    """The student cannot be exported as asked; nothing was written."""


class NoExport(KdbenchError):
    """A folder holds no export, or one that cannot be read."""
